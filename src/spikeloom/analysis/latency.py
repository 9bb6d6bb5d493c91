"""Accuracy over time steps: how early could the network have been stopped?

prediction after t steps = first maximum over classes of  votes_1 + .. + votes_t,      t = 1..T
"""

import torch
from torch import Tensor


class LatencyCourse:
    """Accumulates, over batches, how many predictions are right after 1..T time steps."""

    def __init__(self) -> None:
        self._right: Tensor | None = None
        self._samples = 0

    @torch.no_grad()
    def add(self, votes: Tensor, labels: Tensor) -> None:
        """`votes` `[T, B, classes]`, the evidence of each time step; `labels` `[B]`, int64."""
        if votes.dim() != 3 or votes.shape[1] != labels.shape[0]:
            raise ValueError(
                f"votes {list(votes.shape)} and labels {list(labels.shape)} do not match: "
                "expected [T, B, classes] and [B]"
            )
        right = (running_choice(votes)[0] == labels).sum(1)
        self._right = right if self._right is None else self._right + right
        self._samples += labels.shape[0]

    @property
    def samples(self) -> int:
        return self._samples

    def accuracy(self) -> list[float]:
        """The fraction of samples that is right after 1..T steps; empty before the first `add`."""
        if self._right is None or not self._samples:
            return []
        return [right / self._samples for right in self._right.tolist()]


def running_choice(votes: Tensor) -> tuple[Tensor, Tensor]:
    """The first class whose `votes` `[T, B, classes]` add up to the maximum after 1..T steps, and
    that maximum; both `[T, B]`.

    Votes are often means over neurons, tenths that no float holds: two classes with equally many
    spikes then differ in the last bits. Each vote is off by at most eps / 2 of itself, and each
    of the additions in float64 by less than its eps: sums that are closer than these times the
    sum of magnitudes count as equal, as they are before rounding.
    """
    exact = votes.double()
    sums = exact.cumsum(0)
    most = sums.amax(-1)
    eps = torch.finfo(votes.dtype).eps + len(votes) * torch.finfo(torch.float64).eps
    slack = eps * exact.abs().cumsum(0).amax(-1)
    return (sums >= (most - slack)[..., None]).int().argmax(-1), most
