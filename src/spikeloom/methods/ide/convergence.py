"""How well the two approximations of the method hold on a batch: pictures for the report.

The gradient is exact at the equilibrium a* = f(a*), if the linear system is solved; the simulation
is at a[T], which approaches a* like 1/T without a leak, and up to a bounded error with one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from spikeloom.methods.ide.equilibrium import solve_implicit
from spikeloom.methods.ide.feedback import FeedbackNetwork
from spikeloom.methods.ide.transforms import Masks
from spikeloom.neurons.rate import weight_sum
from spikeloom.nn.classifier import Figure

SOLVERS = ("broyden", "anderson", "fixed-point")
_MOST_SWEEPS = 1000
_SETTLED = 1e-6


def figures(
    network: FeedbackNetwork, inputs: Tensor, loss: Callable[[Tensor], Tensor]
) -> list[Figure]:
    """Residual of each solver over its iterations, and the rate against the equilibrium over T.

    `loss` is that of the output layer's rate. Taken in evaluation mode: running statistics, no
    dropout.
    """
    masks = Masks()
    counts: list[Tensor] = []

    def count(t: int, spikes: Sequence[Tensor]) -> None:
        fired = spikes[network.output_layer]
        counts.append(fired if not t else counts[-1] * network.leak + fired)

    with torch.enable_grad(), parametrize.cached():
        drive, currents = network.drive(inputs, masks)
        assert drive is not None  # gradients are enabled
        rate = network.simulate(currents, masks, count)[network.output_layer].requires_grad_()
        (upstream,) = torch.autograd.grad(loss(rate), rate)
        point = rate.detach().requires_grad_()
        image = network.rate_map(point, drive, masks)
        settings = replace(network.solver_settings, max_iter=30)
        traces = {}
        for solver in SOLVERS:
            solution = solve_implicit(image, point, upstream, solver, settings)[1]
            if solution is not None:
                traces[solver] = [value for value in solution.trace if 0 < value < float("inf")]
    with torch.no_grad(), parametrize.cached():
        sequence = [n / weight_sum(network.leak, t) for t, n in enumerate(counts, start=1)]
        resting = _equilibrium(network.rate_map, rate.detach(), drive.detach(), masks)
        distance = [_relative(a - resting, resting) for a in sequence]
        residual = [_relative(network.rate_map(a, drive, masks) - a, a) for a in sequence]
    return [
        Figure(
            title="Implicit gradient",
            note="Residual of the linear system, relative to the upstream gradient; training "
            f"stops at {settings.tolerance(rate.dtype):.0e}, or after "
            f"{network.solver_settings.max_iter} iterations.",
            x="iteration",
            y="relative residual",
            curves=traces,
            log=True,
        ),
        Figure(
            title="Rate against equilibrium",
            note="After t time steps: distance |a[t] - a*| / |a*| from the equilibrium, and how "
            "far the rate map moves the rate, |f(a[t]) - a[t]| / |a[t]|.",
            x="time steps",
            y="relative error",
            curves={"distance": distance, "residual": residual},
            start=1,
            log=True,
        ),
    ]


def _equilibrium(rate_map, rate: Tensor, drive: Tensor, masks: Masks) -> Tensor:
    """The fixed point of f by damped iteration from `rate`."""
    for _ in range(_MOST_SWEEPS):
        change = rate_map(rate, drive, masks) - rate
        rate = rate + change / 2
        if change.norm() <= _SETTLED * rate.norm():
            break
    return rate


def _relative(difference: Tensor, reference: Tensor) -> float:
    return (difference.norm() / reference.norm().clamp_min(1e-12)).item()
