"""IF, LIF and PLIF against the published equations, written out for one neuron in plain Python."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from spikeloom.neurons import IF, LIF, PLIF, Neuron

RESETS = (0.0, -0.5, None)
TAU = 2.6
# compiled equals eager bit for bit (tests/compiler): a few here, to close the circle
COMPILED = {("if", 0.0, True), ("lif", -0.5, True), ("lif", None, False), ("plif", 0.0, True)}
CASES = [
    pytest.param(
        kind, v_reset, decay_input, backend, id=f"{kind} {v_reset} {decay_input} {backend}"
    )
    for kind, v_reset, decay_input in itertools.product(
        ("if", "lif", "plif"), RESETS, (True, False)
    )
    for backend in ("eager", "cpu")
    if (kind != "if" or decay_input)
    and (backend == "eager" or (kind, v_reset, decay_input) in COMPILED)
]


def build(
    kind: str, v_reset: float | None, decay_input: bool, backend: str, detach_reset: bool = True
) -> Neuron:
    common = {"v_reset": v_reset, "v_threshold": 0.9, "detach_reset": detach_reset}
    if kind == "if":
        return IF(**common, backend=backend)
    make = LIF if kind == "lif" else PLIF
    return make(TAU, decay_input=decay_input, **common, backend=backend).double()


def one_neuron(
    kind: str, currents: list[float], v_reset: float | None, decay_input: bool
) -> tuple[list[float], list[float], list[float]]:
    """Spikes, potentials before reset, and potentials after it, of one neuron."""
    rest = 0.0 if v_reset is None else v_reset
    k = 1 / TAU
    v, spikes, before, after = rest, [], [], []
    for x in currents:
        if kind == "if":
            h = v + x
        elif decay_input:
            h = v + k * (x - (v - rest))
        else:
            h = v - k * (v - rest) + x
        s = 1.0 if h >= 0.9 else 0.0
        v = h - s * 0.9 if v_reset is None else (1 - s) * h + s * v_reset
        spikes.append(s)
        before.append(h)
        after.append(v)
    return spikes, before, after


def current() -> Tensor:
    random = torch.Generator().manual_seed(3)
    return torch.randn(12, 2, 3, generator=random, dtype=torch.float64) * 1.5 + 1.0


@pytest.mark.parametrize(("kind", "v_reset", "decay_input", "backend"), CASES)
def test_spikes_and_potentials(
    kind: str, v_reset: float | None, decay_input: bool, backend: str
) -> None:
    x = current()
    run = build(kind, v_reset, decay_input, backend).run(x, record=("h", "v"))
    fired = 0.0
    for b, c in itertools.product(range(2), range(3)):
        spikes, before, after = one_neuron(kind, x[:, b, c].tolist(), v_reset, decay_input)
        assert run.spikes[:, b, c].tolist() == spikes
        assert run.records["h"][:, b, c].tolist() == pytest.approx(before, rel=1e-6, abs=1e-7)
        assert run.records["v"][:, b, c].tolist() == pytest.approx(after, rel=1e-6, abs=1e-7)
        assert run.state[0][b, c].item() == run.records["v"][-1, b, c].item()
        fired += sum(spikes)
    assert 0 < fired < x.numel()


def published_gradients(
    neuron: Neuron, x: Tensor, g: Tensor, v_reset: float | None, decay_input: bool, through: bool
) -> tuple[Tensor, Tensor]:
    """dL/dx and dL/dk of LIF and PLIF by the backward recursion of the paper (spec, section 1).

    `through`: the gradient also flows through the spike that resets.
    """
    rest = 0.0 if v_reset is None else v_reset
    coefs = neuron.coefs()
    k = coefs["k"].item() if coefs else 1 / TAU
    run = neuron.run(x, record=("h", "v"))
    s, h, after = run.spikes, run.records["h"], run.records["v"]
    before = torch.cat([torch.full_like(after[:1], rest), after[:-1]])
    slope = 1 / (1 + (math.pi * (h - 0.9)) ** 2)
    u = torch.zeros_like(x[0])
    gx, gk = torch.zeros_like(x), torch.zeros_like(x)
    for t in reversed(range(len(x))):
        if v_reset is None:
            kept = 1 - through * 0.9 * slope[t]
        else:
            kept = (1 - s[t]) + through * (v_reset - h[t]) * slope[t]
        gh = g[t] * slope[t] + u * kept
        u = (1 - k) * gh
        gx[t] = k * gh if decay_input else gh
        gk[t] = gh * ((x[t] if decay_input else 0.0) - (before[t] - rest))
    return gx, gk.sum()


# of the compiled ones a gradient through the reset is taken by PLIF alone
GRADIENT_CASES = [
    pytest.param(*case.values, detach, id=f"{case.id} {detach}")
    for case in CASES
    for detach in (True, False)
    if case.values[0] != "if" and (detach or case.values[0] == "plif" or case.values[3] == "eager")
]


@pytest.mark.parametrize(
    ("kind", "v_reset", "decay_input", "backend", "detach_reset"), GRADIENT_CASES
)
def test_gradients(
    kind: str, v_reset: float | None, decay_input: bool, backend: str, detach_reset: bool
) -> None:
    neuron = build(kind, v_reset, decay_input, backend, detach_reset)
    x = current().requires_grad_()
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (neuron(x) * g).sum().backward()
    with torch.no_grad():
        gx, gk = published_gradients(neuron, x, g, v_reset, decay_input, not detach_reset)
    torch.testing.assert_close(x.grad, gx, rtol=1e-9, atol=1e-12)
    if isinstance(neuron, PLIF):
        k = neuron.w.detach().sigmoid()
        torch.testing.assert_close(neuron.w.grad, k * (1 - k) * gk, rtol=1e-9, atol=1e-12)


def test_plif_starts_at_its_time_constant() -> None:
    for tau in (1.5, 2.0, 16.0):
        assert PLIF(tau).tau.item() == pytest.approx(tau, rel=1e-6)
        assert PLIF(tau).w.item() == pytest.approx(-math.log(tau - 1), abs=1e-6)
        assert PLIF(tau).constants()["tau"].item() == pytest.approx(tau, rel=1e-6)
    assert LIF(3.0).constants()["tau"].item() == 3.0
    assert IF().constants() == {}


@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 2)])
def test_plif_learns_as_many_constants_as_asked(shape: tuple[int, ...]) -> None:
    neuron = PLIF(shape=shape)
    assert neuron.w.shape == shape == neuron.tau.shape
    x = torch.rand(4, 2, 3, 2, 2) * 2
    neuron(x).sum().backward()
    assert neuron.w.grad is not None and neuron.w.grad.shape == shape
    same = PLIF()(x)
    assert torch.equal(neuron(x), same)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LIF(0.5), "tau=0.5: a membrane time constant is at least 1 time step"),
        (lambda: LIF(math.nan), "tau=nan"),
        (lambda: PLIF(1.0), "tau=1.0: the initial time constant of PLIF must be above 1"),
        (lambda: PLIF(math.inf), "tau=inf"),
        (lambda: IF(v_reset=1.0), "v_reset=1.0 must lie below v_threshold=1.0"),
        (lambda: LIF(v_threshold=math.nan), "must lie below v_threshold=nan"),
    ],
)
def test_impossible_constants_are_named(make, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as caught:
        make()
    assert text in str(caught.value)
