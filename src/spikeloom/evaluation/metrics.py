"""Loss and accuracy as sums over samples: never a mean of means.

loss      = sum of (batch loss * batch size) / samples
accuracy  = trace(confusion) / sum(confusion),   confusion[label, prediction] counts samples
"""

import torch
from torch import Tensor

from spikeloom.processes import distributed
from spikeloom.processes.distributed import sum_over_ranks


class Score:
    """Running sums over the samples of one epoch or one evaluation.

    They stay on the device: adding a batch never waits for it.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Adds one batch: its mean `loss` (scalar), `scores` `[B, classes]`, `labels` `[B]`."""
        self.loss_sum += loss.double() * len(labels)
        cells = labels * self.classes + scores.argmax(1)
        self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))

    @property
    def samples(self) -> int:
        return int(self.confusion.sum())

    @property
    def loss(self) -> float:
        """Mean loss of the samples so far; NaN if there are none."""
        return _ratio(self.loss_sum.item(), self.samples)

    @property
    def accuracy(self) -> float:
        """Fraction of samples whose largest score is at their label; NaN if there are none."""
        return _ratio(self.confusion.trace().item(), self.samples)

    def reduce(self) -> "Score":
        """Adds up the sums of all processes, in place; returns itself."""
        sum_over_ranks(self.loss_sum)
        sum_over_ranks(self.confusion)
        return self

    def state(self) -> dict[str, Tensor]:
        """The sums of all processes, as a checkpoint stores them.

        `loss_sum` is one number, or one of each process: adding them up here would round the final
        sum differently. `confusion` counts, and is exact in any order.
        """
        confusion = self.confusion.clone()
        loss_sums = distributed.gather(self.loss_sum)
        return {
            "loss_sum": (loss_sums[0] if len(loss_sums) == 1 else loss_sums).cpu(),
            "confusion": sum_over_ranks(confusion).cpu(),
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Goes on from the sums that `state()` gave."""
        sums = state["loss_sum"].reshape(-1)
        # Of another number of processes only the sums between two epochs are taken: zeros.
        number = min(distributed.rank(), len(sums) - 1)
        self.loss_sum.copy_(sums[number])
        self.confusion.copy_(state["confusion"])
        if not distributed.is_main():
            self.confusion.zero_()


def mini_batch(loss: Tensor, scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean loss and `accuracy` of the batches that all processes have just computed."""
    if distributed.world_size() == 1:
        return loss.item(), accuracy(scores, labels)
    own = (loss.item() * len(labels), accuracy(scores, labels) * len(labels), len(labels))
    total, right, samples = sum_over_ranks(torch.tensor(own, dtype=torch.float64)).tolist()
    return total / samples, right / samples


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Fraction of the `[B, classes]` scores whose first maximum is at the label."""
    return (scores.argmax(1) == labels).double().mean().item()


def among_best(scores: Tensor, labels: Tensor, count: int) -> Tensor:
    """How many labels are among the `count` largest scores of their sample, a scalar int64; of
    equal scores the first ones count as larger, as in `accuracy`.
    """
    own = scores.gather(1, labels[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > own) | ((scores == own) & (classes < labels[:, None]))
    return (before.sum(1) < count).sum()


def _ratio(total: float, samples: int) -> float:
    return total / samples if samples else float("nan")
