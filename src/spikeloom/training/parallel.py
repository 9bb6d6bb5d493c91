"""From a classifier to the loss of a batch: compiled, and on several processes, as recipes ask.

Each process computes on its own part of the batch. Gradients become their mean over the processes
while the backward pass runs (`DistributedDataParallel`); a part's loss is weighted by its samples,
so that this is the gradient of the mean loss over the whole batch.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spikeloom.cache_home import keep_compiled_code
from spikeloom.config.schema import TrainingConfig
from spikeloom.data.base import Batch
from spikeloom.nn.classifier import Classifier, Output
from spikeloom.processes import distributed
from spikeloom.processes.launch import let_go_at_end
from spikeloom.processes.synced import synchronise


class Parallel:
    """`classifier` and its loss, as a function of a batch: (loss, scores).

    Buffers, such as the running statistics of BatchNorm, are those of the main process: they are
    sent to the others at the beginning of each step, and by `share_buffers`.
    """

    def __init__(
        self, classifier: Classifier, config: TrainingConfig, device: torch.device
    ) -> None:
        self._classifier = classifier
        if config.sync_batchnorm:
            synchronise(classifier)
        # An epoch has two sizes of batch, each compiled for itself: with symbolic sizes PyTorch
        # fails on strided results.
        if config.compile:
            keep_compiled_code()
        network = torch.compile(classifier, dynamic=False) if config.compile else classifier
        self._step: nn.Module = _Step(network, classifier.loss)  # type: ignore[arg-type]
        self._wrapped: DistributedDataParallel | None = None
        if distributed.world_size() > 1:
            # Looking for parameters without a gradient has a second effect, which is wanted here
            # more: the buckets in which gradients are summed stay the same from the first step
            # on. Otherwise they are arranged anew after it, sums are rounded differently, and a
            # resumed run, whose first step is another one, would differ in the last bits.
            self._step = self._wrapped = DistributedDataParallel(
                self._step,
                device_ids=[device] if device.type == "cuda" else None,
                find_unused_parameters=True,
            )
            let_go_at_end(self)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._step(batch.inputs, batch.targets, batch.other, batch.share)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a batch: gradients are exchanged with the `last` one of a
        step, and only added up in this process before."""
        if last or self._wrapped is None:
            return nullcontext()
        return self._wrapped.no_sync()  # type: ignore[return-value]

    @torch.no_grad()
    def share_buffers(self) -> None:
        """Gives every process the main one's buffers, for an evaluation that they share."""
        if distributed.world_size() > 1:
            for buffer in self._classifier.buffers():
                torch.distributed.broadcast(buffer, 0)

    def close(self) -> None:
        """Lets go of the process group; afterwards it cannot be called."""
        self._step = self._classifier
        self._wrapped = None


class _Step(nn.Module):
    """One module for `DistributedDataParallel`: what the loss depends on is used, the rest not."""

    def __init__(self, network: nn.Module, loss: Callable[[Output, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(
        self, inputs: Tensor, labels: Tensor, other: Tensor | None, share: float
    ) -> tuple[Tensor, Tensor]:
        output = self.network(inputs)
        loss = self._loss(output, labels)
        if other is not None:
            loss = share * loss + (1 - share) * self._loss(output, other)
        return loss, output.scores
