"""Kills processes of trainings on two, which torchrun's agent starts again, and compares the ends.

    python elastic.py FOLDER [--recipe plif/digits] [--kills 40] [--seed 7]

Each launch is torchrun's own agent and store in a process of its own. Its workers are forked from
one that has loaded everything, and do what `spikeloom train` does. In each start of a launch but
the last a process drawn by lot is killed with SIGKILL at a random time, also while they join; not
after it has returned to the agent's code, which was seen to wait for one that died there. A launch
has survived if it ends well, without a restart that nobody caused, and the run equals the
undisturbed one in every bit.

Prints one line for each launch that did not, and one line of JSON last.
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
import warnings
from pathlib import Path

import torch
import torch._dynamo  # what an optimizer imports, seconds long: once, before there are workers
from campaign import RECIPES, cpu_seconds
from rich.console import Console
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from run_folders import assert_same_run
from spikeloom import training
from spikeloom.config.schema import Recipe
from spikeloom.methods.catalog import load_recipe

WORLD = 2
PATIENCE = 120.0  # seconds after which a launch counts as hanging
LONGER = "epochs=6"  # most of a start is joining
GONE = -1  # in place of a process's number: it has done its work


class Board:
    """For each start: what each process is, so that it can be killed, and how many ended well."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)

    def write(self, start: int, rank: int, value: int) -> None:
        struct.pack_into("<i", self.memory, 4 * (WORLD * start + rank), value)

    def read(self, start: int, rank: int) -> int:
        return struct.unpack_from("<i", self.memory, 4 * (WORLD * start + rank))[0]


def work(recipe: Recipe, folder: Path, board: Board) -> None:
    """What `spikeloom train` does in each process."""
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    rank = int(os.environ["RANK"])
    board.write(restarts, rank, os.getpid())
    torch.set_num_threads(1)
    console = Console(file=io.StringIO())
    with training.processes():
        if training.restarted_folder(folder, folder.parent) is None:
            training.train(recipe, folder, console=console)
        else:
            training.resume(folder, console=console)
    board.write(restarts, rank, GONE)


def launch(recipe: Recipe, folder: Path, board: Board, restarts: int) -> int:
    """Starts the agent in a forked process; returns its number."""
    board.memory[:] = bytes(mmap.PAGESIZE)
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(folder.with_suffix(".txt"), os.O_CREAT | os.O_WRONLY), 2)
    os.dup2(2, 1)
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(folder.with_suffix(".json"))
    config = LaunchConfig(
        *(1, 1, WORLD),
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        rdzv_configs={"timeout": 60},
        max_restarts=restarts,
        monitor_interval=0.1,
        start_method="fork",
    )
    code = 1
    try:
        elastic_launch(config, work)(recipe, folder, board)
        code = 0
    finally:
        os._exit(code)


def wait(child: int, until: float) -> int | None:
    """Its exit code; None if it goes on after `until`."""
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def disturbed(
    recipe: Recipe, folder: Path, board: Board, dice: random.Random, seconds: float
) -> tuple[int, str]:
    """One launch; how many processes were killed, and what went wrong, or nothing.

    A kill falls in the first `seconds` of a start.
    """
    plan = [dice.uniform(0, seconds) for _ in range(dice.randint(1, 3))]
    child = launch(recipe, folder, board, restarts=len(plan))
    until, kills, code = time.monotonic() + PATIENCE, 0, None
    for start, delay in enumerate(plan):
        rank = dice.randrange(WORLD)
        while not board.read(start, rank) and code is None and time.monotonic() < until:
            code = wait(child, time.monotonic() + 0.02)
        if code is None:
            code = wait(child, time.monotonic() + delay)
        if code is not None or (process := board.read(start, rank)) <= 0:
            break
        try:
            os.kill(process, signal.SIGKILL)
            kills += 1
        except ProcessLookupError:  # it ended a moment before
            break
    if code is None:
        code = wait(child, until)
    if code is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return kills, f"hung for {PATIENCE} s"
    return kills, f"ended with {code}" if code else ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="plif/digits", choices=RECIPES)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of forking with threads
    os.environ |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    print(
        f"{given.recipe} on {WORLD} processes: {given.kills} kills, seed {given.seed}", flush=True
    )
    began = time.monotonic()
    changes = [change for change in RECIPES[given.recipe] if not change.startswith("epochs=")]
    recipe = load_recipe(given.recipe, [*changes, LONGER, "tensorboard=false"])
    given.folder.mkdir(parents=True)
    training.train(recipe, given.folder / "warm", console=Console(file=io.StringIO()))
    board, whole = Board(), given.folder / "whole"
    started = time.monotonic()
    if wait(launch(recipe, whole, board, 0), time.monotonic() + PATIENCE) != 0:
        sys.exit(f"the undisturbed launch failed: {whole.with_suffix('.txt').read_text()}")
    seconds = time.monotonic() - started
    launches = kills = 0
    failures: list[str] = []
    for number in itertools.count():
        if kills >= given.kills or len(failures) > 5:
            break
        folder = given.folder / f"run{number}"
        dice = random.Random(f"{given.seed} {given.recipe} {number}")
        hit, problem = disturbed(recipe, folder, board, dice, seconds)
        launches, kills = launches + (hit > 0), kills + hit
        if not problem:
            try:
                assert_same_run(folder, whole)
            except (AssertionError, OSError) as error:
                problem = f"is another run: {error}"
        if problem:
            failures.append(f"launch {number} (seed {given.seed}), {hit} kills: it {problem}")
            print(failures[-1], flush=True)
        else:
            shutil.rmtree(folder)
    found = {
        "recipe": given.recipe,
        "seed": given.seed,
        "launches": launches,
        "kills": kills,
        "failures": failures,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": cpu_seconds(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
