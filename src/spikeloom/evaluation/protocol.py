"""The two ways of choosing the accuracy that is reported.

accuracy-A  Train on the whole training set, test after every epoch, report the highest test
            accuracy. It selects on the test set; it is what most papers print.
accuracy-B  Hold out part of each class of the training set; report the test accuracy of the epoch
            with the best validation accuracy.

B has a published and a clean form. Published (Fang et al. 2021, `train_val.py`): the validation
samples go through the training transform, shuffled, the last partial batch dropped; of equal
validation accuracies the later epoch counts. Clean: the evaluation transform, every sample, the
first of equal epochs.
"""

from dataclasses import asdict, dataclass

from spikeloom.config.schema import ProtocolConfig
from spikeloom.data.base import DataSet, Split, subset
from spikeloom.data.split import split_per_class
from spikeloom.errors import ConfigError


@dataclass(frozen=True)
class Best:
    """The result that a protocol reports so far.

    `value` is the figure that chose `epoch`, named by `metric`; accuracies are fractions.
    """

    epoch: int
    metric: str
    value: float
    test_accuracy: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class Protocol:
    """A recipe's protocol: which samples train, which validate, and which epoch is reported."""

    def __init__(self, config: ProtocolConfig) -> None:
        self.name = config.name
        self.metric = "test accuracy" if config.name == "A" else "validation accuracy"
        # Whether validation runs like training does: its transform, shuffled, full batches only.
        self.validates_like_training = config.name == "B" and config.validation == "published"
        self._later_wins_ties = config.name == "A" or config.validation == "published"
        self._val_ratio = config.val_ratio

    def splits(self, data: DataSet) -> tuple[Split, Split | None]:
        """The training split and, for B, the validation split.

        Raises:
            ConfigError: `protocol.val_ratio` leaves one of them empty.
        """
        if self.name == "A":
            return data.train, None
        train, val = split_per_class(data.train.labels, self._val_ratio)
        if not len(train) or not len(val):
            raise ConfigError(
                f"protocol.val_ratio = {self._val_ratio} leaves {len(train)} training and "
                f"{len(val)} validation samples of {len(data.train)}: give a ratio that leaves both"
            )
        return subset(data.train, train), subset(data.train, val)

    def choose(self, best: Best | None, epoch: int, test: float, val: float | None) -> Best:
        """The better of `best` and the accuracies of `epoch`."""
        value = test if val is None else val
        if best is not None:
            tie = value == best.value and not self._later_wins_ties
            if value < best.value or tie:
                return best
        return Best(epoch, self.metric, value, test)
