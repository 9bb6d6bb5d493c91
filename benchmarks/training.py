"""Whole training steps: a recipe's network against the same network with ReLU for neurons.

The ReLU network does everything that the spiking one does except the neurons: the same layers on
the same `[T * B]` batch, the same loss and optimizer. What it costs is the floor; the ratio says
what spiking adds. A peer's line is the same network with the peer's neurons in place of ours.
Images are made, in the shape of the recipe's data set: a step does not depend on what they show.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import equilibrium
from benchmarks.cases import TRAININGS, Case
from benchmarks.contenders import version
from benchmarks.peers import PEERS, installed
from benchmarks.runner import Contender, Row, Times, Tolerance, Trial
from benchmarks.steps import Steps, layer_weights
from benchmarks.timing import Run
from spikeloom.config.schema import Recipe
from spikeloom.data.base import DataSpec
from spikeloom.data.for_recipe import load_data
from spikeloom.errors import ConfigError
from spikeloom.methods import catalog
from spikeloom.neurons import Neuron
from spikeloom.nn.classifier import Classifier
from spikeloom.run.device import keep_freed_memory
from spikeloom.seeding import stream

MADE: dict[str, tuple[tuple[int, ...], int]] = {
    "digits": ((1, 8, 8), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion-mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
}
"""Shape of an image and number of classes, by data set: no files are needed for these."""

TOLERANCE = Tolerance(gradients=2e-2, elementwise=False)
"""Of the loss and of the gradient of each layer's weights: a spike that rounding moves goes on
through all the layers behind it."""


class TimedReLU(nn.Module):
    """ReLU in the place of a neuron, on `[T, B, ...]`."""

    time_first = True

    def forward(self, x: Tensor) -> Tensor:
        if x.stride(0) != 0:
            return torch.relu(x)
        # A spiking layer answers differently at each step, so that its successors do T times the
        # work: the floor must too, and in the memory order of the input.
        step = torch.relu(x[0])
        if step.dim() == 4 and step.is_contiguous(memory_format=torch.channels_last):
            return step.movedim(1, -1).expand(len(x), -1, -1, -1, -1).contiguous().movedim(-1, 2)
        return step.expand(x.shape).contiguous()


class PeerNeuron(nn.Module):
    """A peer's neuron in the place of ours, on `[T, B, ...]`."""

    time_first = True

    def __init__(self, run: Callable[[Tensor], Tensor], node: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def trial(
    case: Case, overrides: Sequence[str] = (), backend: str = "auto", plain: bool = False
) -> Trial:
    """Who competes: the compiled neurons, eager ones, those of peers that have all of them, and
    ReLU.

    `case.shape` is the batch; empty for the usual one. Raises `ConfigError` for a network that a
    ReLU cannot stand in. `plain`: see `neurons.trial`.
    """
    memory = "plain" if plain else "kept"
    if not plain:
        keep_freed_memory()
    recipe = catalog.load_recipe(case.subject, [f"precision={case.dtype}", *overrides])
    spec = _spec(recipe)
    size = case.shape[0] if case.shape else TRAININGS.get(case.subject, recipe.data.batch_size)
    torch.manual_seed(stream(recipe.seed, "init"))
    spiking = catalog.methods()[recipe.method].build(recipe.network, spec).to(case.device)
    steps = int(getattr(recipe.network, "T", 1))
    if equilibrium.trains(spiking):
        measured = equilibrium.trial(case, recipe, spiking, spec, size, backend)
        return replace(measured, columns={**measured.columns, "memory": memory})
    shape = (size, *spec.shape) if spec.kind == "static" else (steps, size, *spec.shape)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(case.device)
    labels = (torch.arange(size) % spec.class_count).to(case.device)

    def with_backend(name: str) -> Classifier:
        network = copy.deepcopy(spiking)
        for module in network.modules():
            if isinstance(module, Neuron):
                module.backend = name  # type: ignore[assignment]
        return network

    def contender(name: str, network: Classifier, package: str = "torch") -> Contender:
        measured = Steps(network, recipe, inputs, labels)
        results = None if name == "relu" else partial(measured.results, layers)
        return Contender(name, {"step": measured.step}, results, {"version": version(package)})

    layers = layer_weights(spiking)
    eager = with_backend("eager")
    relu = copy.deepcopy(spiking)
    replace_neurons(relu, lambda neuron: TimedReLU())
    contenders = [
        contender("relu", relu),
        contender("spikeloom", with_backend(backend), "spikeloom"),
        contender("eager", eager),
    ]
    _try_relu(contenders[0].runs["step"], recipe)
    absent: dict[str, str] = {}
    for name in PEERS:
        network = _with_peer(spiking, name) if installed(name) else None
        if network is None:
            absent[name] = "lacks a neuron of this network" if installed(name) else "not installed"
        else:
            contenders.append(contender(name, network.to(case.device), name))
    columns = case.columns() | {"shape": "x".join(map(str, shape)), "T": steps, "batch": size}
    if case.device != "cpu":
        tf32 = torch.backends.cudnn.allow_tf32 and recipe.training.precision == "float32"
        columns["matmul"] = "convolutions in TF32" if tf32 else recipe.training.precision
    return Trial(
        columns=columns
        | {"dtype": recipe.training.precision, "title": recipe.title}
        | {"memory": memory},
        contenders=contenders,
        reference=f"eager, {recipe.training.precision}",
        expected=partial(Steps(eager, recipe, inputs, labels).results, layers),
        figures=_figures,
        tolerance=TOLERANCE,
        absent=absent,
        device=case.device,
    )


def _figures(name: str, times: Times) -> Row:
    step, floor = times[name]["step"], times["relu"]["step"]
    return {
        "step_ms": round(step.best * 1000, 2),
        "step_median_ms": round(step.median * 1000, 2),
        "times_relu": round(step.best / floor.best, 3),
    }


def _spec(recipe: Recipe) -> DataSpec:
    if recipe.data.name not in MADE:
        return load_data(recipe).spec
    shape, classes = MADE[recipe.data.name]
    return DataSpec(recipe.data.name, shape, tuple(map(str, range(classes))))


def _try_relu(step: Run, recipe: Recipe) -> None:
    try:
        step()
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the network of {recipe.origin or recipe.title} asks more of its neurons than a ReLU "
            "can answer, so there is nothing to compare a step with: `spikeloom bench neurons` "
            "measures its neurons alone"
        ) from error


def replace_neurons(module: nn.Module, make: Callable[[Neuron], nn.Module]) -> None:
    """Every neuron below `module`, replaced in place."""
    for name, child in module.named_children():
        if isinstance(child, Neuron):
            setattr(module, name, make(child))
        else:
            replace_neurons(child, make)


def _with_peer(network: Classifier, name: str) -> Classifier | None:
    """The network with the neurons of a peer; None if the peer lacks one of them."""
    other = copy.deepcopy(network)
    found = [PEERS[name](neuron) for neuron in other.modules() if isinstance(neuron, Neuron)]
    if not all(found):
        return None
    nodes = iter(found)

    def take(neuron: Neuron) -> nn.Module:
        run_and_node = next(nodes)
        assert run_and_node is not None
        return PeerNeuron(*run_and_node)

    replace_neurons(other, take)
    return other
