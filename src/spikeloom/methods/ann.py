"""The keys of a `[network]` that starts from a trained ANN."""

from typing import Self

from pydantic import Field, model_validator

from spikeloom.config.section import Section


class FromAnn(Section):
    """Keys of a network that may start from an ANN and the activations measured in it."""

    ann: str | None = Field(
        default=None,
        min_length=1,
        description="trained ANN to start from: its run folder or a weights file",
    )
    thresholds: str | None = Field(
        default=None,
        min_length=1,
        description="thresholds to start from: a file of `spikeloom calibrate`",
    )


class CompactFromAnn(FromAnn):
    """The same where only the network "compact" does, whose norms are scaled by both."""

    @model_validator(mode="after")
    def _ann_fits(self) -> Self:
        if self.ann is None and self.thresholds is None:
            return self
        if None in (self.ann, self.thresholds):
            lacking, key = ("ann", "thresholds")[:: 1 if self.ann is None else -1]
            raise ValueError(f"{key} is set and {lacking} is not: a start from an ANN takes both")
        if (name := getattr(self, "name", "")) != "compact":
            raise ValueError(
                f'ann = "{self.ann}": of these networks compact starts from an ANN, not {name}'
            )
        return self
