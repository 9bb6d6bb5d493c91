"""One pass over samples: loss, accuracy, firing rates, and whoever else looks.

Trainer, `evaluate`, report, estimate, `calibrate` and loops of one's own all make this pass.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.analysis.decisions import DecisionCounter, LatencyCourse
from spikeloom.analysis.rates import FiringRates, SpikeCount
from spikeloom.data.base import Batch, DataSpec
from spikeloom.data.loader import Loader
from spikeloom.errors import DataError, NonFiniteError
from spikeloom.evaluation.metrics import Score, among_best, score_for, score_of
from spikeloom.evaluation.nonfinite import first_non_finite
from spikeloom.nn.classifier import Classifier, Output
from spikeloom.processes.distributed import common, sum_over_ranks
from spikeloom.run.device import autocast
from spikeloom.seeding import generator


@dataclass(frozen=True)
class Measurement:
    """One pass over a split. `confusion` `[label, prediction]` counts samples, on the CPU;
    `firing_rates` are spikes per neuron and time step by layer, `spikes` those of a layer per
    sample, and `neurons` its size; `rate`: that of all neurons together; empty or 0 if not asked
    for. Of a regression `accuracy` is r2, `confusion` is empty, and `errors` are mse, mae, r2."""

    loss: float
    accuracy: float
    confusion: Tensor
    samples: int
    firing_rates: dict[str, float]
    spikes: dict[str, float]
    neurons: dict[str, int]
    rate: float
    top5_accuracy: float | None
    """Part of the samples whose label is among the five largest scores; None up to 5 classes."""
    errors: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As metrics.jsonl has it."""
        figures: dict[str, Any] = {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "samples": self.samples,
        }
        if self.top5_accuracy is not None:
            figures["top5_accuracy"] = self.top5_accuracy
        return (
            figures
            | self.errors
            | ({"firing_rates": self.firing_rates} if self.firing_rates else {})
        )


Observer = Callable[[Output, Batch], None]
"""Is shown every batch of a pass, after the network has answered."""


@torch.no_grad()
def measure(
    classifier: Classifier,
    loader: Loader,
    *,
    spec: DataSpec,
    device: torch.device,
    precision: str = "float32",
    epoch: int = 0,
    with_rates: bool = False,
    noise: float = 0.0,
    noise_seed: int = 0,
    observers: Sequence[Observer] = (),
    paced: Callable[[Iterator[Batch]], Iterator[Batch]] = lambda batches: batches,
) -> Measurement:
    """One pass in evaluation mode over `loader.epoch(epoch)`, on this and all other processes.

    Args:
        spec: What the samples are.
        with_rates: Count spikes by layer.
        noise, noise_seed: Standard deviation of noise on the inputs, and the seed of its stream.
        observers: Who else looks at every batch: votes over time, first spikes, progress.
        paced: Gives the batches on, one at a time: where several processes, or whoever wants to
            stop the run, must agree.

    Raises:
        NonFiniteError: the loss became NaN or infinite; the text names the layer.
    """

    def answer(batch: Batch) -> Output:
        if not noise:
            return classifier(batch.inputs)
        return classifier(_noisy(batch.inputs, noise, noise_seed, batch.step))

    was_training = classifier.training
    classifier.eval()
    score = score_of(spec, device)
    try:
        with autocast(precision, device):
            batches = paced(loader.epoch(epoch))
            counted = classifier if with_rates else None
            measurement = measure_answers(
                counted, batches, answer, classifier.loss, observers, score
            )
        if measurement.samples and not math.isfinite(measurement.loss):
            error = _non_finite(classifier, loader, epoch)
            raise common(error, is_source="it began in" in str(error))
    finally:
        classifier.train(was_training)
    return measurement


def measure_answers(
    network: nn.Module | None,
    batches: Iterable[Batch],
    answer: Callable[[Batch], Output],
    loss: Callable[[Output, Tensor], Tensor],
    observers: Sequence[Observer] = (),
    score: Score | None = None,
) -> Measurement:
    """What `answer` to all `batches` comes to; firing rates are those of `network`, if it is given.

    `score`: the sums to begin with; by default those that fit the first answer.

    Raises:
        DataError: there is no batch, and no `score`; or shapes do not fit.
    """
    top5: Tensor | None = None
    with ExitStack() as stack:
        rates = None if network is None else stack.enter_context(FiringRates(network))
        for batch in batches:
            output = answer(batch)
            scores, targets = output.scores, batch.targets
            score = score or score_for(scores, targets)
            score.add(loss(output, targets), scores, targets)
            if score.classes > 5:
                best = among_best(scores, targets, 5)
                top5 = best if top5 is None else top5 + best
            for observe in observers:
                observe(output, batch)
    if score is None:
        raise DataError("no batch to evaluate on: give at least one")
    score.reduce()
    device = score.loss_sum.device
    if score.classes > 5:
        top5 = sum_over_ranks(torch.zeros_like(score.confusion[0, 0]) if top5 is None else top5)
    counts = {} if rates is None else _reduced(rates.counts(), device)
    return Measurement(
        loss=score.loss,
        accuracy=score.accuracy,
        confusion=score.confusion.cpu(),
        samples=score.samples,
        firing_rates={layer: count.rate for layer, count in counts.items()},
        spikes={layer: count.spikes / score.samples for layer, count in counts.items()},
        neurons={} if rates is None else rates.neurons(),
        rate=SpikeCount.sum(counts.values()).rate,
        top5_accuracy=None if top5 is None else top5.item() / max(score.samples, 1),
        errors=score.figures,
    )


def observe_latency(latency: LatencyCourse) -> Observer:
    """Shows `latency` the votes, where the method has votes per time step."""

    def observe(output: Output, batch: Batch) -> None:
        if output.votes is not None and not batch.targets.is_floating_point():
            latency.add(output.votes, batch.targets)

    return observe


def observe_decisions(decisions: DecisionCounter) -> Observer:
    """Shows `decisions` the output spikes, where the method has them."""

    def observe(output: Output, batch: Batch) -> None:
        if output.spikes is not None and not batch.targets.is_floating_point():
            decisions.add(output.spikes, batch.targets, output.potentials)

    return observe


def _noisy(inputs: Tensor, noise: float, seed: int, step: int) -> Tensor:
    """Drawn on the CPU, so that a GPU sees the same noise."""
    draws = torch.randn(inputs.shape, generator=generator(seed, step, "noise"))
    return inputs + noise * draws.to(inputs.device)


def _non_finite(classifier: Classifier, loader: Loader, epoch: int) -> NonFiniteError:
    for batch in loader.epoch(epoch):
        output = classifier(batch.inputs)
        if not classifier.loss(output, batch.targets).isfinite():
            where = first_non_finite(classifier, batch.inputs)
            return NonFiniteError(
                f"the loss on evaluation batch {batch.step} is not finite: it began in {where}; "
                "train again with a lower optimizer.lr, or with training.clip_norm"
            )
    return NonFiniteError("the loss on the evaluation samples is not finite")


def _reduced(counts: dict[str, SpikeCount], device: torch.device) -> dict[str, SpikeCount]:
    """Spikes and places of all processes."""
    totals = torch.tensor(list(counts.values()), dtype=torch.int64, device=device)
    rows = sum_over_ranks(totals.view(-1, 2)).tolist()
    return {layer: SpikeCount(*row) for layer, row in zip(counts, rows, strict=True)}
