"""Inputs of many blocks, threads and memory orders: where a walk can go wrong that small inputs
never take."""

import pytest
import torch
from agreement import assert_gradients, assert_same_bits, run_loop, run_neuron
from torch import Tensor
from zoo import LAYOUTS, POOL, awkward_values, random_values

from spikeloom.compiler.cpu import threads

LARGE = {
    # name: pool entry, shape, layout
    "more blocks than groups, ragged": ("lif", (2, 3, 61, 3001), "contiguous"),
    "one row longer than a block": ("plif per channel", (2, 2, 3, 70_001), "contiguous"),
    "rows of 196 per channel": ("plif per channel", (5, 9, 37, 196), "contiguous"),
    "long sequence": ("plif per channel", (100, 2, 7, 333), "contiguous"),
    "channels last": ("plif per channel", (4, 5, 96, 13, 11), "channels last"),
    "short rows": ("plif per channel", (4, 50, 67, 5), "contiguous"),
    "fully connected": ("plif per channel", (7, 67, 1033), "contiguous"),
    "few columns, many rows": ("plif per channel", (3, 20_011, 5), "contiguous"),
    "per neuron": ("plif per neuron, gaussian", (3, 40, 17, 50), "contiguous"),
    "two states in rows": ("two states, learnable alpha", (5, 7, 31, 210), "contiguous"),
    "two states in vectors": ("two states, learnable alpha", (33, 40, 300), "contiguous"),
    "two states of all shapes": ("two states, coefs of all shapes", (6, 53, 23, 30), "contiguous"),
}


@pytest.mark.parametrize("case", LARGE)
def test_large_inputs(case: str) -> None:
    name, shape, layout = LARGE[case]
    neuron = POOL[name].make(shape)
    view = LAYOUTS[layout](shape)
    base = random_values(view.base_shape, 5).float()
    grads = (
        random_values(shape, 6).float() - 0.75,
        *(random_values(shape[1:], 7).float() - 0.75 for _ in neuron.states),
    )
    compiled = run_neuron(neuron, "cpu", base, view.view, None, grads)
    eager = run_neuron(neuron, "eager", base, view.view, None, grads)
    assert_same_bits(compiled.spikes, eager.spikes, "spikes")
    for actual, expected in zip(compiled.state, eager.state, strict=True):
        assert_same_bits(actual, expected, "final state")
    if compiled.spikes.numel() < 200_000:
        exact = run_loop(neuron, base, view.view, None, grads)
        assert_gradients(compiled, eager, exact, 1e-5)
    else:
        # float64 would meet another tie somewhere among so many; eager sums in float32, hence 1e-4
        exact = run_loop(neuron, base, view.view, None, grads)
        same = (exact.spikes == eager.spikes).float().mean()
        assert same > 0.999
        eager.sizes = exact.sizes
        assert_gradients(compiled, eager, eager, 1e-4)


def _large(name: str) -> tuple[torch.nn.Module, Tensor]:
    case, shape, layout = LARGE[name]
    view = LAYOUTS[layout](shape)
    return POOL[case].make(shape), view.view(random_values(view.base_shape, 8).float())


@pytest.mark.parametrize(
    "name",
    [
        "more blocks than groups, ragged",
        "rows of 196 per channel",
        "channels last",
        "fully connected",
        "few columns, many rows",
        "two states in rows",
        "two states in vectors",
        "two states of all shapes",
    ],
)
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    neuron, x = _large(name)
    assert x.numel() >= threads.SERIAL_BELOW
    results = []
    for count in (1, 1, 2, 3):
        torch.set_num_threads(count)
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        neuron.zero_grad()
        spikes, state = neuron(leaf, neuron.initial_state(leaf))
        ((spikes * x).sum() + sum(s.sum() for s in state if s.dim())).backward()
        results.append(
            [spikes, *state, leaf.grad]
            + [p.grad for p in neuron.parameters() if p.grad is not None]
        )
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would compare one thread with itself."""
    neuron, x = _large("fully connected")
    torch.set_num_threads(2)
    taken = []
    submit = threads.ThreadPoolExecutor.submit

    def counted(self, work, *args):  # type: ignore[no-untyped-def]
        taken.append(args)
        return submit(self, work, *args)

    monkeypatch.setattr(threads.ThreadPoolExecutor, "submit", counted)
    neuron(x)
    assert taken
    taken.clear()
    neuron(x[:, :2])
    assert not taken


def test_a_share_that_fails_is_not_lost() -> None:
    torch.set_num_threads(2)

    def work(first: int, last: int) -> None:
        if first > 0:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.share(work, 4, threads.SERIAL_BELOW)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float32) for name in POOL]
    + [(name, torch.float64) for name, entry in POOL.items() if entry.double],
)
def test_awkward_numbers_give_the_same_states(name: str, dtype: torch.dtype) -> None:
    """NaN, infinities, denormals, -0.0, and potentials exactly at threshold, in the input and in
    the state."""
    for shape in ((6, 3, 4, 50), (6, 3, 5)):
        neuron = POOL[name].make(shape).to(dtype)
        x = awkward_values(shape, 9, dtype)
        start = tuple(awkward_values(shape[1:], 10 + i, dtype) for i in range(len(neuron.states)))
        rest = neuron.initial_state(x)
        for begin in (rest, (*start, *rest[len(start) :])):
            spikes, state = neuron(x, begin)
            neuron.backend = "eager"
            expected, expected_state = neuron(x, begin)
            neuron.backend = "cpu"
            assert_same_bits(spikes, expected, "spikes")
            for actual, wanted in zip(state[: len(start)], expected_state, strict=False):
                assert_same_bits(actual, wanted, "final state")


def test_a_potential_exactly_at_threshold_fires() -> None:
    neuron = POOL["lif"].make((1,))
    strict = POOL["if soft, triangle, strict"].make((1,))
    for x, fires in ((2.0, 1.0), (2.0 - 2**-22, 0.0)):
        assert neuron(torch.full((1, 1, 40), x)).unique().tolist() == [fires]
    for x, fires in ((1.0, 0.0), (1.0 + 2**-22, 1.0)):
        assert strict(torch.full((1, 1, 40), x)).unique().tolist() == [fires]
