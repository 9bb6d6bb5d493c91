"""Whole training steps: a recipe's network against the same network with ReLU for neurons.

The ReLU network does everything that the spiking one does except the neurons: the same layers on
the same `[T * B]` batch, the same loss and optimizer. What it costs is the floor; the ratio says
what spiking adds.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikeloom.bench.timing import best_of
from spikeloom.config.schema import Recipe
from spikeloom.data.for_recipe import load_data
from spikeloom.errors import ConfigError
from spikeloom.methods import catalog
from spikeloom.neurons import Neuron
from spikeloom.nn.classifier import Classifier
from spikeloom.seeding import stream
from spikeloom.training.allocator import keep_freed_memory
from spikeloom.training.device import autocast
from spikeloom.training.optim import make_optimizer


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


def measure(recipe: Recipe, batch: int | None, rounds: int) -> list[dict[str, object]]:
    """A row for the recipe's network (compiled, and eager) and one for the network with ReLU."""
    keep_freed_memory()  # as in training
    size = batch or recipe.data.batch_size
    data = load_data(recipe).spec
    method = catalog.methods()[recipe.method]
    torch.manual_seed(stream(recipe.seed, "init"))
    spiking = method.build(recipe.network, data)
    steps = int(getattr(recipe.network, "T", 1))
    shape = (size, *data.shape) if data.kind == "static" else (steps, size, *data.shape)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(size) % data.class_count
    eager, relu = copy.deepcopy(spiking), copy.deepcopy(spiking)
    for module in eager.modules():
        if isinstance(module, Neuron):
            module.backend = "eager"
    replace_neurons(relu, lambda neuron: TimedReLU())
    contenders = {"spikeloom": spiking, "eager": eager, "relu": relu}
    steps_of = [_training_step(net, recipe, inputs, labels) for net in contenders.values()]
    try:
        steps_of[-1]()
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the network of {recipe.origin or recipe.title} asks more of its neurons than a ReLU "
            "can answer, so there is nothing to compare a step with: `spikeloom bench neurons` "
            "measures its neurons alone"
        ) from error
    seconds = best_of(steps_of, rounds)
    floor = seconds[-1]
    return [
        {
            "recipe": f"{recipe.method}: {recipe.title}",
            "T": steps,
            "batch": size,
            "precision": recipe.training.precision,
            "contender": name,
            "seconds": round(value, 4),
            "times_relu": round(value / floor, 3),
        }
        for name, value in zip(contenders, seconds, strict=True)
    ]


def replace_neurons(module: nn.Module, make: Callable[[Neuron], nn.Module]) -> None:
    """Every neuron below `module`, replaced in place."""
    for name, child in module.named_children():
        if isinstance(child, Neuron):
            setattr(module, name, make(child))
        else:
            replace_neurons(child, make)


def _training_step(
    network: Classifier, recipe: Recipe, inputs: Tensor, labels: Tensor
) -> Callable[[], object]:
    network.train()
    optimizer = make_optimizer(recipe.optimizer, network.parameter_groups())

    def step() -> None:
        torch.manual_seed(0)
        with autocast(recipe.training.precision, inputs.device):
            output = network(inputs)
            loss = network.loss(output, labels)
        loss.backward()
        network.before_step()
        optimizer.step()
        network.after_step()
        optimizer.zero_grad(set_to_none=True)

    return step
