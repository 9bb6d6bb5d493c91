"""Trains plif/digits twice: undisturbed, and killed with SIGKILL again and again.

    python kill_driver.py FOLDER BACKEND        prints the number of kills last

Each attempt is a child of this process, forked before torch has started any thread.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from spikeloom.methods.catalog import load_recipe
from spikeloom.training import resume, train

OVERRIDES = (
    "epochs=3",
    "T=2",
    "channels=4",
    "hidden=16",
    "batch_size=96",
    "threads=1",
    "checkpoint.every_steps=4",
    "logging.every_steps=3",
)


def start(action: Callable[[], object]) -> int:
    """Runs `action` in a child process; returns its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        action()
        sys.stdout.flush()
        os._exit(0)
    return child


def finish(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"the training process ended with status {status}")


def main(folder: Path, backend: str) -> None:
    recipe = load_recipe("plif/digits", [*OVERRIDES, f"backend={backend}"])
    warm = folder / "warm"
    finish(start(lambda: train(recipe, warm)))  # compiles the kernels, if any
    began = time.monotonic()
    finish(start(lambda: train(recipe, folder / "whole")))
    duration = time.monotonic() - began

    killed, chance, kills = folder / "killed", random.Random(0), 0
    while kills < 8:
        fresh = not (killed / "recipe.toml").exists()
        action = (lambda: train(recipe, killed)) if fresh else (lambda: resume(killed))
        child = start(action)
        time.sleep(chance.uniform(0.2, 0.8) * duration)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        kills += 1
        if fresh and not (killed / "recipe.toml").exists() and killed.exists():
            for left_over in killed.iterdir():
                left_over.unlink()
    finish(start(lambda: resume(killed)))
    print("kills:", kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
