"""Trained networks that come with the package: `zoo/NAME` in place of a run folder.

Each is a `weights.safetensors` of a run in half precision, with a card beside it: what it is, how
it was trained, and how good it is.
"""

import hashlib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from spikeloom.errors import RunError
from spikeloom.suggest import did_you_mean

PREFIX = "zoo/"
FOLDER = Path(__file__).parent / "weights"


class Card(BaseModel):
    """What is known of one network of the zoo.

    Accuracies are fractions. `accuracy_b` is that of this file, measured on all `samples` of the
    test set; its epoch was chosen on 15 % of the training set, which it was not trained on.
    `accuracy_a` is the highest test accuracy of any epoch of the same training. `firing_rates`:
    spikes per neuron and time step, by layer; `spikes_per_neuron` of one sample. `picojoule`: the
    estimate of `spikeloom eval`, a sample; `dense_picojoule` that of the same network without
    spikes. `sha256`: of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    method: str
    data: str
    recipe: str
    command: str
    seed: int
    epochs: int
    protocol: str
    accuracy_a: float
    accuracy_b: float
    samples: int
    parameters: int
    dtype: str
    time_steps: int | None
    firing_rates: dict[str, float]
    spikes_per_neuron: float
    picojoule: float
    dense_picojoule: float
    training_seconds: float
    machine: str
    versions: str
    sha256: str


def names() -> list[str]:
    """All networks of the zoo, as "plif-digits"."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def card(name: str) -> Card:
    """The card of a network, with or without `zoo/` before its name.

    Raises:
        RunError: there is no such network.
    """
    name = name.removeprefix(PREFIX)
    if name not in names():
        raise RunError(f"{PREFIX}{name} is none of the networks here{did_you_mean(name, names())}")
    return Card.model_validate_json((FOLDER / f"{name}.json").read_bytes())


def located(source: Path | str) -> Path:
    """The file of weights of `zoo/NAME`; every other path as it is.

    Raises:
        RunError: there is no such network, or its file is not the one of its card.
    """
    text = str(source)
    if not text.startswith(PREFIX) or Path(text).exists():
        return Path(source).expanduser()
    return _checked(card(text).name)


@cache
def _checked(name: str) -> Path:
    path = FOLDER / f"{name}.safetensors"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}): install again") from error
    if digest != card(name).sha256:
        raise RunError(f"{path} is damaged: its SHA-256 is not that of its card: install again")
    return path
