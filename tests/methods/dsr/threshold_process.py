"""One of several processes that train a DSR network together: its share of a batch, one step.

    threshold_process.py RANK PROCESSES MEETING_FILE RESULT_FILE

The first process writes, for each way to reduce the thresholds' gradient, all gradients as the
optimizer sees them and all weights after the step.
"""

import sys
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spikeloom.data.base import DataSpec
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.networks import DsrClassifier, build
from spikeloom.neurons import Neuron
from spikeloom.nn import BatchNorm

WAYS: tuple[Literal["mean", "sum"], ...] = ("mean", "sum")


def network(reduction: Literal["mean", "sum"]) -> DsrClassifier:
    """Two residual blocks in float64 whose BatchNorm does not look at the batch, so that a batch
    and its parts have the same gradients."""
    torch.manual_seed(3)
    net = build(
        DsrNetwork(
            name="preresnet18",
            neuron="if",
            T=4,
            channels=4,
            blocks=(1, 1),
            threshold=0.3,
            threshold_reduction=reduction,
        ),
        DataSpec("made", (3, 8, 8), ("a", "b", "c")),
    ).double()
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.eval()
        elif isinstance(module, Neuron):
            module.backend = "eager"  # kernels of float64 would be compiled for this one step
    return net


def batch() -> tuple[Tensor, Tensor]:
    """Twelve images and their classes."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(12, 3, 8, 8, generator=generator).double() * 2, torch.arange(12) % 3


def step(classifier: DsrClassifier, model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """One optimizer step as the trainer does it."""
    optimizer = torch.optim.SGD(classifier.parameter_groups(), lr=0.1)
    classifier.loss(model(inputs), labels).backward()
    classifier.before_step()
    optimizer.step()
    classifier.after_step()


def outcome(classifier: DsrClassifier) -> dict[str, dict[str, Tensor]]:
    named = dict(classifier.named_parameters())
    return {
        "gradients": {name: p.grad for name, p in named.items() if p.grad is not None},
        "weights": {name: p.detach() for name, p in named.items()},
    }


def main(rank: int, processes: int, meeting: str, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=processes)
    inputs, labels = batch()
    outcomes = {}
    for way in WAYS:
        classifier = network(way)
        model = DistributedDataParallel(classifier)
        step(classifier, model, inputs[rank::processes], labels[rank::processes])
        outcomes[way] = outcome(classifier)
    if rank == 0:
        torch.save(outcomes, result)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
