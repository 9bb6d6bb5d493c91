"""Neuron kernels: forward and backward of one layer, in copies of its input.

The unit is one `out.copy_(x)` of the input by the same threads (or device) in the same process: a
layer that costs 5 copies takes as long as reading and writing its input five times. Beside it
stands the share of a copy's bandwidth, counted on the fewest bytes that any kernel must move:
forward x in and spikes out, backward x and the gradient in and a gradient out.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.cases import NEURONS, Case
from benchmarks.contenders import Networks, half_state, networks
from benchmarks.peers import Network
from benchmarks.runner import Contender, Results, Row, Times, Tolerance, Trial
from benchmarks.timing import Run
from spikeloom.compiler.front.step import HALF
from spikeloom.run.device import keep_freed_memory

TOLERANCE = Tolerance()
HALF_TOLERANCE = Tolerance(gradients=2e-2)


def trial(
    case: Case, compile_eager: bool = False, backend: str = "auto", plain: bool = False
) -> Trial:
    """Who competes: the compiled kernel, the eager step, torch.compile of it, peers.

    `plain`: freed memory goes back to the system, as in a script that sets nothing; else it is
    kept, as in the process of a training, for every contender.
    """
    if not plain:
        keep_freed_memory()
    x, gradient = case.input(), case.gradient()
    neuron = NEURONS[case.subject](x.shape[2]).to(x.device)
    found: Networks = networks(neuron, x, compile_eager, backend)
    target = torch.empty_like(gradient)
    half = x.dtype in HALF
    variants: dict[str, Callable[[], Results]] = {}
    if half and all(coef.dim() == 0 for coef in neuron.coefs().values()):
        low = partial(half_state, neuron)
        variants[f"its state is {case.dtype}, and it agrees with that loop"] = partial(
            results, low, x, gradient
        )
    return Trial(
        columns={**case.columns(), "memory": "plain" if plain else "kept"},
        contenders=[
            Contender("copy", {"copy": lambda: target.copy_(x)}),
            *(
                Contender(
                    name,
                    {"forward": forward(network, x), "training": both(network, x, gradient)},
                    partial(results, network, x, gradient),
                    found.about.get(name, {}),
                )
                for name, network in found.by_name.items()
            ),
        ],
        reference=f"eager, {case.dtype}",
        expected=partial(results, found.by_name["eager"], x, gradient),
        figures=partial(_figures, x, gradient),
        tolerance=HALF_TOLERANCE if half else TOLERANCE,
        absent=found.absent,
        unlisted=("copy",),
        device=case.device,
        variants=variants,
    )


def _figures(x: Tensor, gradient: Tensor, name: str, times: Times) -> Row:
    forward, training = times[name]["forward"], times[name]["training"]
    unit = times["copy"]["copy"].best
    # bytes; a constant current lies in memory once, and so does its gradient
    current = x.numel() * x.element_size() // (len(x) if x.stride(0) == 0 else 1)
    spikes = gradient.numel() * gradient.element_size()
    rate = (current + spikes) / unit
    backward = training.best - forward.best
    share = (2 * current + spikes) / backward / rate if backward > 0 else float("nan")
    return {
        "forward_copies": round(forward.best / unit, 2),
        "training_copies": round(training.best / unit, 2),
        "training_median_copies": round(training.median / unit, 2),
        "training_ns_per_element": round(training.best / x.numel() * 1e9, 4),
        "forward_share": round(unit / forward.best, 3),
        "backward_share": round(share, 3),
        "training_share": round((3 * current + 2 * spikes) / training.best / rate, 3),
        "copy_gb_per_second": round(rate / 1e9, 1),
    }


def results(network: Network, x: Tensor, gradient: Tensor) -> Results:
    """Spikes, and the gradient of the input, from a fresh copy of it."""
    leaf = (x[0] if x.stride(0) == 0 else x).clone().requires_grad_()
    spikes = network(leaf.expand(x.shape))
    spikes.backward(gradient)
    assert leaf.grad is not None
    return Results(spikes.detach(), {"x": leaf.grad})


def forward(network: Network, x: Tensor) -> Run:
    """A forward pass without gradient."""

    def run() -> None:
        with torch.no_grad():
            network(x)

    return run


def both(network: Network, x: Tensor, gradient: Tensor) -> Run:
    """A forward and backward pass."""
    leaf = (x[0] if x.stride(0) == 0 else x).clone().requires_grad_()
    current = leaf.expand(x.shape)

    def run() -> None:
        leaf.grad = None
        network(current).backward(gradient)

    return run
