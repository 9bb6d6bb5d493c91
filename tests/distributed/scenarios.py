"""What two processes do, and one for comparison; `test_two_processes.py` looks at what they left.

Recipes are the library's own on the bundled digits, made tiny.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pairs import alone, console, pair, scenario
from torch import Tensor, nn

from spikeloom.data.base import Batch
from spikeloom.data.images.augment import Transform
from spikeloom.data.loader import Loader
from spikeloom.errors import DataError
from spikeloom.methods import catalog
from spikeloom.methods.catalog import load_recipe
from spikeloom.nn import BatchNorm, TdBatchNorm
from spikeloom.processes import distributed
from spikeloom.processes.launch import processes
from spikeloom.processes.synced import synchronise
from spikeloom.run import checkpoint
from spikeloom.training import resume, train
from spikeloom.training import trainer as trainer_module
from spikeloom.training.journal import Journal
from spikeloom.training.parallel import Parallel
from spikeloom.training.trainer import Trainer

TINY = {
    "plif": ("plif/digits", "T=2", "channels=4", "hidden=16", "dropout=0.0"),
    "glif": ("glif/digits", "T=2", "channels=4"),
    "dsr": ("dsr/digits", "T=3", "channels=4", "threshold_reduction=mean"),
    "ide": ("ide/digits", "T=6", "network.channels=[4]", "tol=1e-12", "dropout=0.0"),
    "ide-coupled": (
        "ide/digits",
        "network=alexnet-f",
        "T=4",
        "network.channels=[3,4,5,4,3]",
        "max_iter=40",
        "tol=1e-12",
        "dropout=0.0",
    ),
}
COMMON = (
    "threads=1",
    "backend=eager",
    "tensorboard=false",
    "logging.every_steps=2",
    "eval_batch_size=64",
)


def recipe(method: str, *overrides: str) -> Any:
    name, *changes = TINY[method]
    usual = {"epochs": "1", "lr": "0.01"}
    given = {change.partition("=")[0] for change in overrides}
    rest = [f"{key}={value}" for key, value in usual.items() if key not in given]
    return load_recipe(name, [*changes, *COMMON, *rest, *overrides])


def in_double_precision() -> None:
    """Spikes are steps: in float32 a rounding error can flip one, in float64 none does."""
    torch.set_default_dtype(torch.float64)
    float32 = Transform.__call__
    Transform.__call__ = lambda self, *given: float32(self, *given).double()  # type: ignore


def awake() -> None:
    """So small a PLIF network begins silent, with gradients of next to nothing: larger weights."""
    original = catalog.build

    @torch.no_grad()
    def build(*given: Any) -> Any:
        classifier = original(*given)
        for layer in classifier.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(10)
        return classifier

    catalog.build = build


def both(method: str, *overrides: str) -> Callable[[Path], None]:
    """Two processes with 200 samples each, and one with 400: three steps and an evaluation."""

    def run(folder: Path) -> None:
        def two() -> None:
            in_double_precision()
            awake()
            sizes = ("batch_size=200", "sync_batchnorm=true")
            train(recipe(method, *sizes, *overrides), folder / f"{method}2", console=console())

        def one() -> None:
            in_double_precision()
            awake()
            train(recipe(method, "batch_size=400", *overrides), folder / f"{method}1")

        codes = [*pair(folder, method, two), alone(folder, f"{method}-alone", one)]
        (folder / f"{method}.json").write_text(json.dumps(codes))

    run.__name__ = method.replace("-", "_")
    return scenario(run)


# Of 1,229 samples the last batch has 29: 15 and 14 of them, in one step with 400 others.
# (With SGD: Adam would forgive gradients of the wrong size.)
both("plif", "accumulate=2", "drop_last=false", "protocol=B", "optimizer=sgd", "lr=0.3")
# What is carried into the next step is the same everywhere, and must not be averaged again.
both("dsr", "carry_gradients=true", "clip_norm=0.5")
for _method in TINY.keys() - {"plif", "dsr"}:
    both(_method)


def _norms() -> dict[str, nn.Module]:
    return {
        "per step": BatchNorm(3),
        "folded": BatchNorm(3, statistics="folded"),
        "threshold-dependent": TdBatchNorm(3),
        "torch": nn.Sequential(nn.BatchNorm2d(3)),
    }


@scenario
def norms(folder: Path) -> None:
    """Every BatchNorm on a batch of 7, of which one process has 4 samples and the other 3."""

    def inputs(kind: str, constant: bool) -> Tensor:
        shape = (7, 3, 2, 2) if kind == "torch" else (1 if constant else 5, 7, 3, 2, 2)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 2 + 5
        return x.requires_grad_()

    def measure(part: slice, rank: str) -> None:
        found: dict[str, Any] = {}
        for constant in (False, True):
            for kind, norm in _norms().items():
                if kind == "torch" and constant:
                    continue
                synchronise(norm)
                norm.train()
                whole = inputs(kind, constant)
                x = whole[part] if kind == "torch" else whole[:, part]
                x = x.expand(5, *x.shape[1:]) if constant else x
                weight = torch.linspace(-1, 1, whole[0].numel() * len(whole)).view_as(whole)
                seen = weight[part] if kind == "torch" else weight[:, part]
                (norm(x) * seen).square().sum().backward()
                found[f"{kind}, {'constant' if constant else 'changing'}"] = {
                    "y": (norm(x) * 1).detach(),
                    "gradient": whole.grad,
                    "parameters": [p.grad for p in norm.parameters()],
                    "buffers": dict(norm.named_buffers()),
                }
        torch.save(found, folder / f"norms-{rank}.pt")

    def two() -> None:
        torch.set_default_dtype(torch.float64)
        with processes():
            rank = int(os.environ["RANK"])
            measure(slice(0, 4) if rank == 0 else slice(4, 7), str(rank))

    def one() -> None:
        torch.set_default_dtype(torch.float64)
        measure(slice(0, 7), "alone")

    assert [*pair(folder, "norms", two), alone(folder, "norms-alone", one)] == [0, 0, 0]


# A run with everything that draws random numbers or carries something from step to step.
RICH = (
    "epochs=2",
    "batch_size=150",
    "accumulate=2",
    "drop_last=false",
    "checkpoint.every_steps=1",
    'augment=[{kind="crop"}]',
    "protocol=B",
    "clip_norm=0.5",
)


def rich() -> Any:
    return recipe("plif", *RICH)


@scenario
def uninterrupted(folder: Path) -> None:
    def action() -> None:
        awake()
        train(rich(), folder / "whole", console=console())

    codes = pair(folder, "whole", action)
    assert codes == [0, 0]


def die_in_step(ranks: tuple[int, ...], call: int) -> None:
    """Kills these processes at the beginning of a backward pass."""
    calls = 0
    original = Trainer.add_gradients

    def counted(self: Trainer, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and self.rank in ranks:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *given)

    Trainer.add_gradients = counted  # type: ignore[method-assign]


@scenario
def killed(folder: Path) -> None:
    """One process is killed, then the other, then both, each time in the middle of an epoch."""
    codes = []
    for number, ranks in enumerate([(1,), (0,), (0, 1)]):

        def again(ranks: tuple[int, ...] = ranks, first: bool = number == 0) -> None:
            awake()
            die_in_step(ranks, 4)
            run = folder / "killed"
            train(rich(), run, console=console()) if first else resume(run, console=console())

        codes.append(pair(folder, f"killed{number}", again))
    codes.append(pair(folder, "killed3", lambda: resume(folder / "killed", console=console())))
    (folder / "killed.json").write_text(json.dumps(codes))


@scenario
def asked_to_stop(folder: Path) -> None:
    """SIGTERM reaches one of the processes only."""

    def signalled() -> None:
        calls = 0
        original = Journal.step

        def counted(self: Journal, *given: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 2 and distributed.rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            original(self, *given)

        Journal.step = counted  # type: ignore[method-assign]
        awake()
        train(rich(), folder / "stopped", console=console())

    codes = [
        pair(folder, "stopped", signalled),
        pair(folder, "stopped-resumed", lambda: resume(folder / "stopped", console=console())),
    ]
    (folder / "stopped.json").write_text(json.dumps(codes))


@scenario
def other_number(folder: Path) -> None:
    """A run of two processes that stands inside an epoch, resumed by one."""

    def cut() -> None:
        die_in_step((0, 1), 4)
        train(rich(), folder / "other", console=console())

    pair(folder, "other-cut", cut)
    code = alone(folder, "other", lambda: resume(folder / "other"))
    (folder / "other.json").write_text(json.dumps(code))


def failing(name: str, spoil: Callable[[], None], *overrides: str) -> None:
    def run(folder: Path) -> None:
        def action() -> None:
            spoil()
            train(recipe("plif", *overrides), folder / name, console=console())

        (folder / f"{name}.json").write_text(json.dumps(pair(folder, name, action)))

    run.__name__ = name
    scenario(run)


def _rank() -> int:
    return int(os.environ["RANK"])


def _damaged_sample() -> None:
    original = Loader._read

    def read(self: Loader, requests: Any) -> Any:
        for number, raw in enumerate(original(self, requests)):
            if _rank() == 1 and number == 2:
                raise DataError("7.bin: byte 3: damaged: fetch the file again")
            yield raw

    Loader._read = read  # type: ignore[method-assign]


def _not_finite() -> None:
    original = Parallel.__call__
    calls = 0

    def spoiled(self: Parallel, batch: Batch) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        loss, scores = original(self, batch)
        # The third step, and the third again when the steps are gone over.
        wrong = _rank() == 1 and calls in (3, 6)
        return (loss * float("nan") if wrong else loss), scores

    Parallel.__call__ = spoiled  # type: ignore[method-assign]


def _full_disk() -> None:
    original = checkpoint.write

    def write(path: Path, state: Any) -> None:
        if state["step"] == 2:
            raise OSError(28, "No space left on device", str(path))
        original(path, state)

    checkpoint.write = write


def _no_data() -> None:
    def load(*given: Any) -> Any:
        if _rank() == 1:
            raise DataError("digits: no files found")
        return original(*given)

    original = trainer_module.load_data
    trainer_module.load_data = load


def _bug() -> None:
    original = Trainer.add_gradients

    def broken(self: Trainer, *given: Any) -> Any:
        if self.rank == 1 and self.step == 1:
            raise ZeroDivisionError("a mistake of ours")
        return original(self, *given)

    Trainer.add_gradients = broken  # type: ignore[method-assign]


failing("damaged_sample", _damaged_sample, "batch_size=60")
failing("not_finite", _not_finite, "batch_size=100")
failing("full_disk", _full_disk, "batch_size=60", "checkpoint.every_steps=1")
failing("no_data", _no_data)
failing("bug", _bug, "batch_size=60")
