"""The ways of choosing the result that is reported.

accuracy-A  Train on the whole training set, test after every epoch, report the highest test
            accuracy. It selects on the test set; it is what most papers print.
accuracy-B  Hold out part of each class of the training set; report the test accuracy of the epoch
            with the best validation accuracy.

B has a published and a clean form. Published (Fang et al. 2021, `train_val.py`): the validation
samples go through the training transform, shuffled, the last partial batch dropped; of equal
validation accuracies the later epoch counts. Clean: the evaluation transform, every sample, the
first of equal epochs.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from spikeloom.config.schema import Protocol
from spikeloom.config.section import register
from spikeloom.errors import ConfigError

if TYPE_CHECKING:
    from spikeloom.data.base import DataSet, Split


class _Published(Protocol):
    """The keys of B; A keeps them, so that `protocol=B` of a recipe is the B that was published."""

    val_ratio: float = Field(
        default=0.15,
        gt=0,
        lt=1,
        description="part of each class that is held out for validation (B)",
    )
    validation: Literal["published", "clean"] = Field(
        default="clean",
        description=(
            "published: training transform, shuffled, last partial batch dropped, ties to the "
            "later epoch; clean: evaluation transform, all samples, the first best epoch (B)"
        ),
    )


@register
class BestTestEpoch(_Published):
    """Train on the whole training set, test after every epoch, report the best test epoch; of equal
    ones the later."""

    name: str = Field(default="A", description="A: best test epoch")

    def splits(self, data: "DataSet") -> "tuple[Split, Split | None]":
        return data.train, None

    def better(self, value: float, best: float) -> bool:
        return value >= best


@register
class BestValidationEpoch(_Published):
    """Hold out part of the training set, report the test result at the best validation epoch."""

    name: str = Field(default="B", description="B: best validation epoch")

    @property
    def metric(self) -> str:
        return "validation"

    @property
    def validates_like_training(self) -> bool:
        return self.validation == "published"

    def splits(self, data: "DataSet") -> "tuple[Split, Split | None]":
        from spikeloom.data.base import split_per_class, subset

        labels = data.train.labels
        if labels.is_floating_point():  # a regression has no classes to be fair to
            labels = (labels[:, 0] * 0).long()
        train, val = split_per_class(labels, self.val_ratio)
        if not len(train) or not len(val):
            raise ConfigError(
                f"protocol.val_ratio = {self.val_ratio} leaves {len(train)} training and "
                f"{len(val)} validation samples of {len(data.train)}: give a ratio that leaves both"
            )
        return subset(data.train, train), subset(data.train, val)

    def better(self, value: float, best: float) -> bool:
        return value > best or (value == best and self.validation == "published")
