"""Python calls of one training step, as `sys.setprofile` sees them: what a step costs besides its
kernels. Counts are the same on every machine.

`library`: calls, and resumptions of generators, of functions that are written in the package;
`all`: those of torch and of Python's own modules too. Functions in C are not counted.
"""

import io
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console

import spikeloom as sl
from benchmarks.runner import Row
from benchmarks.timing import clock_name, timings
from spikeloom.methods.catalog import load_recipe
from spikeloom.training.trainer import Trainer

ROOT = Path(sl.__file__).parent
WARM = 4
"""Steps before the one that is counted: kernels are compiled and bound by then."""


def counted(work: Callable[[], object]) -> Counter[str]:
    """The files of the Python functions that `work` calls, in this thread, with their calls."""
    files: Counter[str] = Counter()

    def see(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files[frame.f_code.co_filename] += 1

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(before)
    return files


def row(what: str, files: Counter[str]) -> Row:
    ours = {Path(name): count for name, count in files.items() if ROOT in Path(name).parents}
    folders: Counter[str] = Counter()
    for path, count in ours.items():
        folders[path.relative_to(ROOT).parts[0]] += count
    return {
        "what": what,
        "library": sum(ours.values()),
        "all": sum(files.values()),
        "files": len(ours),
        "by folder": ", ".join(f"{name} {count}" for name, count in folders.most_common()),
    }


def measure(recipe: str, overrides: Sequence[str]) -> list[Row]:
    """A step of the recipe's trainer on the CPU, and small layers."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    trainer = Trainer(load_recipe(recipe, overrides), device, Console(file=io.StringIO()))
    trainer.enter()
    trainer.load_start()
    trainer.classifier.train()
    trainer.set_learning_rate()
    batches = islice(trainer.loaders.train.epoch(0, 0), WARM + 1)
    *warm, last = [[batch] for batch in batches]
    for batch in warm:
        trainer.train_step(batch)
    return [row(f"step of {recipe}", counted(lambda: trainer.train_step(last))), *small_layers()]


def small_layers() -> list[Row]:
    """Layers so small that a call is all they cost: on one thread, float32."""
    plif, x = sl.PLIF(), torch.randn(4, 8, 64).requires_grad_()
    gradient = torch.ones_like(x)
    lif, current = sl.LIF(), torch.randn(1, 1, 256)
    state = lif.initial_state(current)

    def forward() -> None:
        plif(x)

    def training() -> None:
        x.grad = None
        plif(x).backward(gradient)

    def stream() -> None:
        with torch.no_grad():
            lif(current, state)

    works = {
        "PLIF [4, 8, 64], forward": forward,
        "PLIF [4, 8, 64], forward and backward": training,
        "LIF [1, 1, 256] with state, forward": stream,
    }
    runs = [partial(_often, work) for work in works.values()]
    times = timings(runs, 25, clock_name())
    return [
        row(what, counted(work)) | {"us": round(timing.best / OFTEN * 1e6, 1)}
        for (what, work), timing in zip(works.items(), times, strict=True)
    ]


OFTEN = 200
"""Calls of a small layer in one measurement."""


def _often(work: Callable[[], None]) -> None:
    for _ in range(OFTEN):
        work()
