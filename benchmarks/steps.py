"""Training steps of one network on one batch: what is timed, and what is compared before."""

import torch
from torch import Tensor, nn

from benchmarks.runner import Results
from spikeloom.components.optimizers import make_optimizer
from spikeloom.config.schema import Recipe
from spikeloom.neurons import Neuron
from spikeloom.nn.classifier import Classifier
from spikeloom.run.device import autocast


def layer_weights(network: nn.Module) -> frozenset[str]:
    """Names of the weights outside neurons: those that every contender has. Biases are left out:
    before a normalisation their gradient is rounding alone.
    """
    inside = {
        f"{path}.{name}"
        for path, module in network.named_modules()
        if isinstance(module, Neuron)
        for name, _ in module.named_parameters()
    }
    return frozenset(
        name for name, value in network.named_parameters() if name not in inside and value.dim() > 1
    )


class Steps:
    """Training steps of one network on one batch."""

    def __init__(self, network: Classifier, recipe: Recipe, inputs: Tensor, labels: Tensor) -> None:
        self.network = network.train()
        self.optimizer = make_optimizer(recipe.optimizer, network.parameter_groups())
        self.recipe = recipe
        self.inputs, self.labels = inputs, labels

    def loss(self) -> Tensor:
        """The forward pass; dropout is the same each time."""
        torch.manual_seed(0)
        with autocast(self.recipe.training.precision, self.inputs.device):
            return self.network.loss(self.network(self.inputs), self.labels)

    def results(self, names: frozenset[str]) -> Results:
        """The loss, and the gradients of `names`, before any step."""
        loss = self.loss()
        loss.backward()
        gradients = {
            name: value.grad.detach().clone()
            for name, value in self.network.named_parameters()
            if name in names and value.grad is not None
        }
        self.optimizer.zero_grad(set_to_none=True)
        return Results(None, {"loss": loss.detach()} | gradients)

    def step(self) -> None:
        """One whole step: forward, backward, optimizer."""
        self.loss().backward()
        self.network.before_step()
        self.optimizer.step()
        self.network.after_step()
        self.optimizer.zero_grad(set_to_none=True)
