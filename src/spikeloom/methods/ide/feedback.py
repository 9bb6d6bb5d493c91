"""A feedback spiking network: simulated without a graph, differentiated at its equilibrium.

Dynamics, layers 1 ... N, transform A_i from layer i to layer i + 1 and A_N from layer N back to 1,
t = 1 ... T, potentials and spikes 0 before t = 1:

    h_1[t] = leak v_1[t-1] + A_N(s_N[t-1]) + A_x(x[t])           (no feedback term at t = 1)
    h_i[t] = leak v_i[t-1] + A_{i-1}(s_{i-1}[t])                 i = 2 ... N
    s_i[t] = 1 if h_i[t] >= V else 0,    v_i[t] = h_i[t] - V s_i[t]

As T grows the (weighted) mean rates approach the fixed point of a rate map in which neither T nor
the leak appears, with sigma(z) = clamp(z, 0, 1):

    r_1 = sigma((A_N(r_N) + A_x(x)) / V),    r_{i+1} = sigma(A_i(r_i) / V)

Source: Xiao et al., NeurIPS 2021, sections 4.1 to 4.4. Where paper and code differ, the code is
followed: BatchNorm as in `FeedbackNetwork`.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeloom.errors import ConfigError
from spikeloom.methods.ide.config import IdeNetwork
from spikeloom.methods.ide.equilibrium import implicit_rate, solve_implicit
from spikeloom.methods.ide.published import published_average
from spikeloom.methods.ide.restriction import restrict
from spikeloom.methods.ide.solver import Settings, Solution
from spikeloom.methods.ide.transforms import Masks, Statistics, WeightTransform
from spikeloom.neurons.rate import RateLIF, weight_sum
from spikeloom.processes import distributed
from spikeloom.synapses.fixed import fixed

Observer = Callable[[int, Sequence[Tensor]], None]
"""Is told the step t = 0 ... T-1 and the spikes `[B, ...]` of every layer at it."""


class ConvergenceWarning(UserWarning):
    """The implicit gradient was not solved to the tolerance that was asked for."""


class FeedbackNetwork(nn.Module):
    """From input `[B, ...]`, or event frames `[T, B, ...]`, to the mean rate of the output layer,
    `[B, ...]`.

    Training mode:
    - The simulation runs without a graph. A_x normalises with the statistics of the batch (event
      frames: with those of their average over time), the other transforms with the running ones.
    - f is then evaluated once at the simulated rate, all transforms with the statistics of the
      batch; this is where running statistics are updated, once.
    - The result has the value of the simulated rate and the gradient of the equilibrium: J is
      taken at the rate (one layer) or at f of it (several), with the same masks and weights.
    Evaluation: running statistics everywhere, no masks; if gradients are enabled, the result has
    the gradient of the equilibrium too.

    `settings` supplies T, neuron, leak, threshold, dropout, restriction, solver, and quirks of an
    `IdeNetwork`; its layers are those given. `feedback` (1): how many of the last transforms make
    up the way back; the output layer is number N - feedback + 1. `events`: input has a time axis.
    """

    def __init__(
        self,
        input_transform: WeightTransform,
        transforms: Iterable[WeightTransform],
        settings: IdeNetwork,
        *,
        feedback: int = 1,
        events: bool = False,
    ) -> None:
        super().__init__()
        self.input_transform = input_transform
        self.transforms = cast(Sequence[WeightTransform], nn.ModuleList(transforms))
        count = len(self.transforms)
        if not 1 <= feedback <= count:
            raise ValueError(f"feedback={feedback}: expected 1 to {count}, the transforms given")
        self.settings = settings
        self.events = events
        self.time_steps = settings.T
        self.v_threshold = settings.v_threshold
        self.output_layer = count - feedback
        self.solver_settings = Settings(settings.max_iter, settings.tol, settings.damping)
        leak = settings.leak if settings.neuron == "lif" else 1.0
        neurons = [RateLIF(leak, v_threshold=settings.v_threshold) for _ in range(count)]
        self.neurons = cast(Sequence[RateLIF], nn.ModuleList(neurons))
        self.leak = leak
        if settings.restriction != "none":
            restrict(
                self.transforms[-1].synapse,
                settings.restriction,
                settings.norm_range,
                iterate_in_eval="eval-iteration" in settings.quirks,
            )
        # What the training steps since the last `statistics()` showed: steps, sum of solver
        # iterations, worst residual, unconverged solutions, sum of the residuals of the rates.
        # Saved with the model, so that a resumed run logs what an uninterrupted one does.
        self.register_buffer("tally", torch.zeros(5, dtype=torch.float64))
        self.warned = False
        """Set once the warning about a solver that did not converge was given; true: never give
        it."""

    tally: Tensor

    def forward(
        self, inputs: Tensor, masks: Masks | None = None, observe: Observer | None = None
    ) -> Tensor:
        masks = masks or Masks(self.settings.dropout if self.training else 0.0)
        device = inputs.device.type
        low_precision = torch.is_autocast_enabled(device)
        # Only the simulation may run in low precision: a solver needs all digits.
        with parametrize.cached(), torch.autocast(device, enabled=False):
            # The restricted weight is computed once per pass: here, where gradients may be on.
            _ = self.transforms[-1].synapse.weight
            drive, currents = self.drive(inputs, masks)
            with torch.autocast(device, enabled=low_precision):
                rate = self.simulate(currents, masks, observe)[self.output_layer]
            if drive is None:
                return rate
            return self._differentiable(rate, drive, masks)

    # The backward pass goes over the rate map's graph many times, which torch.compile forbids for a
    # graph of its own: it leaves this method as it is. (What torch.compiler.disable sets, without
    # the second that importing it takes.)
    forward._torchdynamo_disable = True  # type: ignore[attr-defined]

    def drive(self, inputs: Tensor, masks: Masks) -> tuple[Tensor | None, Tensor]:
        """The current A_x(x) of the rate map `[B, ...]`, with a graph, and those of the simulation
        `[T, B, ...]`, without. The former is None where nothing asks for the rate map."""
        with_graph = self.training or torch.is_grad_enabled()
        transform = self.input_transform
        statistics: Statistics = "update" if self.training else "running"
        if not self.events:
            drive = transform.synapse(inputs)
            if self.training and "double-update" in self.settings.quirks:
                with torch.no_grad():  # the simulation updates running statistics as well
                    transform.normalise(drive, "update")
            drive = masks.apply("x", transform.finish(transform.normalise(drive, statistics)))
            currents = drive.detach().expand(self.time_steps, *drive.shape)
            return (drive if with_graph else None), currents
        average = self.average(inputs)
        reference = transform.synapse(average) if with_graph else None
        drive, frames = reference, inputs
        if self.training and transform.norm is not None and "event-mean" in self.settings.quirks:
            frames, average = published_average(inputs, self.average, self.leak)
            drive = transform.synapse(average)
        if drive is not None:
            drive = transform.finish(transform.normalise(drive, statistics))
            drive = masks.apply("x", drive)
        with torch.no_grad():
            folded = transform.synapse(frames.flatten(0, 1))
            if self.training and reference is not None:
                folded = transform.normalise_like(folded, reference)
            else:
                folded = transform.normalise(folded, "running")
            currents = transform.finish(folded).unflatten(0, frames.shape[:2])
            return drive, masks.apply("x", currents)

    @torch.no_grad()
    def simulate(
        self, currents: Tensor, masks: Masks, observe: Observer | None = None
    ) -> list[Tensor]:
        """The weighted mean rates `[B, ...]` of every layer after T steps.

        `currents` `[T, B, ...]`: what A_x gives layer 1; stride 0 in time if it is constant.
        """
        time_steps = len(currents)
        layers = range(len(self.neurons))
        # the same weights for T steps of spikes: laid out once, for sums over those that fired
        maps = [fixed(transform.synapse) or transform.synapse for transform in self.transforms]

        def felt(i: int, x: Tensor) -> Tensor:
            transform = self.transforms[i]
            return masks.apply(
                f"s{i + 1}", transform.finish(transform.normalise(maps[i](x), "running"))
            )

        states: list[tuple[Tensor, ...] | None] = [None for _ in layers]
        spikes: list[Tensor] = []
        for t in range(time_steps):
            current = currents[t]
            if t:
                current = current + felt(layers[-1], spikes[-1])
            spikes = []
            for i in layers:
                if i:
                    current = felt(i - 1, spikes[-1])
                x = current.unsqueeze(0)
                neuron = self.neurons[i]
                fired, states[i] = neuron(x, states[i] or neuron.initial_state(x))
                spikes.append(fired[0])
            if observe is not None:
                observe(t, spikes)
        return [
            neuron.rate(state[1], time_steps)
            for neuron, state in zip(self.neurons, states, strict=True)
            if state is not None
        ]

    def rate_map(
        self,
        rate: Tensor,
        drive: Tensor,
        masks: Masks,
        statistics: Statistics = "running",
    ) -> Tensor:
        """f: once around the loop, from the rate `[B, ...]` of the output layer to itself.

        `drive`: A_x(x).
        """
        count = len(self.transforms)
        for i in (*range(self.output_layer, count), *range(self.output_layer)):
            current = masks.apply(f"s{i + 1}", self.transforms[i](rate, statistics))
            if i == count - 1:
                current = current + drive
            rate = (current / self.v_threshold).clamp(0, 1)
        return rate

    def average(self, frames: Tensor) -> Tensor:
        """What the rate map sees of event frames `[T, B, ...]`: their mean, weighted by
        leak^(T - t)."""
        time_steps = len(frames)
        if self.leak == 1:
            return frames.mean(0)
        ages = torch.arange(time_steps - 1, -1, -1, dtype=torch.float64)
        weights = self.leak**ages / weight_sum(self.leak, time_steps)
        return torch.tensordot(weights.to(frames), frames, 1)

    def statistics(self) -> dict[str, float]:
        """Convergence over the training steps since the last call; empty if there were none."""
        passes, steps, worst, failed, residuals = self.tally.tolist()
        self.tally.zero_()
        if not passes:
            return {}
        return {
            "equilibrium residual": residuals / passes,
            "solver steps": steps / passes,
            "solver residual, worst": worst,
            "solver not converged": failed / passes,
        }

    def _differentiable(self, rate: Tensor, drive: Tensor, masks: Masks) -> Tensor:
        """`rate` with the gradient of the equilibrium."""
        statistics: Statistics = "update" if self.training else "running"
        point = rate.detach().to(drive.dtype).requires_grad_()
        image = self.rate_map(point, drive, masks, statistics)
        if self.training:
            difference = (image.detach() - rate).norm() / rate.norm().clamp_min(1e-12)
            self.tally += torch.stack(
                [torch.ones_like(difference), *[difference * 0] * 3, difference]
            )
        if not torch.is_grad_enabled():
            return rate
        around, around_image = point, image
        one_layer = len(self.transforms) == 1
        normed = any(transform.norm is not None for transform in self.transforms)
        coupled = normed and self.training and self.settings.jacobian_norm == "batch"
        if normed or not one_layer:
            inside: Statistics = "batch" if coupled else "running"
            around = (point if one_layer else image).detach().requires_grad_()
            around_image = self.rate_map(around, drive.detach(), masks, inside)

        settings = self._coupled_settings() if coupled else self.solver_settings

        def solve(grad: Tensor) -> Tensor:
            with torch.autocast(grad.device.type, enabled=False):
                system = around_image, around, grad, self.settings.solver, settings
                beta, solution = solve_implicit(*system, coupled=coupled)
            if solution is not None and self.training:
                self._note(solution)
            return beta

        return implicit_rate(rate, image, solve)

    def _coupled_settings(self) -> Settings:
        """Those for a batch that is one system; over all processes, if BatchNorm is."""
        synced_norm = any(transform.synchronised for transform in self.transforms)
        if not (synced_norm and distributed.world_size() > 1):
            return self.solver_settings
        if (solver := self.settings.solver) not in ("broyden", "anderson", "fixed-point"):
            raise ConfigError(
                f"network.solver = {solver} with training.sync_batchnorm: the samples of all "
                "processes are one system then, which it does not solve; use broyden, or "
                "network.jacobian_norm = running"
            )
        return replace(self.solver_settings, total=distributed.sum_over_ranks)

    def _note(self, solution: Solution) -> None:
        self.tally[1] += solution.steps
        self.tally[2].clamp_(min=solution.residual)
        self.tally[3] += not solution.converged
        if not (solution.converged or self.warned):
            self.warned = True
            goal = self.solver_settings.tolerance(solution.x.dtype)
            warnings.warn(
                f"the implicit gradient has a residual of {solution.residual:.1e} after "
                f"{solution.steps} steps of {self.settings.solver}, asked for was {goal:.0e}: "
                "raise network.max_iter, loosen network.tol, or choose another network.solver "
                "(said once; see 'solver not converged' in the log)",
                ConvergenceWarning,
                stacklevel=2,
            )
