"""`spikeloom.export`: a network, or a trained run, as a file for another runtime."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from spikeloom import files
from spikeloom.errors import ExportError
from spikeloom.exchange import card
from spikeloom.exchange.c import CNetwork, c_source
from spikeloom.exchange.nir import DT, graph_of
from spikeloom.exchange.nir_reading import from_nir, nir_graph
from spikeloom.exchange.onnx import Form, onnx_model, run_model
from spikeloom.exchange.packages import needed
from spikeloom.exchange.stepwise import StepForm, Whole, quiet
from spikeloom.prediction import Network, load

Target = Literal["onnx", "torch", "c", "nir", "safetensors"]
SUFFIXES: dict[str, str] = {
    "onnx": ".onnx", "torch": ".pt2", "c": ".c", "nir": ".nir", "safetensors": ".safetensors"
}  # fmt: skip
FORMS: dict[str, tuple[Form, ...]] = {
    "onnx": ("unrolled", "loop", "step"),
    "torch": ("unrolled", "step"),
    "c": ("step",),
    "nir": ("step",),
    "safetensors": (),
}
"""What each target can be given; the first is the default."""


@dataclass(frozen=True)
class ExportResult:
    """`files` that were written, the model card among them; `checked` says how the first was
    compared with the network, in words, or why it was not."""

    files: tuple[Path, ...]
    checked: str


def export(
    source: nn.Module | Network | Path | str,
    to: Target,
    out: Path | str | None = None,
    *,
    example: Tensor | None = None,
    form: Form | None = None,
    overwrite: bool = False,
    dt: float = DT,
    allow_lossy: bool = False,
) -> ExportResult:
    """A network as a file for another runtime, with a model card beside it.

        sl.export("runs/plif-digits/1", "onnx")                     # plif-digits.onnx
        sl.export(net, "c", "net.c", example=torch.zeros(8, 1, 64))   # net.c, net.h

    Args:
        source: A run folder, its weights.safetensors, what `sl.load` returns, or a module.
        to: "onnx"; "torch", a program of `torch.export` (.pt2) that runs without spikeloom; "c",
            plain C of a time step; "nir", a graph of the Neuromorphic Intermediate Representation;
            "safetensors", the weights with recipe and inputs, which `sl.load` takes.
        out: The file; by default the recipe's name in the current folder.
        example: For a module, an input that it takes, `[T, B, ...]`; its values do not matter.
        form: "unrolled", all time steps one after the other; "loop" (onnx); "step", one time step
            with the states as inputs and outputs.
        overwrite: Files that are there already are refused without it.
        dt: Of NIR, see `to_nir`.
        allow_lossy: Of NIR, see `to_nir`.

    Raises:
        ExportError: the network has no such form; a file is there already; the file answers
            otherwise than the network.
        RunError, CheckpointError: there is no such run, or it is damaged.
    """
    if to not in SUFFIXES:
        raise ExportError(f"to={to!r}: expected one of {', '.join(SUFFIXES)}")
    if form is not None and form not in FORMS[to]:
        known = ", ".join(FORMS[to]) or "no form at all"
        raise ExportError(f"form={form!r}: to {to} a network goes as {known}")
    place = Path(source) if isinstance(source, Path | str) else None
    network = source if isinstance(source, Network) else None
    if place is not None:
        network = load(place, device="cpu", backend="eager")
    net = network.classifier if network else source
    assert isinstance(net, nn.Module)
    if network is None and example is None:
        raise ExportError("a module needs example=, an input [T, B, ...] that it takes")
    x = example if example is not None else _example(network)  # type: ignore[arg-type]
    title = card.short_name(network) if network else type(net).__name__.lower()
    path = Path(out) if out is not None else Path(f"{title}{SUFFIXES[to]}")
    outputs = [path, *([path.with_suffix(".h")] if to == "c" else []), card.beside(path)]
    for file in outputs:
        if file.exists() and not overwrite:
            raise ExportError(f"{file} exists already: give another --out, or --overwrite")
    if not path.parent.is_dir():
        raise ExportError(f"{path.parent} is no folder: make it, or give another --out")
    chosen = form or next(iter(FORMS[to]), None)
    net = net.eval()
    if to == "safetensors":
        content, checked, about = _weights(place)
    elif to == "nir":
        content, checked, about = _nir(net, x, dt, allow_lossy)
    elif to == "c":
        content, checked, about = _c(net, x, path)
    else:
        assert chosen is not None
        content, checked, about = {"onnx": _onnx, "torch": _torch}[to](net, x, chosen)
    for file, part in content.items():
        files.write(path.with_suffix(file) if file != SUFFIXES[to] else path, part)
    words = card.text(path, to, chosen, net, network, place, about, checked)
    files.write(card.beside(path), words)
    return ExportResult(tuple(outputs), checked)


Written = tuple[dict[str, bytes | str], str, str]
"""Contents of files by their suffixes, how they were checked, and what the card says of them."""


def _onnx(net: nn.Module, x: Tensor, form: Form) -> Written:
    model = onnx_model(net, x, form)
    inputs = ", ".join(f"`{value.name}`" for value in model.graph.input)
    outputs = ", ".join(f"`{value.name}`" for value in model.graph.output)

    def answer(x: Tensor, states: list[Tensor]) -> list[Tensor]:
        return run_model(model, [x, *states])

    checked = _checked("onnxruntime", net, x, form, answer)
    return {".onnx": model.SerializeToString()}, checked, f"Inputs: {inputs}. Outputs: {outputs}."


def _torch(net: nn.Module, x: Tensor, form: Form) -> Written:
    if form == "step":
        stepped = StepForm(net, x)
        program = stepped.step_program()
        states = ", ".join(f"`{name}`" for name in stepped.states)
        about = f"`module(x, *states)` answers the course and the states {states}."
    else:
        whole = Whole(net)
        program = whole.program(x)
        about = f"`torch.export.load(file).module()(x)` answers {', '.join(whole.names)}."
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content)
        module = torch.export.load(io.BytesIO(content.getvalue())).module()

    def answer(x: Tensor, states: list[Tensor]) -> list[Tensor]:
        return list(module(x, *states))

    return {".pt2": content.getvalue()}, _checked("torch", net, x, form, answer), about


def _c(net: nn.Module, x: Tensor, path: Path) -> Written:
    code = c_source(net, x, path.stem)
    about = (
        f"`{code.name}_step` takes {code.inputs} floats and gives {code.outputs}; state and "
        f"scratch are {code.ram:,} bytes, weights {code.flash:,}. Compile with `-ffp-contract=off`."
    )
    texts: dict[str, bytes | str] = {".c": code.source, ".h": code.header}
    try:
        compiled = CNetwork(code)
    except ExportError as error:
        if "no C compiler" not in str(error):
            raise
        return texts, f"not checked: {error}", about
    case = _Case(net, x)
    case.answer = case.answer.flatten(2)
    actual = compiled(case.frames())[0][:, :, : case.answer.shape[2]]
    return texts, case.agreement("C", actual), about


def _nir(net: nn.Module, x: Tensor, dt: float, allow_lossy: bool) -> Written:
    graph, lost = graph_of(net, x, dt, allow_lossy)
    file = io.BytesIO()
    needed("nir").write(file, graph)
    content: dict[str, bytes | str] = {".nir": file.getvalue()}
    about = f"A step is {dt:g} s. {' '.join(f'Lost: {text}.' for text in lost)}".strip()
    back = from_nir(nir_graph(file.getvalue()), dt=dt)
    if lost:
        return content, f"not checked: {'; '.join(lost)}", about
    case = _Case(net, x)
    with torch.no_grad():
        return content, case.agreement("NIR, read back", back(case.frames())), about


def _weights(place: Path | None) -> Written:
    if place is None:
        raise ExportError("safetensors holds a trained run: give a run folder, or its weights")
    file = place if place.is_file() else place / "weights.safetensors"
    about = "`sl.load(file)` predicts with it: recipe and inputs are in its metadata."
    return {".safetensors": file.read_bytes()}, "a copy, byte for byte", about


def _example(network: Network) -> Tensor:
    """Input of one sample, for its shape."""
    spec = network.spec
    if spec.kind != "events":
        return torch.zeros(1, *spec.shape)
    return torch.zeros(int(network.recipe.network.T), 1, *spec.shape)  # type: ignore[attr-defined]


_SAMPLES = 4


class _Case:
    """Samples in the shape of an input on which a file is compared with the network: small counts,
    as frames of events have. `answer`: the network's course, or its scores where it has no steps.
    """

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        whole = Whole(net)
        axis = whole.batch_axis(x)
        shape = (*x.shape[:axis], _SAMPLES, *x.shape[axis + 1 :])
        counts = torch.poisson(torch.full(shape, 0.5), torch.Generator().manual_seed(1))
        self.input, self.over_time = counts.to(x.dtype), axis == 1
        with torch.no_grad():
            answers = whole(self.input)
        self.place = len(answers) - max(len(whole.course_names), 1)
        """Of `answer` among all that the network answers."""
        self.answer = answers[self.place]
        self._batch = 1 if whole.course_names else 0

    def frames(self) -> Tensor:
        """The input of each step, `[T, B, ...]`."""
        if self.over_time:
            return self.input
        return self.input.expand(len(self.answer), *self.input.shape)

    def agreement(self, runtime: str, actual: Tensor) -> str:
        """Of what a file answered, in words; `ExportError` where most samples differ."""
        expected = self.answer
        if expected.shape != actual.shape:
            raise ExportError(
                f"{runtime} answers {list(actual.shape)}, the network {list(expected.shape)}: this "
                "is a fault of the exporter"
            )
        others = [i for i in range(expected.dim()) if i != self._batch]
        difference = (expected - actual).abs().amax(others)
        tolerance = 1e-4 * max(1.0, expected.abs().max().item())
        equal, near = int((difference == 0).sum()), int((difference <= tolerance).sum())
        if near < len(difference) / 2:
            raise ExportError(
                f"{runtime} answers otherwise than the network on {len(difference) - near} of "
                f"{len(difference)} made samples (by {difference.max():.2g}): nothing was written"
            )
        return (
            f"{runtime}: {equal} of {len(difference)} made samples equal to the last bit, largest "
            f"difference {difference.max():.2g}"
        )


def _checked(
    runtime: str,
    net: nn.Module,
    x: Tensor,
    form: Form,
    answer: Callable[[Tensor, list[Tensor]], list[Tensor]],
) -> str:
    """How the file answers samples of made input, against the network."""
    case = _Case(net, x)
    with torch.no_grad():
        if form != "step":
            return case.agreement(runtime, answer(case.input, [])[case.place])
        stepped = StepForm(net, x)
        states, course = stepped.at_rest(_SAMPLES), []
        for frame in case.frames():
            outputs = answer(frame, states)
            course.append(outputs[0])
            states = outputs[len(stepped.names) :]
    return case.agreement(runtime, torch.stack(course))
