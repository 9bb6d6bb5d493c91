"""One pass over test samples by a function of the user's: figures, and what a report shows."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeloom.analysis.decisions import LatencyCourse
from spikeloom.analysis.operations import SynapticOperations
from spikeloom.analysis.traces import trace
from spikeloom.data.base import Batch
from spikeloom.errors import DataError
from spikeloom.evaluation.measure import Measurement, measure_answers, observe_latency
from spikeloom.nn.classifier import Output
from spikeloom.report.examination import SAMPLES, Examination

Answer = Callable[[Tensor], Tensor | Output]
"""From inputs to scores `[B, classes]`, or `[T, B, classes]`: their mean over time is the score."""

Loss = Callable[[Tensor, Tensor], Tensor]


def scored(answer: Tensor | Output) -> Output:
    """The scores in what a network answered, and its votes where it has time.

    Raises:
        DataError: it is no tensor of two or three axes.
    """
    if isinstance(answer, tuple) and hasattr(answer, "scores"):
        return answer._replace(scores=answer.scores.float())
    if not isinstance(answer, Tensor) or answer.dim() not in (2, 3):
        shape = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise DataError(f"an answer of {shape}: expected scores [B, classes] or [T, B, classes]")
    if answer.dim() == 2:
        return Output(answer.float())
    return Output(answer.float().mean(0), answer.float())


def on_device(targets: Tensor, device: torch.device) -> Tensor:
    """Targets on `device`: classes as int64, real ones as they are."""
    return targets.to(device, targets.dtype if targets.is_floating_point() else torch.int64)


class Evaluated(NamedTuple):
    measurement: Measurement
    examination: Examination | None


@torch.no_grad()
def evaluate(
    network: nn.Module,
    answer: Answer,
    batches: Iterable[Any],
    loss: Loss | None,
    classes: tuple[str, ...],
    *,
    examined: bool,
) -> Evaluated:
    """Loss (NaN without a function for it), accuracy, confusion and firing rates over all batches;
    and, if `examined`, operations of the first samples and traces of the very first.

    Raises:
        DataError: there is no batch, or shapes do not fit.
    """
    latency, operations = LatencyCourse(), SynapticOperations(network)
    first: list[tuple[Output, Batch]] = []
    counted = 0

    def ask(batch: Batch) -> Output:
        nonlocal counted
        counting = examined and counted < SAMPLES
        counted += len(batch.targets) * counting
        with operations if counting else nullcontext():
            return scored(answer(batch.inputs))

    def remember(output: Output, batch: Batch) -> None:
        first.extend([(output, batch)] * (not first))

    def value(output: Output, targets: Tensor) -> Tensor:
        if loss is None:
            return output.scores.new_full((), math.nan)
        return loss(output.scores, targets).to(output.scores.device)

    device = next(network.parameters()).device
    looking = [remember, observe_latency(latency)]
    measurement = measure_answers(network, _pairs(batches, device), ask, value, looking)
    class_count = len(measurement.confusion)
    if not examined or not class_count:
        return Evaluated(measurement, None)
    ((output, batch),) = first
    names = classes if len(classes) == class_count else map(str, range(class_count))
    examination = Examination(
        classes=tuple(names),
        samples=measurement.samples,
        test_samples=measurement.samples,
        accuracy=measurement.accuracy,
        spikes=measurement.spikes,
        neurons=measurement.neurons,
        rate=measurement.rate,
        operations=operations.per_sample(samples=counted),
        latency=tuple(latency.accuracy()),
        confusion=tuple(tuple(row) for row in measurement.confusion.tolist()),
        image=_image(batch.inputs, len(batch.targets)),
        label=int(batch.targets[0]),
        scores=tuple(output.scores[0].tolist()),
        traces=tuple(trace(network, batch.inputs, answer=answer)),
    )
    return Evaluated(measurement, examination)


def _pairs(batches: Iterable[Any], device: torch.device) -> Iterator[Batch]:
    """Batches of `data.Loader`, or (inputs, targets)."""
    for step, (inputs, targets) in enumerate(batches):
        yield Batch(inputs, on_device(targets, device), step, len(targets))


def _image(inputs: Tensor, samples: int) -> Tensor:
    """The first sample as uint8 `[C, H, W]` where it is an image, else as it is (and not shown)."""
    first = inputs.dim() < 5 and inputs.shape[0] == samples
    sample = inputs[0] if first else inputs[:, 0]
    sample = sample.detach().cpu()
    if sample.dim() != 3 or sample.dtype == torch.uint8:
        return sample.clone()
    low, high = sample.min(), sample.max()
    return ((sample - low) / (high - low).clamp(min=1e-9) * 255).byte()
