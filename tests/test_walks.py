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


def walk(action: Callable[[], Any], beside: str = "") -> tuple[Any, list[tuple[str, str]]]:
    """What `action` answers, and (file, function) of each call that lands in the library, without
    those inside of the function called `beside`."""
    calls: list[tuple[str, str]] = []
    inside: list[FrameType] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "return" and inside and frame is inside[-1]:
            inside.pop()
        if event != "call" or inside or not frame.f_code.co_filename.startswith(ROOT):
            return
        calls.append((frame.f_code.co_filename, frame.f_code.co_qualname))
        if frame.f_code.co_qualname == beside:
            inside.append(frame)

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
    """Beside what the method's own network takes to be built, layer by layer; and with that."""
    recipe = catalog.load_recipe("plif/digits")
    make = lambda: Trainer(recipe, torch.device("cpu"), Console(quiet=True))  # noqa: E731
    make()
    _, calls = walk(make, "Method.build")
    assert len(calls) <= 80, calls
    assert len({file for file, _ in calls}) <= 20, sorted({file for file, _ in calls})
    _, calls = walk(make)
    assert len(calls) <= 100, calls
