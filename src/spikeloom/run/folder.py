"""A run folder: everything about one training, in one place.

recipe.toml          the resolved recipe
environment.json     versions, machine, device, threads
inputs.json          shape, classes, mean and deviation of what it is trained on (`inputs.py`)
metrics.jsonl        one event a line (`records.py`)
tensorboard/         the same for TensorBoard
checkpoints/         last.pt, previous.pt, best.pt (`checkpoint.py`)
weights.safetensors  the weights of the best epoch; its metadata hold recipe and inputs
lock                 held while a process trains here
"""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import tomli_w
import torch
from torch import Tensor

from spikeloom import files
from spikeloom.errors import RunError
from spikeloom.processes import distributed
from spikeloom.processes import environment as environ
from spikeloom.processes.launch import launch_id
from spikeloom.run.checkpoint import check_finite
from spikeloom.run.reading import environment_of, no_run
from spikeloom.version import __version__

_NO_BITS = ("python", "platform", "launch", "started", "command", "commit")
"""What may differ between a run's beginning and its resumption without changing a number."""


class RunFolder:
    """Paths in a run folder and the files that are written once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.environment = path / "environment.json"
        self.inputs = path / "inputs.json"
        self.metrics = path / "metrics.jsonl"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.weights = path / "weights.safetensors"
        self.lock = path / "lock"

    @classmethod
    def create(
        cls, path: Path, recipe: str, environment: dict[str, object], inputs: str = ""
    ) -> "RunFolder":
        """A new run folder with its recipe (TOML text), environment, and `Inputs` (JSON text).

        What a creation that was killed left behind does not count as something there.

        Raises:
            RunError: something is there already, or the folder cannot be made.
        """
        folder = cls(path)
        try:
            folder._check_unborn()
            path.mkdir(parents=True, exist_ok=True)
            with folder.locked():
                folder._check_unborn()  # another process may have been faster
                text = json.dumps(environment, indent=2) + "\n"
                files.write(folder.environment, text, sync=True)
                if inputs:
                    files.write(folder.inputs, inputs, sync=True)
                folder.write_recipe(recipe)
        except OSError as error:
            raise RunError(f"cannot create the run folder {path}: {error.strerror}") from error
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run folder.

        Raises:
            RunError: there is no recipe.toml in it.
        """
        folder = cls(path)
        if not folder.recipe.is_file():
            raise RunError(no_run(path))
        return folder

    def _check_unborn(self) -> None:
        """Refuses a folder with anything in it but what is written before recipe.toml."""
        early = {self.lock, self.environment, self.inputs}
        if not self.path.exists() or (
            self.path.is_dir()
            and all(p in early or p.suffix == files.TEMPORARY for p in self.path.iterdir())
        ):
            return
        advice = f"`spikeloom resume {self.path}` continues it, or " * self.recipe.is_file()
        raise RunError(f"{self.path} exists already and is not empty: {advice}give another folder")

    def discard(self) -> None:
        """Removes what a run wrote that made no step: its folder is as before it."""
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def write_recipe(self, text: str) -> None:
        files.write(self.recipe, text, sync=True)

    def write_weights(self, weights: dict[str, Tensor]) -> None:
        """The model's state as safetensors, replaced in one instant.

        The metadata hold what `spikeloom.load` needs to predict with the file alone: the recipe,
        without this machine's data root, and `Inputs`.

        Raises:
            NonFiniteError: a tensor in it is NaN or infinite.
        """
        check_finite(weights)
        # Copies: safetensors refuses tensors that share memory or are not contiguous.
        copies = {name: value.cpu().contiguous().clone() for name, value in weights.items()}
        # its tables alone: of a loop of one's own it describes no network of ours
        recipe = files.parse_toml(self.recipe.read_text())
        recipe.get("data", {}).pop("root", None)
        about = {"recipe": tomli_w.dumps(recipe)}
        if self.inputs.is_file():
            about["inputs"] = self.inputs.read_text()
        files.write(self.weights, _in_order(safetensors.torch.save(copies, about)), sync=True)

    def fact(self, name: str) -> object:
        """What the environment in which the run began says about `name`; None if nothing."""
        return (environment_of(self.path) or {}).get(name)

    def differences(self, now: dict[str, object]) -> list[str]:
        """What differs from the environment in which the run began and may change a last bit."""
        if not self.environment.is_file():
            return []
        if (then := environment_of(self.path)) is None:
            return [f"{self.environment} is damaged: what the run began on is not known"]
        return [
            f"{name} was {then.get(name, 'not recorded')} and is {value}"
            for name, value in now.items()
            if name not in _NO_BITS and then.get(name) != value
        ]

    def cut_metrics(self, size: int) -> int:
        """Drops what was recorded after the checkpoint that is continued; returns the new size.

        A record that is shorter than `size` was changed by hand: its whole lines are kept.
        """
        if not self.metrics.exists():
            return 0
        content = self.metrics.read_bytes()[:size]
        content = content[: content.rfind(b"\n") + 1]
        # a new file: this one may have a second name somewhere else
        files.write(self.metrics, content, sync=True)
        return len(content)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run folder for this process; the lock is gone when the process is, however.

        Raises:
            RunError: another process trains in this folder, or something in it is a link.
        """
        # What comes from a stranger could lead out of the folder. Other files are made anew.
        for place in (self.lock, self.metrics, self.checkpoints, self.tensorboard):
            if place.is_symlink():
                raise RunError(
                    f"{place} is a link, and a run writes nothing outside its folder: "
                    "put what it points to in its place"
                )
        with ExitStack() as stack:
            try:
                stack.enter_context(files.locked(self.lock, wait=False))
            except BlockingIOError as error:
                raise RunError(
                    f"another process is training in {self.path}: wait for it, "
                    "or give another folder"
                ) from error
            # What was being written when a process was killed here; nobody else writes these.
            names = ("recipe.", "environment.", "inputs.", "metrics.", "weights.", "checkpoints/")
            for file in self.path.rglob(f"*{files.TEMPORARY}"):
                if file.relative_to(self.path).as_posix().startswith(names):
                    file.unlink()
            yield

    @contextmanager
    def storage_errors(self) -> Iterator[None]:
        """Turns what the file system refuses in this folder into one line that says what to do.

        Raises:
            RunError: the disk is full, or the folder cannot be written to.
        """
        try:
            yield
        except OSError as error:
            name = Path(os.fsdecode(error.filename)) if error.filename else self.path
            if isinstance(error, ConnectionError) or not name.is_relative_to(self.path):
                raise  # of another place: the console, another process
            raise RunError(
                f"cannot write {name}: {error.strerror or error}; make room there, or make it "
                f"writable, then `spikeloom resume {self.path}`"
            ) from error


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: the library writes them in any order."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def environment(device: torch.device) -> dict[str, object]:
    """What the numbers of a run may depend on besides its recipe."""
    facts: dict[str, object] = {
        **start_facts(),
        "python": platform.python_version(),
        "spikeloom": __version__,  # which has no metadata where it runs from its source folder
        **{name: version(name) for name in ("torch", "numpy", "numba")},
        "platform": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if distributed.world_size() > 1:
        facts["processes"] = distributed.world_size()
    if (name := launch_id()) is not None:
        facts["launch"] = name
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def start_facts() -> dict[str, str]:
    """When, by which command, and from which commit of the library's source a run begins."""
    facts = {"started": datetime.now(UTC).isoformat(timespec="seconds")}
    # The name alone of a path: run folders travel.
    program, *arguments = sys.argv or [""]
    shown = [Path(program).name, *arguments] if program not in ("", "-c", "-m") else [program]
    facts["command"] = shlex.join(shown)
    source = Path(__file__).resolve().parents[3]
    if (source / ".git").exists():
        command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12"]
        with suppress(OSError, subprocess.SubprocessError):
            result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
            facts["commit"] = result.stdout.strip()
    return facts


def processor() -> str:
    """The CPU's name and its vector instructions as PyTorch uses them."""
    about = Path("/proc/cpuinfo")
    model = re.search(r"(?m)^model name\s*:(.*)$", about.read_text() if about.is_file() else "")
    name = model[1].strip() if model else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def runs_of(origin: str) -> Path:
    """Where the runs of a recipe are, "plif/mnist" for example."""
    return Path("runs") / origin.replace("/", "-").lstrip(".")  # ".." leads elsewhere


@contextmanager
def new_folder(given: Path | None, parent: Path) -> Iterator[Path]:
    """The folder that was given, or a new numbered one in `parent`, removed if it stays empty.

    It is the same one in all processes that train together: the main one chooses.
    """
    if given is not None:
        yield given
        return
    folder = distributed.from_main(lambda: _claim_number(parent))
    try:
        yield folder
    finally:
        if distributed.is_main() and not any(folder.iterdir()):
            folder.rmdir()


def _claim_number(parent: Path) -> Path:
    """Make the next free numbered folder; two trainings that start together get two."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max(
            (int(run.name) for run in parent.iterdir() if run.name.isdigit()), default=0
        )
        while True:
            try:
                (parent / str(number)).mkdir()
                return parent / str(number)
            except FileExistsError:
                number += 1
    except OSError as error:
        raise RunError(f"cannot create a run folder in {parent}: {error.strerror}") from error


def restarted_folder(given: Path | None, parent: Path) -> Path | None:
    """The run folder that this launch trained into before torchrun started it again; asked by all
    processes.

    None if it is the first start, or nothing was begun. `given`: the folder that was asked for;
    else the newest in `parent` that this launch has made.
    """
    # each machine counts its own restarts
    again = distributed.any_of(environ.number("TORCHELASTIC_RESTART_COUNT", 0) > 0)
    return distributed.from_main(lambda: _of_this_launch(given, parent) if again else None)


def _of_this_launch(given: Path | None, parent: Path) -> Path | None:
    if (name := launch_id()) is None:
        return None
    folders = [given] if given is not None else list(parent.glob("*"))
    runs = [RunFolder(folder) for folder in folders]
    mine = [run.path for run in runs if run.recipe.is_file() and run.fact("launch") == name]
    return max(mine, key=lambda folder: folder.stat().st_mtime_ns, default=None)
