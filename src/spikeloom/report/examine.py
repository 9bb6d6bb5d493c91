"""What only the trained network can tell: one sample in detail, latency, operations.

The best weights of the run see some of its test samples, once.
"""

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spikeloom.errors import SpikeloomError
from spikeloom.report.origin import Origin, examine_origin
from spikeloom.report.pictures import picture
from spikeloom.run.reading import RunRecord

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.analysis.decisions import DecisionCounter, Decisions
    from spikeloom.analysis.distributions import Spread
    from spikeloom.analysis.operations import Operations
    from spikeloom.analysis.traces import LayerTrace
    from spikeloom.data.base import Batch
    from spikeloom.nn.classifier import Classifier, Figure, Output

SAMPLES = 512
# Synapses evaluated in all, some ten seconds on two CPU cores. Large networks see fewer samples,
# but not fewer than these.
_BUDGET = 1e11
_FEWEST = 16
_FIGURE_SAMPLES = 16
_SHOWN = 8  # samples whose output spikes are drawn one by one


@dataclass(frozen=True)
class OutputSpikes:
    """What the output neurons did with one sample: `spikes` `[T, classes]`, on the CPU."""

    spikes: "Tensor"
    label: int


@dataclass(frozen=True)
class DecisionExamination:
    """Figures over the samples seen, a few of these, and the first of each class. `decide`: the
    prediction of the network is that of its first output spikes.
    """

    figures: "Decisions"
    samples: tuple[OutputSpikes, ...]
    by_class: tuple[OutputSpikes, ...]
    decide: bool


@dataclass(frozen=True)
class Examination:
    """Figures about `samples` of `test_samples` test samples, spread evenly over the test set.

    `accuracy` on them, of the best weights. `spikes` by layer and sample, `neurons` by layer;
    `rate`: spikes per neuron and time step, over all neurons.
    `latency`: accuracy after 1..T steps, empty for a network that does not vote step by step.
    `confusion[label][prediction]`: counts. The first test sample in detail: `image`, raw 8-bit
    `[C, H, W]` or event frames `[T, C, H, W]`; `label` (-1 of a regression); `scores` by class;
    `traces` by layer.
    `decisions`: what the output neurons did, if they spike.
    `figures`: what the method itself has to show, from a few of the samples.
    `distributions`: by constant, its values in every layer, before training and after.
    `origin`: what the run started from, if from another; on the same samples.
    """

    classes: tuple[str, ...]
    samples: int
    test_samples: int
    accuracy: float
    spikes: dict[str, float]
    neurons: dict[str, int]
    rate: float
    operations: "Operations"
    latency: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    image: "Tensor"
    label: int
    scores: tuple[float, ...]
    traces: "tuple[LayerTrace, ...]"
    decisions: DecisionExamination | None = None
    figures: "tuple[Figure, ...]" = ()
    distributions: "Mapping[str, Sequence[Spread]]" = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def image_source(self) -> str:
        """The first test sample as the address of an image; empty for what is no image."""
        return picture(self.image)

    @property
    def of_samples(self) -> str:
        if self.samples == self.test_samples:
            return f"all {self.samples:,} test samples"
        return f"{self.samples:,} of {self.test_samples:,} test samples"


def examine(run: RunRecord, samples: int = SAMPLES) -> Examination | str:
    """The examination of `run`, or the reason why there is none."""
    from spikeloom.report import stored

    try:
        return stored.read(run.folder) or _examine(run, samples)
    except SpikeloomError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or run.folder}: {error.strerror}"


def _examine(run: RunRecord, samples: int) -> Examination:
    import torch

    from spikeloom.analysis.decisions import DecisionCounter
    from spikeloom.analysis.distributions import constant_distributions
    from spikeloom.analysis.first_spike import first_spike_times
    from spikeloom.analysis.latency import LatencyCourse
    from spikeloom.analysis.operations import SynapticOperations
    from spikeloom.analysis.traces import trace
    from spikeloom.data.base import subset
    from spikeloom.data.loader import Loader
    from spikeloom.evaluation.evaluation import build, load_run
    from spikeloom.evaluation.loaders import make_transform
    from spikeloom.evaluation.measure import measure, observe_decisions, observe_latency
    from spikeloom.run.device import autocast, surroundings
    from spikeloom.seeding import seed_global, stream

    trained = load_run(run.folder)
    recipe, data, network = trained.recipe, trained.data, trained.classifier
    transform = make_transform(recipe.data, data, training=False)
    unused = torch.Generator()  # the evaluation transform draws nothing
    latency, decisions, outputs = LatencyCourse(), DecisionCounter(), list[OutputSpikes]()
    regression = bool(data.spec.targets)
    with ExitStack() as stack:
        stack.enter_context(surroundings(recipe.training, trained.device))
        stack.enter_context(autocast(recipe.training.precision, trained.device))
        stack.enter_context(torch.no_grad())
        # The network as it started is a function of the seed: it need not be stored.
        seed_global(stream(recipe.seed, "init"), trained.device)
        fresh = build(recipe, data.spec, trained.device)
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
            found = take(other, observers=[observe_latency(course)])
            return tuple(course.accuracy()), found.accuracy

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
            seen = take(network, with_rates=True, observers=observers)
        origin = None if regression else examine_origin(fresh, accuracies)
        few = chosen[:_FIGURE_SAMPLES]
        inputs = transform(data.test.read(few).to(trained.device), unused)
        figures = network.figures(inputs, data.test.labels[few].to(trained.device))
    return Examination(
        classes=data.spec.classes or tuple(f"target {k}" for k in range(data.spec.targets)),
        samples=count,
        test_samples=len(data.test),
        accuracy=seen.accuracy,
        spikes=seen.spikes,
        neurons=seen.neurons,
        rate=seen.rate,
        operations=operations.per_sample(),
        latency=tuple(latency.accuracy()),
        confusion=tuple(tuple(row) for row in seen.confusion.tolist()),
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
