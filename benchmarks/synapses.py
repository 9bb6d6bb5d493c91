"""Sparse synapses against torch's dense ones: the map of density, shape, batch and dtype, and the
training step of a network beside its ReLU twin and the ANN that needs no time.
"""

import copy
import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import clock_name, timings
from spikeloom import data
from spikeloom.compiler.constant import repeated_step
from spikeloom.data.for_recipe import load_data
from spikeloom.methods.catalog import load_recipe, methods
from spikeloom.neurons import Neuron
from spikeloom.nn import Classifier
from spikeloom.run.device import keep_freed_memory
from spikeloom.synapses import functional, interception, sparse, winograd
from spikeloom.synapses.switch import recording

Row = dict[str, Any]

DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4)
DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.bfloat16, torch.float64)}


class Layer(NamedTuple):
    """A 3x3 convolution of `rows` images of `side`, or (side 0) a linear layer on `rows` rows."""

    rows: int
    inputs: int
    outputs: int
    side: int

    def __str__(self) -> str:
        image = f"x{self.side}x{self.side}" if self.side else ""
        return f"{self.rows}x{self.inputs}{image} -> {self.outputs}"


LAYERS = (
    Layer(128, 128, 128, 14),
    Layer(64, 64, 64, 32),
    Layer(32, 256, 256, 16),
    Layer(64, 512, 512, 4),
    Layer(8, 128, 128, 14),
    Layer(1, 128, 128, 14),
    Layer(128, 6272, 2048, 0),
    Layer(3200, 256, 256, 0),
    Layer(128, 2048, 100, 0),
    Layer(8, 2048, 2048, 0),
)


def measure_map(
    threads: int,
    rounds: int,
    dtypes: Sequence[str],
    layers: Sequence[int],
    densities: Sequence[float] = DENSITIES,
) -> Iterator[Row]:
    """A row per layer (all, or those of `LAYERS` with these numbers), dtype and density.
    `chosen_*`: what the switch takes there."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    for number in layers or range(len(LAYERS)):
        for dtype in dtypes:
            yield from _layer_rows(LAYERS[number], DTYPES[dtype], threads, rounds, densities)


def _layer_rows(
    layer: Layer, dtype: torch.dtype, threads: int, rounds: int, densities: Sequence[float]
) -> Iterator[Row]:
    torch.manual_seed(0)
    shape, weight = (layer.rows, layer.inputs), torch.randn(layer.outputs, layer.inputs)
    ours: Callable[..., Tensor] = functional.linear
    dense: Callable[..., Tensor] = F.linear
    if layer.side:
        shape = (*shape, layer.side, layer.side)
        weight = torch.randn(layer.outputs, layer.inputs, 3, 3)
        weight = weight.to(memory_format=torch.channels_last)
        ours, dense = partial(functional.conv2d, padding=1), partial(F.conv2d, padding=1)
    weight = weight.to(dtype).requires_grad_()
    for density in densities:
        x = (torch.rand(shape) < density).to(dtype)
        x = x.to(memory_format=torch.channels_last) if layer.side else x
        with sparse("on"):
            error = _disagreement(ours(x, weight).detach(), dense(x, weight).detach())
        with torch.no_grad(), sparse("auto"), recording() as decisions:
            ours(x, weight)
        with recording() as with_gradient:
            ours(x, weight)
        if error > {torch.float32: 1e-5, torch.float64: 1e-13}.get(dtype, 2e-2):
            raise ArithmeticError(f"{layer}, {dtype}: sparse and dense differ by {error:.1e}")
        g = torch.randn_like(dense(x, weight)).detach()
        forward, both = [], []
        for function, mode in ((dense, "off"), (ours, "on")):
            forward.append(partial(_forward, function, mode, x, weight))
            both.append(partial(_weight, function, mode, x, weight, g))
        needed = x.clone().requires_grad_()
        found = timings(
            [*forward, *both, partial(_weight, dense, "off", needed, weight, g, needed)],
            rounds,
            clock_name(),
        )
        best = [timing.best * 1000 for timing in found]
        yield {
            "layer": "conv 3x3" if layer.side else "linear",
            "shape": str(layer),
            "dtype": str(dtype).removeprefix("torch."),
            "threads": threads,
            "density": density,
            "dense_forward_ms": round(best[0], 3),
            "sparse_forward_ms": round(best[1], 3),
            "dense_weight_ms": round(best[2] - best[0], 3),
            "sparse_weight_ms": round(best[3] - best[1], 3),
            "dense_input_ms": round(best[4] - best[0], 3),
            "forward_gain": round(best[0] / best[1], 2),
            "with_gradients_gain": round(
                (best[2] + best[4] - best[0]) / (best[3] + best[4] - best[0]), 2
            ),
            "chosen_forward": decisions[0].forward,
            "chosen_training": f"{with_gradient[0].forward}, {with_gradient[0].gradient}",
            "error": f"{error:.1e}",
        }


def _disagreement(got: Tensor, exact: Tensor) -> float:
    return float((got - exact).abs().max() / exact.abs().max().clamp(min=1e-30))


def _forward(function: Callable[..., Tensor], mode: Any, x: Tensor, weight: Tensor) -> None:
    with torch.no_grad(), sparse(mode):
        function(x, weight)


def _weight(
    function: Callable[..., Tensor],
    mode: Any,
    x: Tensor,
    weight: Tensor,
    g: Tensor,
    of: Tensor | None = None,
) -> None:
    with sparse(mode):
        torch.autograd.grad(function(x, weight), weight if of is None else of, g)


class _ReLU(nn.Module):
    """ReLU in the place of a neuron, on `[T, B, ...]`; like a neuron's, its answer is no constant
    current, so that the layers behind it do T times the work."""

    time_first = True

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 1 or x.stride(0) != 0:
            return torch.relu(x)
        step = torch.relu(repeated_step(x))
        if step.dim() == 4 and step.is_contiguous(memory_format=torch.channels_last):
            return step.movedim(1, -1).expand(len(x), -1, -1, -1, -1).contiguous().movedim(-1, 2)
        return step.expand(x.shape).contiguous()


def _without_neurons(network: Classifier) -> Classifier:
    twin = copy.deepcopy(network)
    for module in list(twin.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Neuron):
                setattr(module, name, _ReLU())
    return twin


def _without_time(network: Classifier) -> Classifier:
    ann = _without_neurons(network)
    for module in ann.modules():
        if hasattr(module, "time_steps"):
            module.time_steps = 1  # type: ignore[assignment]
    return ann


def trained_network(
    recipe_name: str, batch: int, trained: int, kept: Path | None
) -> tuple[Classifier, Iterator[data.Batch], data.DataSet]:
    """A recipe's network after `trained` steps of Adam, the batches that follow, and the data.
    `kept`: where the weights are kept, and taken from if they are there."""
    recipe = load_recipe(recipe_name, [])
    loaded = load_data(recipe)
    torch.manual_seed(0)
    network = methods()[recipe.method].build(recipe.network, loaded.spec)
    loader = data.Loader(loaded.train, batch, shuffle=True)
    batches = (each for epoch in itertools.count() for each in loader.epoch(epoch))
    if kept is not None and kept.exists():
        network.load_state_dict(torch.load(kept, weights_only=True))
        return network, batches, loaded
    step = _stepper(network, "auto")
    for _ in range(trained):
        following = next(batches)
        step(prepared(following.inputs), following.targets)
    if kept is not None:
        torch.save(network.state_dict(), kept)
    return network, batches, loaded


def measure_steps(
    recipe_name: str,
    threads: int,
    rounds: int,
    batch: int,
    trained: int,
    kept: Path | None = None,
) -> Iterator[Row]:
    """Rows of spiking (sparse, dense), ReLU on `[T * B]`, and the real ANN: ReLU, one pass.

    Real data; rates are those after `trained` steps. `kept`: where the trained weights are kept for
    the next measurement, and taken from if they are there.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    network, batches, _ = trained_network(recipe_name, batch, trained, kept)
    step = _stepper(network, "auto")
    first = next(batches)
    inputs, labels = prepared(first.inputs), first.targets
    pooling = (F.max_pool2d,)
    contenders = {
        "spiking, sparse": step,
        "spiking, sparse but for linear layers": _stepper(
            copy.deepcopy(network), "auto", (*pooling, F.conv2d)
        ),
        "spiking, sparse, input gradients by torch": _torchs_gradients(copy.deepcopy(network)),
        "spiking, pooling alone": _stepper(copy.deepcopy(network), "auto", pooling),
        "spiking, dense": _stepper(copy.deepcopy(network), "off"),
        "ReLU on [T * B]": _stepper(_without_neurons(network), "off"),
    }
    if any(hasattr(module, "time_steps") for module in network.modules()):
        contenders["ANN"] = _stepper(_without_time(network), "off")
    given = {name: (inputs, labels) for name in contenders}
    if inputs.dim() == 5 and "ANN" in given:
        given["ANN"] = (inputs[:1], labels)
    with sparse("auto"), recording() as decisions:
        network(inputs)
    runs = [partial(contender, *given[name]) for name, contender in contenders.items()]
    found = timings(runs, rounds, clock_name())
    best = {name: timing.best for name, timing in zip(contenders, found, strict=True)}
    for name, seconds in best.items():
        yield {
            "recipe": recipe_name,
            "batch": batch,
            "threads": threads,
            "after_steps": trained,
            "contender": name,
            "step_ms": round(seconds * 1000, 1),
            "times_relu": round(seconds / best["ReLU on [T * B]"], 3),
            "times_ann": round(seconds / best["ANN"], 3) if "ANN" in best else "",
            "densities": " ".join(f"{d.density:.3f}" for d in decisions if d.density is not None),
        }


def prepared(inputs: Tensor) -> Tensor:
    """Images as numbers of mean 0 and spread 1; frames of counts as they are."""
    if inputs.dim() == 4:
        inputs = inputs.float()
        return (inputs - inputs.mean()) / inputs.std()
    return inputs.float()


def _stepper(
    network: Classifier, mode: Any, functions: tuple[Any, ...] | None = None
) -> Callable[[Tensor, Tensor], None]:
    """`functions`: those of `torch.nn.functional` that are not torch's own; None: all."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    ours = interception._OURS
    ours = dict(ours) if functions is None else {each: ours[each] for each in functions}

    def step(inputs: Tensor, labels: Tensor) -> None:
        with sparse(mode), patch.dict(interception._OURS, ours, clear=True):
            loss = network.loss(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            network.after_step()

    return step


def _torchs_gradients(network: Classifier) -> Callable[[Tensor, Tensor], None]:
    step = _stepper(network, "auto")

    def without(inputs: Tensor, labels: Tensor) -> None:
        with patch.object(winograd, "takes", lambda *_: False):
            step(inputs, labels)

    return without


def draw(results: Path, images: Path) -> None:
    """The figures of the pages, from the CSV files."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "synapses"
    from matplotlib import pyplot as plt

    def rows(name: str) -> list[dict[str, str]]:
        with (results / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    figure, axes = plt.subplots(figsize=(7, 4))
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows("synapses-cpu.csv"):
        if row["dtype"] == "float32" and row["threads"] == "1":
            densities, gains = lines.setdefault(f"{row['layer']} {row['shape']}", ([], []))
            densities.append(100 * float(row["density"]))
            gains.append(float(row["with_gradients_gain"]))
    for name, (densities, gains) in lines.items():
        axes.plot(densities, gains, marker="o", label=name)
    axes.axhline(1, color="gray", linewidth=1)
    axes.set(xscale="log", xlabel="active inputs, %", ylabel="dense / sparse, all three products")
    axes.legend(fontsize=7)
    figure.savefig(images / "synapses.svg", bbox_inches="tight", metadata={"Date": None})

    panels = [
        (f"{recipe}: training step", "contender", "times_relu", "ReLU on [T * B]", 1.25, here)
        for recipe, here in _grouped(rows("synapses-steps-cpu.csv"), "recipe").items()
        if recipe == "plif/mnist"
    ]
    answers = [row for row in rows("inference-cpu.csv") if row["what"] == "plif/mnist"]
    panels += [
        (f"plif/mnist: answers, batch {batch}", "contender", "of_ann", "ANN, one pass", 5.5, here)
        for batch, here in _grouped(answers, "batch").items()
    ]
    figure, axes = plt.subplots(len(panels), 1, figsize=(7, 1.7 * len(panels)), squeeze=False)
    for (title, name, value, unit, limit, here), panel in zip(panels, axes[:, 0], strict=True):
        here = [row for row in here if row.get("threads", "1") == "1"][::-1]
        bars = panel.barh([row[name] for row in here], [float(row[value]) for row in here])
        panel.bar_label(bars, [f"{float(row[value]):.2f}" for row in here], padding=2, fontsize=8)
        panel.set(title=title, xlabel=f"{unit} = 1", xlim=(0, limit))
    figure.tight_layout()
    figure.savefig(images / "synapses-step.svg", bbox_inches="tight", metadata={"Date": None})


def _grouped(rows: list[dict[str, str]], column: str) -> dict[str, list[dict[str, str]]]:
    return {
        key: [row for row in rows if row[column] == key] for key in {r[column]: 0 for r in rows}
    }


if __name__ == "__main__":  # python -m benchmarks.synapses: draws
    here = Path(__file__).parent
    draw(here / "results", here.parent / "docs" / "images")
