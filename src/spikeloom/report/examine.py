"""What only the trained network can tell: one sample in detail, latency, operations.

The best weights of the run see some of its test samples, once.
"""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from spikeloom.errors import SpikeloomError
from spikeloom.report.examination import (
    SAMPLES,
    DecisionExamination,
    Examination,
    Origin,
    OutputSpikes,
    read,
)
from spikeloom.run.reading import RunRecord

if TYPE_CHECKING:
    from spikeloom.analysis.decisions import DecisionCounter
    from spikeloom.data.base import Batch
    from spikeloom.nn.classifier import Classifier, Output

# Synapses evaluated in all, some ten seconds on two CPU cores. Large networks see fewer samples,
# but not fewer than these.
_BUDGET = 1e11
_FEWEST = 16
_FIGURE_SAMPLES = 16
_SHOWN = 8  # samples whose output spikes are drawn one by one


Pass = Callable[["Classifier"], tuple[tuple[float, ...], float]]
"""Accuracy after 1..T time steps (empty without votes), and accuracy, of a network on samples."""


def examine(run: RunRecord, samples: int = SAMPLES) -> Examination | str:
    """The examination of `run`, or the reason why there is none."""
    try:
        return read(run.folder) or _examine(run, samples)
    except SpikeloomError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or run.folder}: {error.strerror}"


def _examine(run: RunRecord, samples: int) -> Examination:
    import torch

    from spikeloom.analysis.constants import constant_distributions
    from spikeloom.analysis.decisions import DecisionCounter, LatencyCourse, first_spike_times
    from spikeloom.analysis.operations import SynapticOperations
    from spikeloom.analysis.traces import trace
    from spikeloom.data.base import subset
    from spikeloom.data.for_recipe import make_transform
    from spikeloom.data.loader import Draws, Loader
    from spikeloom.evaluation.evaluation import load_run
    from spikeloom.evaluation.measure import measure, observe_decisions, observe_latency
    from spikeloom.methods import catalog
    from spikeloom.run.device import autocast, surroundings
    from spikeloom.seeding import seed_global, stream

    trained = load_run(run.folder)
    recipe, data, network = trained.recipe, trained.data, trained.classifier
    transform = make_transform(recipe.data, data.spec, data.mean, data.std, training=False)
    unused = Draws()  # the evaluation transform draws nothing
    latency, decisions, outputs = LatencyCourse(), DecisionCounter(), list[OutputSpikes]()
    regression = bool(data.spec.targets)
    with ExitStack() as stack:
        stack.enter_context(surroundings(recipe.training, trained.device))
        stack.enter_context(autocast(recipe.training.precision, trained.device))
        stack.enter_context(torch.no_grad())
        # The network as it started is a function of the seed: it need not be stored.
        seed_global(stream(recipe.seed, "init"), trained.device)
        fresh = catalog.build(recipe, data.spec, trained.device)
        spreads = constant_distributions(fresh, network)
        image = data.test.read(torch.tensor([0]))
        inputs = transform(image.to(trained.device), unused)
        with SynapticOperations(network) as operations:
            scores = network(inputs).scores[0].float()
        traces = trace(network, inputs)
        layers = operations.per_sample().layers
        work = sum(layer.synapses * layer.evaluations for layer in layers)
        affordable = max(_FEWEST, int(_BUDGET / max(work, 1)))
        count = min(samples, affordable, len(data.test))
        # Spread over the test set: some are stored class by class.
        chosen = torch.arange(count) * len(data.test) // count
        # In batches as training evaluated: other sizes round differently, and a spike may flip.
        size = recipe.data.eval_batch_size or recipe.data.batch_size
        loader = Loader(subset(data.test, chosen), size, transform=transform, device=trained.device)
        take = functools.partial(
            measure,
            loader=loader,
            spec=data.spec,
            device=trained.device,
            precision=recipe.training.precision,
        )

        def accuracies(other: "Classifier") -> tuple[tuple[float, ...], float]:
            course = LatencyCourse()
            measured = take(other, observers=[observe_latency(course)])
            return tuple(course.accuracy()), measured.accuracy

        first_decides = True

        def look(output: "Output", batch: "Batch") -> None:
            nonlocal first_decides
            if output.spikes is None or regression:
                return
            shown = zip(output.spikes.cpu().unbind(1), batch.targets.tolist(), strict=True)
            outputs.extend(OutputSpikes(spikes, label) for spikes, label in shown)
            choices = first_spike_times(output.spikes.double(), output.potentials).argmin(1)
            first_decides &= bool((choices == output.scores.argmax(1)).all())

        observers = [observe_latency(latency), observe_decisions(decisions), look]
        with SynapticOperations(network) as operations:
            measured = take(network, with_rates=True, observers=observers)
        origin = None if regression else _origin(fresh, accuracies)
        few = chosen[:_FIGURE_SAMPLES]
        inputs = transform(data.test.read(few).to(trained.device), unused)
        figures = network.figures(inputs, data.test.labels[few].to(trained.device))
    return Examination(
        classes=data.spec.classes or tuple(f"target {k}" for k in range(data.spec.targets)),
        samples=count,
        test_samples=len(data.test),
        accuracy=measured.accuracy,
        spikes=measured.spikes,
        neurons=measured.neurons,
        rate=measured.rate,
        operations=operations.per_sample(),
        latency=tuple(latency.accuracy()),
        confusion=tuple(tuple(row) for row in measured.confusion.tolist()),
        image=image[:, 0] if data.spec.kind == "events" else image[0],
        label=-1 if regression else int(data.test.labels[0]),
        scores=tuple(scores.tolist()),
        traces=tuple(traces),
        decisions=_decisions(decisions, outputs, first_decides),
        figures=tuple(figures),
        distributions=spreads,
        origin=origin,
    )


def _decisions(
    counter: "DecisionCounter", outputs: list[OutputSpikes], decide: bool
) -> DecisionExamination | None:
    """The figures, some samples in the order of the test set, and the first of each class."""
    figures = counter.result()
    if figures is None:
        return None
    first = {output.label: output for output in reversed(outputs)}
    few = outputs[:: max(len(outputs) // _SHOWN, 1)][:_SHOWN]
    by_class = [output for _, output in sorted(first.items(), key=lambda item: item[0])]
    return DecisionExamination(figures, tuple(few), tuple(by_class), decide)


def _origin(fresh: "Classifier", measure: Pass) -> Origin | None:
    """`fresh`: the network as the recipe builds it. None if it starts from nothing."""
    source = fresh.starts_from
    if source is None:
        return None
    try:
        fresh.start()
        latency, accuracy = measure(fresh.eval())
        return Origin(source, latency, accuracy, _accuracy_of(Path(source), measure))
    except SpikeloomError as error:
        return Origin(source, missing=str(error))


def _accuracy_of(source: Path, measure: Pass) -> float | None:
    from spikeloom.evaluation.evaluation import load_run

    if not source.is_dir():
        return None
    return measure(load_run(source).classifier)[1]
