"""Population readout: several neurons vote for each class."""

from torch import Tensor, nn


class Voting(nn.Module):
    """Average groups of neighbouring neurons.

        y[..., c] = (1 / votes) * sum_j x[..., c * votes + j]

    `votes`: 10 neurons per class. Takes `[..., classes * votes]` (with or without time), gives
    `[..., classes]`. Raises `ValueError` if the last axis is not a multiple of `votes`.
    """

    time_first = True

    def __init__(self, votes: int = 10) -> None:
        super().__init__()
        if votes < 1:
            raise ValueError(f"votes={votes!r}: expected at least one neuron per class")
        self.votes = votes

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.votes:
            raise ValueError(
                f"{x.shape[-1]} neurons do not divide into groups of {self.votes}: "
                "give the last layer classes * votes outputs"
            )
        return x.unflatten(-1, (-1, self.votes)).mean(-1)

    def extra_repr(self) -> str:
        return f"votes={self.votes}"
