"""Training steps of feedback networks: the simulation, the implicit backward pass, the solvers.

A ReLU cannot stand in for these neurons: they are simulated without a graph, and the gradient is
that of an equilibrium. What can be compared is the part of a step that each takes, the solvers
with one another, and the authors' program.
"""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.cases import Case
from benchmarks.contenders import version
from benchmarks.runner import Contender, Row, Times, Tolerance, Trial
from benchmarks.steps import Steps, layer_weights
from spikeloom.config.schema import Recipe
from spikeloom.data.base import DataSpec
from spikeloom.methods.ide.feedback import FeedbackNetwork
from spikeloom.neurons import Neuron
from spikeloom.nn.classifier import Classifier
from spikeloom.run.device import autocast

SOLVERS = ("anderson", "fixed-point", "published-broyden")
"""Timed beside the recipe's own."""

PUBLISHED: dict[tuple[str, int, int], tuple[int, int, int]] = {
    ("f400", 128, 5): (128, 12, 103),
    ("f64c5", 16, 30): (810, 299, 435),
}
"""By network, batch, and T: milliseconds of a step, its simulation, and its backward pass in the
authors' program; CPU time of one thread of another machine of two cores, shape as MNIST."""

TOLERANCE = Tolerance(gradients=2e-3, elementwise=False)
"""Of the gradient of every layer's weights: what 30 iterations of the slowest solver leave."""


def trains(network: nn.Module) -> bool:
    """Whether `network` is one that is measured here."""
    return any(isinstance(module, FeedbackNetwork) for module in network.modules())


def trial(
    case: Case, recipe: Recipe, network: Classifier, spec: DataSpec, size: int, backend: str
) -> Trial:
    """Who competes: compiled neurons, eager ones, and the compiled ones with each solver.

    `network`: that of `recipe`, on samples of `spec`, `size` of them in a batch.
    """
    steps = int(getattr(recipe.network, "T", 1))
    shape = (size, *spec.shape) if spec.kind == "static" else (steps, size, *spec.shape)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(case.device)
    labels = (torch.arange(size) % spec.class_count).to(case.device)
    own = str(getattr(recipe.network, "solver", ""))
    layers = layer_weights(network)

    def contender(name: str, backend: str, solver: str = own) -> Contender:
        changed = _changed(network, backend, solver)
        whole = Steps(changed, recipe, inputs, labels)
        for group in whole.optimizer.param_groups:
            group["lr"] = 0.0  # what a solver takes depends on the weights: they stay
        parts = _Parts(copy.deepcopy(changed), recipe, inputs, labels)
        return Contender(
            name,
            {"step": whole.step, "simulation": parts.simulate, "backward": parts.backward},
            partial(whole.results, layers),
            {"version": version("spikeloom"), "solver": solver} | parts.converged(),
        )

    contenders = [contender("spikeloom", backend), contender("eager", "eager")]
    contenders += [contender(name, backend, name) for name in SOLVERS if name != own]
    columns = case.columns() | {"shape": "x".join(map(str, shape)), "T": steps, "batch": size}
    key = (str(getattr(recipe.network, "name", "")), size, steps)
    published = PUBLISHED.get(key, ()) if spec.shape == (1, 28, 28) else ()
    names = ("published_step_ms", "published_simulation_ms", "published_backward_ms")
    return Trial(
        columns=columns
        | {"dtype": recipe.training.precision, "title": recipe.title}
        | dict(zip(names, published, strict=False)),
        contenders=contenders,
        reference=f"eager, {own}, {recipe.training.precision}",
        expected=partial(
            Steps(_changed(network, "eager", own), recipe, inputs, labels).results, layers
        ),
        figures=_figures,
        tolerance=TOLERANCE,
        device=case.device,
    )


def _figures(name: str, times: Times) -> Row:
    step, simulation, backward = (times[name][part] for part in ("step", "simulation", "backward"))
    return {
        "step_ms": round(step.best * 1000, 2),
        "step_median_ms": round(step.median * 1000, 2),
        "simulation_ms": round(simulation.best * 1000, 2),
        "backward_ms": round(backward.best * 1000, 2),
    }


def _changed(network: Classifier, backend: str, solver: str) -> Classifier:
    """A copy of `network` whose neurons run on `backend`, differentiated with `solver`."""
    other = copy.deepcopy(network)
    for module in other.modules():
        if isinstance(module, Neuron):
            module.backend = backend  # type: ignore[assignment]
        elif isinstance(module, FeedbackNetwork):
            module.settings = module.settings.model_copy(update={"solver": solver})
            module.warned = True  # its row says how it ended
    return other


class _Parts(Steps):
    """Two parts of a training step, each as it is in a first one, again and again."""

    def __init__(self, network: Classifier, recipe: Recipe, inputs: Tensor, labels: Tensor) -> None:
        super().__init__(network, recipe, inputs, labels)
        (self.feedback,) = (m for m in network.modules() if isinstance(m, FeedbackNetwork))
        simulate, calls = self.feedback.simulate, []

        def note(*arguments: object) -> object:
            calls.append(arguments)
            return simulate(*arguments)  # type: ignore[arg-type]

        self.feedback.simulate = note  # type: ignore[method-assign, assignment]
        self.first = self.loss()
        self.simulation = partial(simulate, *calls[0])
        self.backward()

    def simulate(self) -> None:
        with autocast(self.recipe.training.precision, self.inputs.device):
            self.simulation()

    def backward(self) -> None:
        self.first.backward(retain_graph=True)
        self.optimizer.zero_grad(set_to_none=True)

    def converged(self) -> Row:
        """How the solver ended, and how far the rates are from the equilibrium."""
        found = self.feedback.statistics()
        return {
            "iterations": round(found["solver steps"], 1),
            "residual": f"{found['solver residual, worst']:.1e}",
            "equilibrium_residual": f"{found['equilibrium residual']:.1e}",
        }
