"""What is known about a training that no recipe describes, written as one: recipe.toml of its run.

The keys have the names that they have in recipes, so that reports and comparisons find them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from spikeloom import files
from spikeloom.data.base import DataSet
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.methods.catalog import OWN_LOOP
from spikeloom.run.checkpoint import State, recipe_difference
from spikeloom.training.saving import Check


def describe(
    title: str,
    seed: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: object | None,
    data: DataSet | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Title, seed, classes of network, optimizer and schedule, the optimizer's own values, and the
    user's `settings`."""
    for key, value in settings.items():
        if not isinstance(value, bool | int | float | str):
            raise ConfigError(
                f"settings[{key!r}] is {value!r}: give numbers, texts, or True and False"
            )
    about: dict[str, Any] = {
        "title": title,
        "method": OWN_LOOP,
        "seed": seed,
        "data": {} if data is None else {"name": data.spec.name},
        "network": {"name": type(network).__name__},
        "optimizer": {"name": type(optimizer).__name__} | _plain(optimizer.defaults),
        "schedule": {} if schedule is None else {"name": type(schedule).__name__},
        "protocol": {"name": "A"},
        "settings": dict(settings),
    }
    return {key: value for key, value in about.items() if value != {}}


def to_toml(about: Mapping[str, Any], epochs: int | None = None) -> str:
    training = {} if epochs is None else {"training": {"epochs": epochs}}
    return tomli_w.dumps({**about, **training})


def check(about: Mapping[str, Any]) -> Check:
    """Accepts the checkpoints of a loop that `about` describes."""

    def check(path: Path, state: State) -> None:
        try:
            theirs = files.parse_toml(state["recipe"])
        except ConfigError as error:
            raise CheckpointError(f"the description in {path} cannot be read: {error}") from error
        difference = recipe_difference(theirs, dict(about))
        if difference is not None:
            change = difference.replace("in recipe.toml", "here")
            raise CheckpointError(f"{path} is of another experiment: {change}")

    return check


def start_fields(
    about: Mapping[str, Any], data: DataSet | None, samples: int | None, votes: Tensor | None
) -> dict[str, Any]:
    """What the start of the training reports: it has `samples`, and `votes` in a mini-batch."""
    event = {
        "method": about["method"],
        "recipe": about["title"],
        "data": "data of its own" if data is None else data.spec.name,
        "time_steps": None if votes is None else len(votes),
        "notes": [] if data is None else list(data.notes),
    }
    return event | ({"train_samples": samples} if samples else {})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and truths; None, tensors and callables are left out."""
    kept = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
    return {
        key: value
        for key, value in kept.items()
        if all(
            isinstance(item, bool | int | float)
            for item in (value if isinstance(value, list) else [value])
        )
    }
