"""What a trained network tells about some samples, and its file in a run folder.

Runs whose network only the user's own program can build keep it: `examination.pt` is what
torch.save writes of tensors and builtins, and is read as such alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeloom import files
from spikeloom.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.analysis.constants import Spread
    from spikeloom.analysis.decisions import Decisions
    from spikeloom.analysis.operations import Operations
    from spikeloom.analysis.traces import LayerTrace
    from spikeloom.nn.classifier import Figure

SAMPLES = 512
NAME = "examination.pt"
_PLAIN = (
    *("classes", "samples", "test_samples", "accuracy", "spikes", "neurons", "rate", "latency"),
    *("confusion", "image", "label", "scores"),
)


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
class Origin:
    """What a run started from, if from another one, on the samples of the examination.

    `latency`: accuracy after 1..T steps before training; `accuracy` at the end of them.
    `source`: the run or file it started from, and `source_accuracy` of the network there, None
    if it is no run folder. `missing` instead of all figures: why they could not be taken.
    """

    source: str
    latency: tuple[float, ...] = ()
    accuracy: float = 0.0
    source_accuracy: float | None = None
    missing: str = ""


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
    def of_samples(self) -> str:
        if self.samples == self.test_samples:
            return f"all {self.samples:,} test samples"
        return f"{self.samples:,} of {self.test_samples:,} test samples"


def write(folder: Path, examination: Examination) -> None:
    """Keeps `examination`, without decisions, figures, distributions and origin."""
    import torch

    operations = examination.operations
    content: dict[str, Any] = {name: getattr(examination, name) for name in _PLAIN}
    content["traces"] = [asdict(trace) for trace in examination.traces]
    content["operations"] = {
        "layers": [
            {key: value for key, value in asdict(layer).items() if key != "constants"}
            for layer in operations.layers
        ],
        "samples": operations.samples,
        "updates": operations.updates,
        "neurons": operations.neurons,
    }
    with files.replacing(folder / NAME, sync=True) as temporary:
        torch.save(content, temporary)


def read(folder: Path) -> Examination | None:
    """What `write` kept; None if nothing.

    Raises:
        RunError: the file is damaged, or holds something else.
    """
    from spikeloom.analysis.operations import LayerOperations, Operations
    from spikeloom.analysis.traces import LayerTrace
    from spikeloom.data.files import saved_tensors

    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content: Any = saved_tensors.load(path)
        operations = content["operations"]
        layers = tuple(LayerOperations(**layer) for layer in operations.pop("layers"))
        return Examination(
            **{name: content[name] for name in _PLAIN},
            traces=tuple(LayerTrace(**trace) for trace in content["traces"]),
            operations=Operations(layers=layers, **operations),
        )
    except (saved_tensors.RefusedError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}): evaluate the network again") from error
