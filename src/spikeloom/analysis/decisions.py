"""How an output layer of spiking neurons decides: by its first spike, and by most spikes.

    first spike   f_c = step of the first spike of class c, from 1;  prediction = argmin f
    rate          r_c = spikes of class c per time step;             prediction = argmax r

and how that goes over time: the accuracy if the network were stopped at each step, and the delay
until it is good. Silent neurons are ranked behind all that fire, by the peaks of their potentials,
where these are known. Source: Liu, Leung, Dragotti, Frontiers in Neuroscience 17, 2023.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decisions:
    """Figures over `samples` test samples of T time steps; accuracies and shares are 0..1.

    `first_spike_accuracy`: a silent sample is decided by its potentials, and is wrong without them.
    `rate_accuracy`. `silent_share`: samples without any output spike. `decision_step`: mean step of
    the first output spike, from 1, over the others (NaN if there are none).
    `first_spike_course`, `rate_course`: accuracy if stopped after 1..T steps; a sample counts only
    once something has fired: the last of the former is the accuracy of early decisions.
    `predicted_rates`, `other_rates`: spikes per time step of the predicted class, and mean of the
    other classes, by the kind of prediction ("first-spike", "rate").
    """

    samples: int
    first_spike_accuracy: float
    rate_accuracy: float
    silent_share: float
    decision_step: float
    first_spike_course: list[float]
    rate_course: list[float]
    predicted_rates: dict[str, float]
    other_rates: dict[str, float]

    @property
    def early_accuracy(self) -> float:
        """Samples whose first output spike is at their label; silent ones count as wrong."""
        return self.first_spike_course[-1]


class DecisionCounter:
    """Adds up `Decisions` over batches."""

    def __init__(self) -> None:
        self._samples = 0
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, spikes: Tensor, labels: Tensor, potentials: Tensor | None = None) -> None:
        """`spikes`, and `potentials` before reset, `[T, B, classes]`; `labels` `[B]`, int64.

        `spikes` may be means over a population of neurons per class: anything but 0 is a spike.
        """
        if spikes.dim() != 3 or spikes.shape[1] != labels.shape[0] or not len(spikes):
            raise ValueError(
                f"spikes {list(spikes.shape)} and labels {list(labels.shape)} do not match: "
                "expected [T, B, classes] and [B]"
            )
        T, classes = len(spikes), spikes.shape[2]
        times = first_spike_times(spikes.double(), None if potentials is None else potentials)
        first, choice = times.min(1).values, times.argmin(1)
        fired = first <= T
        rates = spikes.double().mean(0)
        most = rates.argmax(1)
        right = (choice == labels) & (fired if potentials is None else True)
        steps = torch.arange(1, T + 1, device=spikes.device).view(-1, 1)
        total = rates.sum(1)
        sums = {
            "first": right.sum(),
            "rate": (most == labels).sum(),
            "silent": (~fired).sum(),
            "step": first[fired].sum(),
            "first course": ((first <= steps) & fired & (choice == labels)).sum(1),
            "rate course": rate_course(spikes, labels),
        }
        for kind, picked in (("first-spike", choice), ("rate", most)):
            rate = rates.gather(1, picked[:, None])[:, 0]
            sums[f"predicted {kind}"] = rate.sum()
            sums[f"other {kind}"] = ((total - rate) / max(classes - 1, 1)).sum()
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0) + value.double()
        self._samples += len(labels)

    def result(self) -> Decisions | None:
        """None before the first `add`."""
        if not self._samples:
            return None
        mean = {name: value / self._samples for name, value in self._sums.items()}
        decided = self._samples - self._sums["silent"].item()
        kinds = ("first-spike", "rate")
        return Decisions(
            samples=self._samples,
            first_spike_accuracy=mean["first"].item(),
            rate_accuracy=mean["rate"].item(),
            silent_share=mean["silent"].item(),
            decision_step=self._sums["step"].item() / decided if decided else math.nan,
            first_spike_course=mean["first course"].tolist(),
            rate_course=mean["rate course"].tolist(),
            predicted_rates={kind: mean[f"predicted {kind}"].item() for kind in kinds},
            other_rates={kind: mean[f"other {kind}"].item() for kind in kinds},
        )


def rate_course(spikes: Tensor, labels: Tensor) -> Tensor:
    """How many of the B samples are right after 1..T steps, `[T]`, if the class with most spikes
    so far is taken, the first of them where there are several. A sample without a spike is wrong.
    """
    choice, most = running_choice(spikes if spikes.is_floating_point() else spikes.double())
    return ((choice == labels) & (most > 0)).sum(1)


def time_delay(course: Sequence[float], percent: float) -> float:
    """td: the first step, from 0, at which the accuracy reaches `percent` % of its maximum over
    time; infinite if it never does.

    As published, accuracies are rounded to 0.01 % first, and may fall short by 0.001 %.
    """
    rounded = [round(100 * value, 2) for value in course]
    level = percent / 100 * max(rounded, default=math.inf)
    return next((t for t, value in enumerate(rounded) if value >= level - 1e-3), math.inf)


class LatencyCourse:
    """Accumulates, over batches, how many predictions are right after 1..T time steps.

    prediction after t steps = first maximum over classes of  votes_1 + .. + votes_t,     t = 1..T
    """

    def __init__(self) -> None:
        self._right: Tensor | None = None
        self.samples = 0

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
        self.samples += labels.shape[0]

    def accuracy(self) -> list[float]:
        """The fraction of samples that is right after 1..T steps; empty before the first `add`."""
        if self._right is None or not self.samples:
            return []
        return [right / self.samples for right in self._right.tolist()]


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


@torch.no_grad()
def first_spike_times(spikes: Tensor, potentials: Tensor | None = None) -> Tensor:
    """The time of the first spike of every neuron, `[B, N]`, for `spikes` `[T, B, N]`.

        f_n = 1..T           neuron n fires first in step f_n
        f_n = T + r_n        neuron n is silent: r_n = 1..N is its rank among the N neurons of its
                             sample, those with the higher peak of `potentials` `[T, B, N]` first

    Ranks are dealt to all N neurons, also to those that fire; equal peaks go to the lower index.
    Without `potentials` every silent neuron has T + 1. Anything but 0 is a spike. float64 where the
    spikes are, else float32.
    """
    fired = spikes != 0
    times = fired.int().argmax(0) + 1
    silent = spikes.shape[0] + (1 if potentials is None else peak_ranks(potentials))
    kind = torch.promote_types(spikes.dtype, torch.float32)
    return torch.where(fired.any(0), times, silent).to(kind)


def peak_ranks(potentials: Tensor) -> Tensor:
    """Rank 1..N of every neuron of a sample by the peak of its potential, `[B, N]`, int64."""
    order = potentials.amax(0).argsort(dim=-1, descending=True, stable=True)
    return order.argsort(-1) + 1
