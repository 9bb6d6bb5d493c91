"""Cases drawn at random: any size, layout and data, for a neuron of the pool."""

from typing import Literal

import torch
from agreement import assert_gradients, assert_same_bits, cotangents, run_loop, run_neuron
from hypothesis import strategies as st
from zoo import GRADIENT_LAYOUTS, LAYOUTS, STATIC, Entry, random_values

REL = {torch.float32: 1e-5, torch.float64: 1e-10}
SAMPLES = ((), (1,), (5,), (3, 1), (1, 7), (4, 4), (3, 40), (3, 2, 5), (2, 6, 7), (1, 3, 13), (64,))
"""Shapes of one sample: short rows, rows of 32 and more, one channel, many channels, no channels
at all."""


TIMES = st.integers(1, 33)


@st.composite
def cases(
    draw: st.DrawFn, entry: Entry, times: st.SearchStrategy[int] = TIMES
) -> dict[str, object]:
    """Sizes, layouts and data for a neuron."""
    samples = [sample for sample in SAMPLES if len(sample) + 2 >= entry.axes]
    layouts = sorted(LAYOUTS | STATIC) if entry.static else sorted(LAYOUTS)
    return {
        "shape": (
            draw(times),
            draw(st.integers(1, 4)),
            *draw(st.sampled_from(samples)),
        ),
        "layout": draw(st.sampled_from(layouts)),
        "gradient_layout": draw(st.sampled_from(sorted(GRADIENT_LAYOUTS))),
        "start": draw(st.booleans()),
        "final": draw(st.booleans()),
        "ties": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
    }


def check_case(
    entry: Entry,
    dtype: torch.dtype,
    case: dict,
    backend: Literal["cpu", "gpu"] = "cpu",
) -> None:
    """Spikes and final states to the bit, gradients to `REL`, of the case that was drawn."""
    shape, seed = case["shape"], case["seed"]
    neuron = entry.make(shape).to(dtype)
    view = (LAYOUTS | STATIC)[case["layout"]](shape)
    base = random_values(view.base_shape, seed, case["ties"]).to(dtype)
    start = None
    if case["start"]:
        start = tuple(
            random_values(shape[1:], seed + 2 + i).to(dtype) / 2 for i in range(len(neuron.states))
        )
    incoming = GRADIENT_LAYOUTS[case["gradient_layout"]](shape)
    grads = cotangents(
        neuron,
        lambda: incoming.view(random_values(incoming.base_shape, seed + 3).to(dtype)),
        shape[1:],
        seed,
        dtype=dtype,
    )
    grads = grads if case["final"] else grads[:1]

    compiled = run_neuron(neuron, backend, base, view.view, start, grads)
    eager = run_neuron(neuron, "eager", base, view.view, start, grads)
    assert_same_bits(compiled.spikes, eager.spikes, "spikes")
    for name, actual, expected in zip(neuron.states, compiled.state, eager.state, strict=True):
        assert_same_bits(actual, expected, f"final {name}")

    exact = run_loop(neuron, base, view.view, start, grads)
    if torch.equal(exact.spikes, eager.spikes.double()):
        assert_gradients(compiled, eager, exact, REL[dtype])
    else:
        # a tie that rounding broke: float32 and float64 are two different histories from there on
        assert dtype == torch.float32
        eager.sizes = exact.sizes
        assert_gradients(compiled, eager, eager, REL[dtype])
