"""How far it is from one thing to the next: calls of functions of the library, and their files."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console

import spikeloom
from spikeloom.methods import catalog
from spikeloom.training.trainer import Trainer

ROOT = str(Path(spikeloom.__file__).parent)


def walk(action: Callable[[], Any]) -> tuple[Any, list[tuple[str, str]]]:
    """What `action` answers, and (file, function) of each call that lands in the library."""
    calls: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            calls.append((frame.f_code.co_filename, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        return action(), calls
    finally:
        sys.setprofile(before)


def test_from_a_name_to_a_recipe() -> None:
    catalog.load_recipe("plif/digits")  # finds methods and components, once in a process
    _, calls = walk(lambda: catalog.load_recipe("plif/digits"))
    assert len(calls) <= 200, calls
    assert len({file for file, _ in calls}) <= 9


def test_from_a_recipe_to_a_trainer() -> None:
    """Data, batches, the network layer by layer, optimizer and callbacks: all that is trained."""
    recipe = catalog.load_recipe("plif/digits")
    make = lambda: Trainer(recipe, torch.device("cpu"), Console(quiet=True))  # noqa: E731
    make()
    _, calls = walk(make)
    assert len(calls) <= 80, calls
    assert len({file for file, _ in calls}) <= 20, sorted({file for file, _ in calls})
