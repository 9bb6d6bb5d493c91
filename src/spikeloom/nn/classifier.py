"""The one thing a trainer sees: a network with its readout and its loss."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn


class Output(NamedTuple):
    """What a classifier answers.

    `scores` `[B, classes]`: the larger, the more likely; the prediction is its first maximum.
    `votes` `[T, B, classes]` or None: the evidence that arrived at each time step, for latency
    curves. `spikes` `[T, B, classes]` or None: what the output neurons of each class fired at each
    time step, for figures about first spikes and rates. `potentials`, in the same shape: their
    potentials before reset.
    """

    scores: Tensor
    votes: Tensor | None = None
    spikes: Tensor | None = None
    potentials: Tensor | None = None


@dataclass(frozen=True)
class Figure:
    """A picture that a method adds to a report, as data: curves over a common axis.

    `curves[name][i]` is drawn at x = `start` + i. `title` and `note` stand above it; `x` and `y`
    name the axes, with units; `log` draws y logarithmically, if all values are positive.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Sequence[float]]
    note: str = ""
    start: int = 0
    log: bool = False


class Classifier(nn.Module):
    """Base class of what a method hands to the trainer.

    A method overrides `forward` and `loss`, and those of the hooks below that it needs; the trainer
    calls nothing else, and knows no method by name. One that goes step by step overrides `current`,
    `course` and `read` in the place of `forward`: it can then be exported as one step, too.
    """

    read_by: Literal["sum", "mean", "first spike"] | None = None
    """How `read` makes scores of a course: of its sum or its mean over time, or by first spikes."""

    course_names: tuple[str, ...] = ("course",)
    """What `course` answers, by name."""

    def forward(self, inputs: Tensor) -> Output:
        """Static data: `inputs` is `[B, C, H, W]`. Event data: `[T, B, C, H, W]`."""
        return self.read(*self.course(self.current(inputs)))

    def current(self, inputs: Tensor) -> Tensor:
        """What the first layer over time receives, `[T, B, ...]`; an image is expanded, not
        copied."""
        return inputs

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        """What the last layer answers at each step, `[T, B, N]`: step t is of steps 1 ... t."""
        raise TypeError(
            f"{type(self).__name__} must override forward(inputs) -> Output, or course and read"
        )

    def read(self, *course: Tensor) -> Output:
        """The answer to a course."""
        raise TypeError(f"{type(self).__name__} must override read(course) -> Output")

    def loss(self, output: Output, labels: Tensor) -> Tensor:
        """A scalar; `labels` is `[B]`, int64. Cross-entropy on the scores unless a method overrides
        it.
        """
        return nn.functional.cross_entropy(output.scores, labels)

    def parameter_groups(self) -> Iterable[dict[str, object]]:
        """Optimizer parameter groups; one group with everything by default. Keys besides `params`
        override the recipe's optimizer settings for that group; `lr_scale` multiplies its learning
        rate.
        """
        return [{"params": list(self.parameters())}]

    def start(self) -> None:
        """Called once before a training begins from nothing; not when a run is resumed or
        evaluated. A method that starts from files of another run loads them here.
        """

    @property
    def starts_from(self) -> str | None:
        """The run folder or weights file that `start` begins with; None if there is none."""
        return None

    def before_step(self) -> None:
        """Called after the backward pass, before the optimizer step (projections of gradients)."""

    def after_step(self) -> None:
        """Called after the optimizer step (clamps, projections of parameters)."""

    def figures(self, inputs: Tensor, labels: Tensor) -> list[Figure]:
        """Pictures of the method's own for a report, from one batch of test samples in evaluation
        mode."""
        return []

    @torch.no_grad()
    def scalars(self) -> dict[str, float]:
        """Extra figures to log once per epoch, by name."""
        return {}
