"""Loss and accuracy as sums over samples: never a mean of means.

loss      = sum of (batch loss * batch size) / samples
accuracy  = trace(confusion) / sum(confusion),   confusion[label, prediction] counts samples

and of a regression with targets y and scores z, each the mean over the targets of a sample,

mse = mean (y - z)^2      mae = mean |y - z|      r2 = 1 - sum (y - z)^2 / sum (y - mean y)^2
"""

import math

import torch
from torch import Tensor

from spikeloom.data.base import DataSpec
from spikeloom.errors import DataError
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

    @property
    def figures(self) -> dict[str, float]:
        """More of them by name; none of classes."""
        return {}

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


class Errors(Score):
    """The same of a regression: `accuracy` is r2, and `confusion` is empty."""

    def __init__(self, targets: int, device: torch.device) -> None:
        super().__init__(0, device)
        # of each target: count, y, y^2, (y - z)^2, |y - z|
        self.sums = torch.zeros(5, targets, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """`scores` and `labels` `[B, targets]`."""
        self.loss_sum += loss.double() * len(labels)
        y, error = labels.double(), labels.double() - scores.double()
        parts = (torch.ones_like(y), y, y.square(), error.square(), error.abs())
        self.sums += torch.stack([part.sum(0) for part in parts])

    @property
    def samples(self) -> int:
        return int(self.sums[0, 0])

    @property
    def figures(self) -> dict[str, float]:
        """mse, mae, and r2; NaN if there are no samples. r2 is that of each target, averaged; a
        target that is the same for all samples has none."""
        n, y, squares, se, ae = self.sums
        r2 = 1 - se / (squares - y.square() / n)
        defined = r2[r2.isfinite()]
        means = {"mse": se / n, "mae": ae / n, "r2": defined if len(defined) else r2[:1] * math.nan}
        return {name: value.mean().item() for name, value in means.items()}

    @property
    def accuracy(self) -> float:
        return self.figures["r2"]

    def reduce(self) -> "Errors":
        sum_over_ranks(self.sums)
        sum_over_ranks(self.loss_sum)
        return self

    def state(self) -> dict[str, Tensor]:
        losses, sums = distributed.gather(self.loss_sum), distributed.gather(self.sums)
        return {"loss_sum": losses.cpu(), "sums": sums.cpu()}

    def load(self, state: dict[str, Tensor]) -> None:
        losses, sums = state["loss_sum"], state["sums"]
        number = min(distributed.rank(), len(sums) - 1)
        self.loss_sum = losses[number].to(self.loss_sum)
        self.sums = sums[number].to(self.sums)


def score_of(spec: DataSpec, device: torch.device) -> Score:
    """The running sums for samples of `spec`."""
    return Errors(spec.targets, device) if spec.targets else Score(len(spec.classes), device)


def score_for(scores: Tensor, targets: Tensor) -> Score:
    """Those for samples like these: of classes, or, where targets are real, of a regression."""
    if targets.is_floating_point():
        if targets.dim() != 2:
            raise DataError(f"targets {list(targets.shape)}: real targets are [B, K]")
        return Errors(targets.shape[1], scores.device)
    if targets.dim() != 1:
        raise DataError(f"targets {list(targets.shape)}: classes are [B], whole numbers")
    return Score(scores.shape[1], scores.device)


def mini_batch(loss: Tensor, scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean loss and `accuracy` of the batches that all processes have just computed."""
    if distributed.world_size() == 1:
        return loss.item(), accuracy(scores, labels)
    sums = (loss.item() * len(labels), accuracy(scores, labels) * len(labels), len(labels))
    total, right, samples = sum_over_ranks(torch.tensor(sums, dtype=torch.float64)).tolist()
    return total / samples, right / samples


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Fraction of the `[B, classes]` scores whose first maximum is at the label; r2 of real
    targets."""
    if labels.is_floating_point():
        errors = Errors(labels.shape[1], labels.device)
        errors.add(torch.zeros((), device=labels.device), scores, labels)
        return errors.accuracy
    return (scores.argmax(1) == labels).double().mean().item()


def among_best(scores: Tensor, labels: Tensor, count: int) -> Tensor:
    """How many labels are among the `count` largest scores of their sample, a scalar int64; of
    equal scores the first ones count as larger, as in `accuracy`.
    """
    right = scores.gather(1, labels[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > right) | ((scores == right) & (classes < labels[:, None]))
    return (before.sum(1) < count).sum()


def _ratio(total: float, samples: int) -> float:
    return total / samples if samples else float("nan")
