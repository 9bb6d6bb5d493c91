"""The result that a protocol reports, and which epoch it is of."""

from dataclasses import asdict, dataclass

from spikeloom.config.schema import Protocol


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


def choose(
    protocol: Protocol,
    best: Best | None,
    epoch: int,
    test: float,
    val: float | None,
    figure: str = "accuracy",
) -> Best:
    """The better of `best` and the accuracies of `epoch`."""
    value = test if val is None else val
    if best is not None and not protocol.better(value, best.value):
        return best
    return Best(epoch, f"{protocol.metric} {figure}", value, test)
