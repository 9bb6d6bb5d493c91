"""One pass over test samples by a function of the user's: figures, and what a report shows."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeloom.analysis.latency import LatencyCourse
from spikeloom.analysis.operations import SynapticOperations
from spikeloom.analysis.rates import FiringRates, SpikeCount
from spikeloom.analysis.traces import trace
from spikeloom.errors import DataError
from spikeloom.evaluation.measure import Measurement
from spikeloom.evaluation.metrics import Errors, Score, among_best
from spikeloom.nn.classifier import Output
from spikeloom.report.examine import SAMPLES, Examination

Answer = Callable[[Tensor], Tensor | Output]
"""From inputs to scores `[B, classes]`, or `[T, B, classes]`: their mean over time is the score."""

Loss = Callable[[Tensor, Tensor], Tensor]


class Scored(NamedTuple):
    """`scores` `[B, classes]` of an answer, and `votes` `[T, B, classes]` where it has time."""

    scores: Tensor
    votes: Tensor | None


def scored(answer: Tensor | Output) -> Scored:
    """The scores in what a network answered.

    Raises:
        DataError: it is no tensor of two or three axes.
    """
    if isinstance(answer, tuple) and hasattr(answer, "scores"):
        return Scored(answer.scores.float(), answer.votes)
    if not isinstance(answer, Tensor) or answer.dim() not in (2, 3):
        shape = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise DataError(f"an answer of {shape}: expected scores [B, classes] or [T, B, classes]")
    if answer.dim() == 2:
        return Scored(answer.float(), None)
    return Scored(answer.float().mean(0), answer.float())


def pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a batch: of `data.Loader`, or (inputs, targets)."""
    inputs, targets = batch
    return inputs, targets


def on_scores(targets: Tensor, scores: Tensor) -> Tensor:
    """Targets beside `scores`: classes as int64, real ones as they are."""
    kind = targets.dtype if targets.is_floating_point() else torch.int64
    return targets.to(scores.device, kind)


def score_for(scores: Tensor, targets: Tensor) -> Score:
    """Sums for classes, or, where targets are real numbers `[B, K]`, for a regression."""
    if targets.is_floating_point():
        if targets.dim() != 2:
            raise DataError(f"targets {list(targets.shape)}: real targets are [B, K]")
        return Errors(targets.shape[1], scores.device)
    if targets.dim() != 1:
        raise DataError(f"targets {list(targets.shape)}: classes are [B], whole numbers")
    return Score(scores.shape[1], scores.device)


class Seen(NamedTuple):
    measurement: Measurement
    examination: Examination | None


@torch.no_grad()
def see(
    network: nn.Module,
    answer: Answer,
    batches: Iterable[Any],
    loss: Loss | None,
    classes: tuple[str, ...],
    *,
    examined: bool,
) -> Seen:
    """Loss (NaN without a function for it), accuracy, confusion and firing rates over all batches;
    and, if `examined`, operations of the first samples and traces of the very first.

    Raises:
        DataError: there is no batch, or shapes do not fit.
    """
    score: Score | None = None
    latency, top5, counted, first = LatencyCourse(), 0, 0, None
    operations = SynapticOperations(network)
    with FiringRates(network) as rates:
        for inputs, targets in _pairs(batches):
            counting = examined and counted < SAMPLES
            with operations if counting else nullcontext():
                output = answer(inputs)
            found = scored(output)
            targets = on_scores(targets, found.scores)
            if score is None:
                score, first = score_for(found.scores, targets), (inputs, targets, found.scores)
            counted += len(targets) * counting
            value = torch.tensor(math.nan) if loss is None else loss(found.scores, targets)
            score.add(value.to(found.scores.device), found.scores, targets)
            if targets.is_floating_point():
                continue
            if found.scores.shape[1] > 5:
                top5 += int(among_best(found.scores, targets, 5))
            if found.votes is not None:
                latency.add(found.votes, targets)
    if score is None or first is None:
        raise DataError("no batch to evaluate on: give at least one")
    counts, samples = rates.counts(), score.samples
    measurement = Measurement(
        loss=score.loss,
        accuracy=score.accuracy,
        confusion=score.confusion.cpu(),
        samples=samples,
        firing_rates=rates.per_layer(),
        spikes={layer: count.spikes / samples for layer, count in counts.items()},
        neurons=rates.neurons(),
        rate=SpikeCount.sum(counts.values()).rate,
        top5_accuracy=top5 / samples if score.classes > 5 else None,
        errors=score.figures,
    )
    if not examined or not score.classes:
        return Seen(measurement, None)
    inputs, targets, scores = first
    names = classes if len(classes) == score.classes else map(str, range(score.classes))
    examination = Examination(
        classes=tuple(names),
        samples=samples,
        test_samples=samples,
        accuracy=measurement.accuracy,
        spikes=measurement.spikes,
        neurons=measurement.neurons,
        rate=measurement.rate,
        operations=operations.per_sample(samples=counted),
        latency=tuple(latency.accuracy()),
        confusion=tuple(tuple(row) for row in measurement.confusion.tolist()),
        image=_image(inputs, len(targets)),
        label=int(targets[0]),
        scores=tuple(scores[0].tolist()),
        traces=tuple(trace(network, inputs, answer=answer)),
    )
    return Seen(measurement, examination)


def _pairs(batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches:
        yield pair(batch)


def _image(inputs: Tensor, samples: int) -> Tensor:
    """The first sample as uint8 `[C, H, W]` where it is an image, else as it is (and not shown)."""
    first = inputs.dim() < 5 and inputs.shape[0] == samples
    sample = inputs[0] if first else inputs[:, 0]
    sample = sample.detach().cpu()
    if sample.dim() != 3 or sample.dtype == torch.uint8:
        return sample.clone()
    low, high = sample.min(), sample.max()
    return ((sample - low) / (high - low).clamp(min=1e-9) * 255).byte()
