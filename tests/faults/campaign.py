"""Kills training runs with SIGKILL at random instants, resumes them, and compares what they become.

    python campaign.py FOLDER [--recipe plif/digits] [--kills 100] [--seed 7] [--only 31]

One process loads everything, trains once without disturbance, and then forks a child for every
attempt, so that an attempt costs less than a second. Each run is killed up to six times. A kill
waits until its child is in a given phase (a step, a checkpoint, a rename, ...) for the n-th time
and strikes a random time later; every third one strikes at a random time of the run. What was hit
is what the child last wrote into memory that both share. Every sixth run writes a report after each
attempt and is killed in one too; every fourth begins with an empty cache, and where there are
events, is killed while it prepares their frames.

A run has survived if
- after each kill the folder can be used: it is resumed if there is a recipe.toml in it, and
  trained into again if not;
- no attempt goes on further behind the last optimizer step than the checkpoint interval;
- no file with a final name is ever half written;
- the finished run equals the undisturbed one in every bit apart from times.

Prints one line for each run that did not, a table of the kills by phase, and one line of JSON last.
The seed decides the plan of every run; the instant within a phase is the machine's.
"""

import argparse
import io
import itertools
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file

from run_folders import assert_same_run, scalars
from spikeloom import report
from spikeloom.data.events import cache
from spikeloom.methods.catalog import load_recipe
from spikeloom.run import checkpoint
from spikeloom.run import folder as run_folder
from spikeloom.run.records import JsonLines, TensorBoard
from spikeloom.training import resume, train, trainer
from spikeloom.training.journal import Journal
from spikeloom.training.position import Position
from spikeloom.training.trainer import Trainer

INTERVAL = 4  # optimizer steps between checkpoints
COMMON = (
    "epochs=2",
    "batch_size=96",
    "threads=1",
    f"checkpoint.every_steps={INTERVAL}",
    "logging.every_steps=3",
)
SMALL = ("T=4", "channels=8", "hidden=32", "lr=0.02", *COMMON)
RECIPES = {
    "plif/digits": SMALL,
    "plif/digits-events": SMALL,
    "glif/digits": ("T=2", "channels=4", *COMMON),
    "dsr/digits": ("T=2", "channels=4", *COMMON),
    "ide/digits": ("T=4", "network.channels=[4]", "max_iter=8", *COMMON),
    "fs/digits-events": ("T=24", "network.hidden=[32]", "output_neuron=[5.0,5.0,1.0]", *COMMON),
}
"""All methods, images and events; and what makes an attempt short, with layers that spike."""

# Phases of a run, and how long after its begin a kill strikes at the latest, in seconds.
PHASES = {
    "loading": 0.1,
    "restoring": 0.02,
    "step": 0.02,
    "evaluation": 0.05,
    "record": 0.001,
    "TensorBoard": 0.002,
    "checkpoint": 0.006,
    "flush to disk": 0.002,
    "rename or link": 0.0005,
    "weights": 0.004,
    "frame cache": 0.15,
    "report": 1.2,
}
NAMES = tuple(PHASES)
_CELL = struct.Struct("<iiii")  # phase, steps done, first step of this attempt, finished
_COUNTS = struct.Struct(f"<{len(NAMES)}i")


class Board:
    """What a child says about itself, in memory that its parent sees after the child is dead."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.clear()

    def clear(self) -> None:
        self._memory[:] = bytes(mmap.PAGESIZE)
        self._put(0, -1)

    def _put(self, place: int, value: int) -> None:
        struct.pack_into("<i", self._memory, 4 * place, value)

    def _get(self, place: int) -> int:
        return struct.unpack_from("<i", self._memory, 4 * place)[0]

    phase = property(lambda self: self._get(0), lambda self, value: self._put(0, value))
    done = property(lambda self: self._get(1), lambda self, value: self._put(1, value))
    first = property(lambda self: self._get(2), lambda self, value: self._put(2, value))
    finished = property(lambda self: self._get(3), lambda self, value: self._put(3, value))

    def entered(self, phase: int) -> int:
        """How often the child has entered `phase`."""
        return self._get(4 + phase)

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        number, before = NAMES.index(name), self.phase
        self._put(4 + number, self.entered(number) + 1)
        self.phase = number
        try:
            yield
        finally:
            self.phase = before


def watch(board: Board) -> None:
    """Makes this process, a child, say on `board` where it is."""

    def around(owner: object, function: str, phase: str) -> None:
        original = getattr(owner, function)

        def watched(*args: object, **kwargs: object) -> object:
            with board.during(phase):
                return original(*args, **kwargs)

        setattr(owner, function, watched)

    around(trainer, "load_data", "loading")
    around(Trainer, "restore", "restoring")
    around(Trainer, "train_step", "step")
    around(trainer, "measure", "evaluation")
    around(JsonLines, "emit", "record")
    around(TensorBoard, "emit", "TensorBoard")
    around(checkpoint, "write", "checkpoint")
    around(run_folder.RunFolder, "write_weights", "weights")
    around(cache, "_prepare", "frame cache")
    around(report, "write", "report")
    around(os, "fsync", "flush to disk")
    for function in ("replace", "rename", "link"):
        around(os, function, "rename or link")

    train_epoch, log_step = Trainer.train_epoch, Journal.step

    def begin(self: Trainer) -> None:
        if not board.entered(NAMES.index("step")):
            board.first = board.done = self.position.global_step
        train_epoch(self)

    def count(self: Journal, position: Position, *args: Any) -> None:
        board.done = position.global_step
        log_step(self, position, *args)

    Trainer.train_epoch, Journal.step = begin, count  # type: ignore[method-assign]


@dataclass(frozen=True)
class Kill:
    """Strikes `delay` seconds after `phase` was entered for the `nth` time; phase "any": after the
    start."""

    phase: str
    nth: int
    delay: float


@dataclass
class Tally:
    """What a campaign did and found."""

    runs: int = 0  # that were killed at least once
    kills: Counter[str] = field(default_factory=Counter)
    missed: int = 0  # the child was faster than the kill
    unborn: int = 0  # killed before there was a recipe.toml
    most_lost: int = 0
    failures: list[str] = field(default_factory=list)


class Campaign:
    """Runs of one recipe in `folder`, against an undisturbed one."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self.folder, self.name, self.seed = folder, name, seed
        self.recipe = load_recipe(name, RECIPES[name])
        self.board = Board()
        self.tally = Tally()
        self.whole = folder / "whole"
        self.caches = folder / "caches"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["SPIKELOOM_CACHE"] = str(self.caches / "shared")
        # Compiles the kernels, and loads what reports need, so that children find both in memory.
        self.reports = True
        self.train(folder / "warm")
        os.environ["SPIKELOOM_CACHE"] = str(self.caches / "whole")
        self.reports = False
        began = time.monotonic()
        code = self.wait(self.start(lambda: self.train(self.whole)))
        if code:
            raise SystemExit(f"the undisturbed run ended with status {code}")
        self.seconds = time.monotonic() - began
        self.usual = {name: self.board.entered(number) for number, name in enumerate(NAMES)}
        self.scalars = scalars(self.whole)

    def train(self, folder: Path) -> None:
        train(self.recipe, folder, console=Console(file=io.StringIO()))
        if self.reports:
            report.write([folder], samples=32)

    def resume(self, folder: Path) -> None:
        resume(folder, console=Console(file=io.StringIO()))
        if self.reports:
            report.write([folder], samples=32)

    def start(self, action: Callable[[], object]) -> int:
        """Runs `action` in a forked child; returns its number."""
        sys.stdout.flush()
        self.board.clear()
        child = os.fork()
        if child:
            return child
        try:
            watch(self.board)
            action()
            self.board.finished = 1
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)

    def wait(self, child: int) -> int:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def run(self, number: int) -> None:
        """One run: killed as planned, resumed, and compared."""
        dice = random.Random(f"{self.seed} {self.name} {number}")
        folder = self.folder / f"run{number}"
        fresh = number % 4 == 0
        os.environ["SPIKELOOM_CACHE"] = str(self.caches / (str(number) if fresh else "shared"))
        self.reports = number % 6 == 0
        count = dice.choice((1, 2, 3, 4, 5, 6))
        story: list[str] = []
        before = self.tally.kills.total()
        try:
            reached = 0  # optimizer steps done in all attempts so far
            for left in range(count, 0, -1):
                kill = self.plan(dice, left, fresh and left == count)
                code = self.attempt(folder, kill)
                phase = "between" if self.board.phase < 0 else NAMES[self.board.phase]
                story.append(f"{kill}: {'ended' if code == 0 else phase}")
                reached = self.check_loss(reached)
                if code == 0:
                    self.tally.missed += 1
                    break
                if code != -signal.SIGKILL:
                    raise AssertionError(f"an attempt ended with status {code}")
                self.tally.kills[phase] += 1
                self.check_files(folder)
            if code := self.wait(self.start(self.continuing(folder))):
                raise AssertionError(f"it could not be resumed: status {code}")
            self.check_loss(reached)
            self.check_files(folder)
            self.check_end(folder)
            shutil.rmtree(folder)
            shutil.rmtree(self.caches / str(number), ignore_errors=True)
        except (AssertionError, OSError, ValueError) as error:
            self.tally.failures.append(f"run {number} (seed {self.seed}): {error}; {story}")
            print(self.tally.failures[-1], flush=True)
        self.tally.runs += self.tally.kills.total() > before

    def plan(self, dice: random.Random, left: int, first: bool) -> Kill:
        """The next of `left` kills, in the first part of what is left of the run."""
        if first and self.usual["frame cache"]:
            return Kill("frame cache", 1, dice.uniform(0, PHASES["frame cache"]))
        if self.reports and left == 1:
            return Kill("report", 1, dice.uniform(0, PHASES["report"]))
        if dice.random() < 1 / 3:
            return Kill("any", 0, dice.uniform(0, self.seconds / left))
        phase = dice.choice([n for n in NAMES if self.usual[n] and n != "frame cache"])
        nth = dice.randint(1, max(1, self.usual[phase] // left))
        return Kill(phase, nth, dice.uniform(0, PHASES[phase]))

    def continuing(self, folder: Path) -> Callable[[], object]:
        if (folder / "recipe.toml").exists():
            return lambda: self.resume(folder)
        self.tally.unborn += folder.exists()
        return lambda: self.train(folder)

    def attempt(self, folder: Path, kill: Kill) -> int:
        """Trains or resumes and kills as planned; the exit status, 0 if it was too fast."""
        child = self.start(self.continuing(folder))
        if kill.phase != "any":
            number = NAMES.index(kill.phase)
            while self.board.entered(number) < kill.nth and not self.board.finished:
                if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    break
                time.sleep(5e-5)
        time.sleep(kill.delay)
        if not self.board.finished:
            os.kill(child, signal.SIGKILL)
        return self.wait(child)

    def check_loss(self, reached: int) -> int:
        """Compares where an attempt began with where the ones before it had come to."""
        if self.board.entered(NAMES.index("step")) == 0:
            return reached
        lost = reached - self.board.first
        self.tally.most_lost = max(self.tally.most_lost, lost)
        if lost > INTERVAL:
            raise AssertionError(f"{lost} steps were lost, and a checkpoint is {INTERVAL} steps")
        return max(self.board.done, 0)

    def check_files(self, folder: Path) -> None:
        """Whatever has a final name is whole."""
        for path in (folder / "checkpoints").glob("*.pt"):
            checkpoint.read(path)
        if (folder / "weights.safetensors").exists():
            load_file(folder / "weights.safetensors")
        page = folder / "report.html"
        if page.exists() and not page.read_text().rstrip().endswith("</html>"):
            raise AssertionError("half a report")
        if (folder / "environment.json").exists():
            json.loads((folder / "environment.json").read_text())

    def check_end(self, folder: Path) -> None:
        assert_same_run(folder, self.whole)
        if scalars(folder) != self.scalars:
            raise AssertionError("TensorBoard shows other numbers")
        if self.reports and not (folder / "report.html").exists():
            raise AssertionError("there is no report")
        # Another process may write a report at the same time, so a run does not clean up after one.
        left = [str(p) for p in folder.rglob("*.tmp") if not p.name.startswith("report.html")]
        if left:
            raise AssertionError(f"left behind: {left}")


def cpu_seconds() -> float:
    """Of this process and of all children that have ended."""
    used = os.times()
    return round(used.user + used.system + used.children_user + used.children_system, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="plif/digits", choices=RECIPES)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{given.recipe}: {given.kills} kills, seed {given.seed}", flush=True)
    began = time.monotonic()
    campaign = Campaign(given.folder, given.recipe, given.seed)
    tally = campaign.tally
    numbers = itertools.count() if given.only is None else iter([given.only])
    while tally.kills.total() < given.kills and (number := next(numbers, None)) is not None:
        campaign.run(number)
    for phase, count in tally.kills.most_common():
        print(f"{phase:>16} {count:5}")
    print(
        json.dumps(
            {
                "recipe": given.recipe,
                "seed": given.seed,
                "runs": tally.runs,
                "kills": sum(tally.kills.values()),
                "by_phase": dict(tally.kills),
                "missed": tally.missed,
                "before_recipe": tally.unborn,
                "interval": INTERVAL,
                "most_steps_lost": tally.most_lost,
                "failures": tally.failures,
                "seconds": round(time.monotonic() - began, 1),
                "cpu_seconds": cpu_seconds(),
            }
        )
    )


if __name__ == "__main__":
    main()
