"""The GPU kernels in Triton's interpreter: values and gradients equal eager, whatever the neuron,
the surrogate, the size, the layout, and the way the backward kernel goes through time."""

import pytest
import torch
from agreement import assert_gradients, assert_same_bits, cotangents, run_loop, run_neuron
from drawn import cases, check_case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from zoo import POOL, TwoStates, random_values

from spikeloom.compiler.gpu import launch
from spikeloom.compiler.gpu.plan import Machine
from spikeloom.neurons import (
    GLIF,
    IF,
    LIF,
    PLIF,
    AdLIF,
    ATan,
    CuLIF,
    FastSigmoid,
    FusedGLIF,
    Gaussian,
    Neuron,
    PCuLIF,
    RateLIF,
    Rectangle,
    ScaledIF,
    ScaledLIF,
    Sigmoid,
    Surrogate,
    Triangle,
)

TIMES = st.sampled_from((1, 2, 3, 4, 5, 9, 33))
CACHES = {"notes at every step": 1 << 40, "notes at every fourth step": 0}
"""Bytes of second-level cache that make the backward kernel choose each way where T > 4."""


@pytest.fixture(params=CACHES)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(launch, "machine", lambda index: Machine(2, CACHES[request.param]))
    return request.param


@pytest.mark.parametrize("name", POOL)
def test_drawn_cases(name: str, way: str) -> None:
    @settings(max_examples=5, deadline=None, derandomize=True, database=None)
    @given(case=cases(POOL[name], TIMES))
    def check(case: dict) -> None:
        check_case(POOL[name], torch.float32, case, "gpu")

    check()


@pytest.mark.parametrize("name", [name for name, entry in POOL.items() if entry.double])
def test_drawn_cases_in_float64(name: str) -> None:
    @settings(max_examples=3, deadline=None, derandomize=True, database=None)
    @given(case=cases(POOL[name], TIMES))
    def check(case: dict) -> None:
        check_case(POOL[name], torch.float64, case, "gpu")

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", POOL)
def test_many_more_cases(name: str, way: str) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(case=cases(POOL[name]))
    def check(case: dict) -> None:
        check_case(POOL[name], torch.float32, case, "gpu")

    check()


def _agrees(neuron: Neuron, shape: tuple[int, ...], *, loop: bool = True) -> None:
    """Forward bits and all gradients of a neuron on a random input, from a given initial state."""
    x = random_values(shape, 3).float()
    start = tuple(random_values(shape[1:], 4 + i).float() / 2 for i in range(len(neuron.states)))
    grads = cotangents(neuron, lambda: random_values(shape, 5).float(), shape[1:], 6)

    def same(base: Tensor) -> Tensor:
        return base

    got = run_neuron(neuron, "gpu", x, same, start, grads)
    eager = run_neuron(neuron, "eager", x, same, start, grads)
    assert_same_bits(got.spikes, eager.spikes, "spikes")
    for name, actual, expected in zip(neuron.states, got.state, eager.state, strict=True):
        assert_same_bits(actual, expected, f"final {name}")
    exact = run_loop(neuron, x, same, start, grads)
    if not torch.equal(exact.spikes, eager.spikes.double()):
        eager.sizes, exact = exact.sizes, eager
    assert_gradients(got, eager, exact, 1e-5)


NEURONS: dict[str, Neuron] = {
    "IF": IF(),
    "LIF": LIF(3.0, v_reset=None, decay_input=False),
    "PLIF": PLIF(1.5, detach_reset=False),
    "GLIF": GLIF(5),
    "GLIF per step": GLIF(5, 6),
    "FusedGLIF": FusedGLIF(5),
    "CuLIF": CuLIF(5.0, 3.0),
    "PCuLIF": PCuLIF(5.0, 3.0),
    "AdLIF": AdLIF(5.0, shape=(5,)),
    "RateLIF": RateLIF(),
    "ScaledIF": ScaledIF(),
    "ScaledLIF": ScaledLIF(),
}


@pytest.mark.parametrize("sample", [(5, 6, 7), (5, 2)], ids=["rows of 42", "rows of 2"])
@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron(name: str, sample: tuple[int, ...], way: str) -> None:
    torch.manual_seed(1)
    _agrees(NEURONS[name], (6, 3, *sample))


SURROGATES: dict[str, Surrogate] = {
    "ATan": ATan(3.0),
    "ATan, learnable": ATan(learnable=True),
    "Rectangle": Rectangle(),
    "Triangle": Triangle(),
    "FastSigmoid": FastSigmoid(4.0),
    "Sigmoid": Sigmoid(),
    "Gaussian": Gaussian(),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_every_surrogate(name: str) -> None:
    _agrees(LIF(2.0, surrogate=SURROGATES[name]), (5, 3, 4, 9))


class Stateless(Neuron):
    states = ()

    def step(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.surrogate(x - 1.0),)


def test_a_neuron_without_states_has_nothing_to_note(way: str) -> None:
    gradients = []
    for backend in ("gpu", "eager"):
        x = random_values((9, 2, 5), 1).float().requires_grad_()
        y = Stateless(backend=backend)(x)
        gradients += torch.autograd.grad(y, x, random_values(y.shape, 2).float())
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_float32_inside(dtype: torch.dtype, way: str) -> None:
    shape = (9, 3, 5, 41)
    neuron = POOL["plif per channel"].make(shape)
    neuron.backend = "gpu"
    x, g = random_values(shape, 1, ties=True).to(dtype), random_values(shape, 2).to(dtype)
    results = []
    for kind in (dtype, torch.float32):
        leaf = x.to(kind).requires_grad_()
        neuron.zero_grad()
        spikes, (v,) = neuron(leaf, neuron.initial_state(leaf))
        assert spikes.dtype == kind
        assert v.dtype == torch.float32
        (gx,) = torch.autograd.grad(spikes, leaf, g.to(kind))
        results.append((spikes.detach().float(), v.detach(), gx.float()))
    assert_same_bits(results[0][0], results[1][0], "spikes")
    assert_same_bits(results[0][1], results[1][1], "final state")
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(results[0][2], results[1][2], rtol=eps, atol=1e-7)


def test_records_of_states_and_observed_values() -> None:
    shape = (5, 3, 4, 9)
    x = random_values(shape, 1).float()
    neuron = TwoStates(shape)
    runs = []
    for backend in ("eager", "gpu"):
        neuron.backend = backend
        runs.append(neuron.run(x, record=("v", "h")))
    for name in ("v", "h"):
        assert_same_bits(runs[1].records[name], runs[0].records[name], name)


@pytest.mark.parametrize("shape", [(0, 3, 5, 4), (4, 0, 5, 4), (4, 3, 5, 0)])
def test_nothing_to_compute(shape: tuple[int, ...]) -> None:
    neuron = PLIF(shape=(5,), backend="gpu")
    x = torch.zeros(shape, requires_grad=True)
    spikes, (v,) = neuron(x, neuron.initial_state(x))
    assert spikes.shape == shape
    assert v.shape == shape[1:]
    (spikes.sum() + v.sum()).backward()
    assert neuron.w.grad is not None
    assert neuron.w.grad.tolist() == [0.0] * 5


def test_the_same_bits_twice() -> None:
    shape = (9, 4, 5, 40)
    grads = []
    for _ in range(2):
        neuron = POOL["two states, learnable alpha"].make(shape)
        neuron.backend = "gpu"
        neuron(random_values(shape, 1).float()).sum().backward()
        grads.append([p.grad.clone() for p in neuron.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_offsets_need_64_bits_from_two_to_the_31st(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels that count neurons in 64 bits, on an input that is small after all."""
    monkeypatch.setattr(launch, "WIDE", 1)
    for name in ("lif", "plif per channel", "plif per neuron, gaussian"):
        shape = (5, 3, 5, 41)
        neuron = POOL[name].make(shape)
        _agrees(neuron, shape)
