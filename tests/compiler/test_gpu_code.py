"""GPU kernels compiled for real GPUs by Triton and ptxas, which need none: nothing spills, memory
is read in whole vectors, and the cut fits the machine."""

import pytest
import torch
from zoo import TwoStates

from spikeloom.compiler.dispatch import interpreting
from spikeloom.compiler.front.trace import trace
from spikeloom.compiler.gpu.plan import Machine, backward_cut, forward_grid
from spikeloom.compiler.plan.geometry import find_plan
from spikeloom.neurons import GLIF, LIF, PLIF, AdLIF, Gaussian, Neuron, ScaledLIF

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(interpreting(), reason="the interpreter compiles nothing")

from benchmarks import gpu_code  # noqa: E402
from benchmarks.gpu_code import Needs, compiled, needs  # noqa: E402

H200 = Machine(132, 50 << 20)


def launches(
    neuron: Neuron, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> tuple[gpu_code.Started, gpu_code.Started]:
    """The forward and the backward launch of a neuron on an input of this shape."""
    coefs = [coef.detach() for coef in neuron._all_coefs().values()]
    rest = [neuron.rest().get(name, 0.0) for name in neuron.states]
    return gpu_code.launches(neuron._step(), coefs, rest, torch.empty(shape, dtype=dtype), H200)


SHAPES = {
    "short": (4, 16, 64, 32, 32),
    "long": (100, 16, 64, 16, 16),
    "rows of 16": (16, 32, 64, 4, 4),
}
NEURONS: dict[str, Neuron] = {
    "LIF, gaussian": LIF(surrogate=Gaussian()),
    "PLIF per channel": PLIF(shape=(64,)),
    "GLIF": GLIF(64),
    "AdLIF": AdLIF(5.0, shape=(64,)),
    "ScaledLIF": ScaledLIF(),
}


def _assert_fits(neuron: Neuron, shape: tuple[int, ...], capability: int) -> None:
    for one in launches(neuron, shape, torch.bfloat16):
        found = needs(one, capability)
        assert isinstance(found, Needs)
        assert found.spilled == 0
        assert found.registers <= 192


@pytest.mark.parametrize("name", NEURONS)
def test_nothing_spills(name: str) -> None:
    _assert_fits(NEURONS[name], SHAPES["long"], 90)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NEURONS)
def test_nothing_spills_anywhere(name: str, shape: str, capability: int) -> None:
    _assert_fits(NEURONS[name], SHAPES[shape], capability)


def test_coefs_of_every_shape_compile() -> None:
    shape = (6, 3, 5, 7)
    for neuron in (TwoStates(shape), TwoStates(shape, "channel", "neuron")):
        for one in launches(neuron, shape):
            found = needs(one, 90)
            assert found.registers < 128
            assert found.spilled < 32  # masks of coefs per step: eight fit the predicate registers
    for one in launches(TwoStates(shape).double(), shape, torch.float64):
        assert needs(one, 90).registers < 255


@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 1, 1, 1), (5, 1, 3), (1, 7, 1), (6, 2, 1, 40)])
def test_sizes_of_one_compile(shape: tuple[int, ...]) -> None:
    """Triton makes constants of them, and constants take other paths through its compiler."""
    for one in launches(PLIF(shape=shape[2:3]), shape):
        assert needs(one, 90).registers < 255


@pytest.mark.parametrize(("side", "vector"), [(32, "v4"), (14, "v4"), (7, None)])
def test_memory_is_read_in_vectors_where_rows_allow_it(side: int, vector: str | None) -> None:
    forward, backward = launches(PLIF(shape=(64,)), (4, 16, 64, side, side))
    for one in (forward, backward):
        text = compiled(one, 90).asm["ptx"]
        assert ("ld.global.v4" in text) == (vector is not None)
        assert ("st.global.v4" in text) == (vector is not None)


def test_no_multiplication_is_fused_with_an_addition() -> None:
    """It would round once where PyTorch rounds twice: other spikes."""
    for one in launches(AdLIF(5.0, shape=(64,)), SHAPES["long"]):
        assert "fma" not in compiled(one, 90).asm["ptx"]


def _cut(neuron: Neuron, shape: tuple[int, ...], on: Machine = H200) -> object:
    traced = trace(neuron._step(), torch.float32)
    coefs = tuple(tuple(c.shape) for c in neuron._all_coefs().values())
    strides = torch.empty(shape[1:], device="meta").stride()
    plan = find_plan(traced.signature, shape[1:], strides, shape[0], coefs)
    leaves = tuple(neuron._all_coefs())
    return forward_grid(plan, on), backward_cut(traced, plan, leaves, shape[0], on)


def test_how_time_is_cut() -> None:
    plif = PLIF(shape=(64,))
    _, cut = _cut(plif, (4, 16, 64, 32, 32))
    assert (cut.K, cut.segments) == (4, 1)
    _, cut = _cut(plif, (16, 16, 64, 32, 32), Machine(132, 1 << 40))
    assert (cut.K, cut.segments) == (1, 16)
    _, cut = _cut(plif, (18, 16, 64, 32, 32), Machine(132, 0))
    assert (cut.K, cut.segments) == (4, 5)


def test_small_layers_are_spread_over_the_machine() -> None:
    grid, cut = _cut(PLIF(shape=(256,)), (100, 64, 256))
    assert grid.tiles >= 128
    assert cut.programs >= 128
    grid, cut = _cut(PLIF(shape=(64,)), (4, 64, 64, 32, 32))
    assert grid.tile.neurons == 512
    assert cut.programs <= 132 * 8
