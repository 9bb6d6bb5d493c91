"""Tests for neurons of one's own: what every neuron of the library is held to.

from spikeloom.testing import check_neuron
def test_mine(): check_neuron(Mine)
"""

import copy
import inspect
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikeloom.neurons import Neuron, State

__all__ = ["check_neuron"]

SHAPE = (6, 3, 4, 2, 5)
"""`[T, B, C, H, W]` of the currents."""

Make = Callable[[], Neuron]


def check_neuron(neuron: Callable[..., Neuron], *, compiled: bool = True, **options: Any) -> None:
    """Hold a neuron to the contract of `spikeloom.Neuron`; `AssertionError` names what it breaks.

    `neuron`: a class, or a function that makes one; it is called with `options`, and where it must
    have `channels`, `time_steps` or time constants (`tau...`) also with 4, 6, and 5.0. Built for
    inputs `[6, B, 4, ...]`; a time step elementwise in the current. `compiled=False`: its step is
    known not to compile, and only the eager neuron is checked.

    Checked are, on the CPU: the compiled step against the eager one in float64 (spikes, states,
    gradients of current, state and every parameter) and float32, that it is what runs;
    half precision; memory layouts and constant currents; samples by themselves; a sequence in
    pieces, with gradients; records; attributes that change between calls; pickle, deepcopy, state
    dict; `torch.export`.
    """
    make = _maker(neuron, options)
    torch.manual_seed(0)
    x = _current(make())
    for check in (
        _compiles_and_equals_eager if compiled else _runs,
        _half_precision,
        _layouts,
        _samples_by_themselves,
        _pieces,
        _records,
        _attributes,
        _copies,
        _export,
    ):
        check(_same(make), x)


def _maker(neuron: Callable[..., Neuron], options: dict[str, Any]) -> Make:
    sizes: dict[str, Any] = {"channels": SHAPE[2], "time_steps": SHAPE[0]}
    for name, parameter in inspect.signature(neuron).parameters.items():
        given = name in options or parameter.default is not parameter.empty
        if given or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name not in sizes and not name.startswith("tau"):
            raise TypeError(
                f"check_neuron cannot choose {name!r}: give it as check_neuron(..., {name}=...), "
                "or a function that makes the neuron"
            )
        options = {**options, name: sizes.get(name, 5.0)}
    return lambda: neuron(**options)


def _same(make: Make) -> Make:
    """Copies of one neuron, so that random starts do not differ."""
    first = make()
    return lambda: copy.deepcopy(first)


def _current(neuron: Neuron) -> Tensor:
    """A float64 current that makes some neurons fire and leaves others silent."""
    noise = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    neuron.double().backend = "eager"
    if not neuron.fires:
        return noise
    with torch.no_grad():
        for scale in (1.5, 5.0, 20.0, 0.3):
            rate = (neuron(noise * scale) != 0).double().mean().item()
            if 0.02 < rate < 0.9:
                return noise * scale
    raise AssertionError(
        f"{type(neuron).__name__} fires always or never for normal currents of any size: its "
        "threshold, or its surrogate, is out of reach"
    )


def _run(neuron: Neuron, x: Tensor, pieces: int = 0) -> dict[str, Tensor]:
    """Spikes, final states and every gradient, by name."""
    x = x.detach().requires_grad_()
    start = tuple(
        s.requires_grad_() if s.is_floating_point() else s for s in neuron.initial_state(x)
    )
    state: State = start
    parts: list[Tensor] = []
    for piece in x.split(pieces or len(x)):
        spikes, state = neuron(piece, state)
        parts.append(spikes)
    spikes = torch.cat(parts)
    ends = [s for s in state if s.is_floating_point()]
    up = torch.Generator().manual_seed(1)
    weights = [torch.randn(v.shape, generator=up, dtype=torch.float64) for v in (spikes, *ends)]
    loss = sum((v.double() * w).sum() for v, w in zip((spikes, *ends), weights, strict=True))
    leaves = {"current": x} | {f"state {i}": s for i, s in enumerate(start) if s.requires_grad}
    leaves |= {name: p for name, p in neuron.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)  # type: ignore[arg-type]
    results = {"spikes": spikes} | {f"end {i}": value for i, value in enumerate(ends)}
    for name, grad in zip(leaves, grads, strict=True):
        results[f"gradient of {name}"] = torch.zeros(()) if grad is None else grad
    return {name: value.detach() for name, value in results.items()}


def _agree(
    label: str, actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float
) -> None:
    assert actual.keys() == expected.keys(), f"{label}: {set(actual) ^ set(expected)}"
    for name, value in actual.items():
        want = expected[name]
        size = want.double().abs().max().item() if want.numel() else 0.0
        error = (value.double() - want.double()).abs().max().item() if want.numel() else 0.0
        assert error <= tolerance * max(size, 1e-3), (
            f"{label}: {name} differs by {error:.3g} of {size:.3g}"
        )


def _eager(make: Make) -> Neuron:
    neuron = make()
    neuron.backend = "eager"
    return neuron


def _compiles_and_equals_eager(make: Make, x: Tensor) -> None:
    neuron = make()
    name = type(neuron).__name__
    choice = neuron.choice(x.device, torch.float32)
    assert choice.backend == "cpu", (
        f"{name} runs on the {choice.backend} backend: {choice.reason}; if that is meant, check it "
        "with compiled=False"
    )
    exact = _run(_eager(make).double(), x)
    _agree("compiled against eager, float64", _run(neuron.double(), x), exact, 1e-9)
    single, eager = _run(make(), x.float()), _run(_eager(make), x.float())
    # Rounding may carry a potential over the threshold: the whole neuron then goes another way.
    apart = (single["spikes"] != eager["spikes"]).double().mean().item()
    assert apart <= 0.002, f"compiled against eager, float32: {apart:.2%} of the spikes differ"
    if not apart:
        _agree("compiled against eager, float32", single, eager, 1e-4)


def _runs(make: Make, x: Tensor) -> None:
    _run(make().double(), x)


def _half_precision(make: Make, x: Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        neuron, current = make(), x.to(dtype)
        with torch.no_grad():
            spikes, state = neuron(current, None)
            eager, _ = _eager(make)(current, None)
        assert spikes.dtype == dtype, f"{dtype} current: spikes are {spikes.dtype}"
        wide = all(s.dtype == torch.float32 for s in state if s.is_floating_point())
        assert wide, f"{dtype} current: states are {[s.dtype for s in state]}, expected float32"
        _agree(f"{dtype} against eager", {"spikes": spikes}, {"spikes": eager}, 0.01)


def _layouts(make: Make, x: Tensor) -> None:
    x = x.float()
    channels_last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    gaps = torch.zeros(*x.shape[:-1], 2 * x.shape[-1])
    gaps[..., ::2] = x
    for name, view in (("channels last", channels_last), ("with gaps", gaps[..., ::2])):
        _agree(f"layout {name}", _run(make(), view), _run(make(), x), 1e-4)
    constant, copies = x[:1].expand(x.shape), x[:1].repeat(len(x), *[1] * (x.dim() - 1))
    actual, expected = _run(make(), constant), _run(make(), copies)
    # The gradient of a constant current may be the sum over time in one place.
    for results in (actual, expected):
        results["gradient of current"] = results["gradient of current"].sum(0)
    _agree("constant current", actual, expected, 1e-4)


def _samples_by_themselves(make: Make, x: Tensor) -> None:
    with torch.no_grad():
        whole = make()(x.float())
        alone = torch.cat([make()(x.float()[:, i : i + 1]) for i in range(x.shape[1])], 1)
    _agree("samples by themselves", {"spikes": alone}, {"spikes": whole}, 0)


def _pieces(make: Make, x: Tensor) -> None:
    neuron = make().double()
    _agree("in pieces of 1", _run(neuron, x, 1), _run(neuron, x), 1e-9)
    _agree("in pieces of 4 and the rest", _run(neuron, x, 4), _run(neuron, x), 1e-9)
    spikes, (rest, _) = neuron(x), neuron(x, None)
    _agree("from None", {"spikes": rest}, {"spikes": spikes}, 0)


def _records(make: Make, x: Tensor) -> None:
    neuron = make().double()
    names = (*neuron.states, *neuron.observed)
    run = neuron.run(x, record=names)
    for name in names:
        shape = tuple(run.records[name].shape)
        assert shape == SHAPE, f"record of {name}: shape {shape}, expected {SHAPE}"
    for name, end in zip(neuron.states, run.state, strict=False):
        _agree("records", {name: run.records[name][-1]}, {name: end}, 0)


def _attributes(make: Make, x: Tensor) -> None:
    """Numbers that change after the first call are constants of a new kernel."""
    neuron = make().double()
    with torch.no_grad():
        neuron(x)
        for name, value in list(vars(neuron).items()):
            if type(value) is float:
                setattr(neuron, name, value * 0.9)
        eager = copy.deepcopy(neuron)
        eager.backend = "eager"
        _agree("after attributes changed", {"spikes": neuron(x)}, {"spikes": eager(x)}, 1e-9)


def _copies(make: Make, x: Tensor) -> None:
    neuron = make().double()
    again = make().double()
    for parameter in again.parameters():
        parameter.data.add_(0.1)
    again.load_state_dict(neuron.state_dict())
    with torch.no_grad():
        spikes = {"spikes": neuron(x)}
        _agree("deepcopy", {"spikes": copy.deepcopy(neuron)(x)}, spikes, 0)
        _agree("state dict", {"spikes": again(x)}, spikes, 0)
        if "<locals>" not in type(neuron).__qualname__:  # pickle finds classes by their name
            _agree("pickle", {"spikes": pickle.loads(pickle.dumps(neuron))(x)}, spikes, 0)


def _export(make: Make, x: Tensor) -> None:
    neuron = make().eval().requires_grad_(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about non-leaf tensors
        program = torch.export.export(neuron, (x.float(),))
        spikes = program.module()(x.float())
        _agree("torch.export", {"spikes": spikes}, {"spikes": neuron(x.float())}, 0.0)
