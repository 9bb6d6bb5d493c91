"""What is said about a mistake: what was given, what was expected, and what to do.

A row is a command line or a piece of Python, and words that its answer must have. They are the ones
that new users of the library stumbled over.
"""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import Run

import spikeloom as sl
from spikeloom.data.events import cache

X = 3 * torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(1, 1, 8, 8)

COMMANDS = [
    ("train plif/digits --epochs 4", ["no option --epochs", "epochs=4"]),
    ("train mnist", ['did you mean "dsr/mnist" or', 'or "plif/mnist" or "plif/mnist-short"?']),
    ("train plif/mnist root=nowhere", ["`spikeloom data get mnist` fetches"]),
    (
        "train plif/nmnist data=digits batch_size=8",
        [
            "data.frames.by: digits holds images",
            "for what the recipe sets give data.frames.by=none",
        ],
    ),
    (
        "train plif/digits data=digits-events",
        ["takes images, but 'digits-events' delivers event frames"],
    ),
    ("report runs/tiny", ["holds no recipe.toml; the runs in it are 1, 2", "runs/tiny/1"]),
    ("eval runs/tiny", ["the runs in it are 1, 2"]),
    ("train tiny.toml device=cuda:7", ['PyTorch sees 0 CUDA devices: use "auto" or "cpu"']),
    ("train tiny.toml backend=gpu", ["no gpu kernel for device 'cpu'"]),
    ("train tiny.toml lr=1e39 optimizer=sgd", ["became non-finite", "no checkpoint yet"]),
    ("train plif/digits learning_rate=3", ['did you mean "optimizer.lr"?']),
    ("config explain plif/digits learning_rate", ['did you mean "optimizer.lr"?']),
    ("config explain plif/digits nothing_such", ["known:", "training", "optimizer"]),
    ("train plif/digits num_epochs=3", ['did you mean "training.epochs"?']),
]

PYTHON: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: sl.LIF(surrogate="atan"), ["'atan'", "surrogate object", "ATan()"]),  # type: ignore[arg-type]
    (lambda: sl.LIF()(np.zeros((4, 2, 3))), ["LIF got a ndarray", "torch.from_numpy(x)"]),  # type: ignore[call-overload]
    (lambda: sl.LIF()([1.0]), ["LIF got a list, expected a tensor [T, B, ...]"]),  # type: ignore[call-overload]
    (lambda: sl.LIF()(X.long()), ["expected floats, use x.float()"]),
    (
        lambda: sl.nn.Sequential(torch.nn.Linear(3, 2), sl.LIF())(X.numpy()),  # type: ignore[call-overload]
        ["the network got a ndarray", "torch.from_numpy(x)"],
    ),
    (
        lambda: sl.nn.Sequential(torch.nn.Conv2d(1, 2, 3), sl.LIF())(IMAGES),
        ["Conv2d got an input of shape [1, 1, 8, 8]", "[T, B, C, H, W]", "x.expand(T, *x.shape)"],
    ),
    (
        lambda: sl.nn.steps(torch.nn.Conv2d(1, 2, 3))(IMAGES),
        ["Conv2d got an input of shape [1, 1, 8, 8]"],
    ),
    (
        lambda: sl.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.GRU(5, 5))(X),
        ["GRU answered a tuple to 8 samples"],
    ),
    (lambda: sl.compare("nowhere"), ["nowhere does not exist"]),
    (lambda: sl.load("nowhere"), ["nowhere does not exist"]),
    (lambda: sl.data.load("nmist"), ["did you mean nmnist or mnist?"]),
    (lambda: sl.train("plif/digits", learning_rate=2), ['did you mean "optimizer.lr"?']),
    (lambda: sl.PLIF(tau=0.5), ["tau=0.5", "above 1 time step"]),
]


@pytest.mark.parametrize(("command", "words"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_a_mistake_on_the_command_line_says_what_to_do(
    run: Run, command: str, words: list[str], monkeypatch: pytest.MonkeyPatch
):
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("frames were prepared for a network that cannot take them")

    monkeypatch.setattr(cache, "prepared", refused)
    if "runs/tiny" in command:
        for number in "12":
            Path("runs/tiny", number).mkdir(parents=True)
            shutil.copy("tiny.toml", Path("runs/tiny", number, "recipe.toml"))
    result = run(*command.split())
    assert result.code == 2, result
    assert [word for word in words if word not in result.err] == [], result.err
    places = [line for line in result.err.splitlines() if "ubyte" in line and "nowhere" in line]
    assert len(places) == len(set(places))
    if command.startswith("train"):  # what made no step leaves nothing that counts as a run
        assert "run folder" not in result.out or "non-finite" in result.err or "gpu" in result.err
        assert not [path for path in Path("runs").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("mistake", "words"), PYTHON)
def test_a_mistake_in_python_says_what_to_do(mistake: Callable[[], object], words: list[str]):
    with pytest.raises((TypeError, ValueError, sl.errors.SpikeloomError)) as found:
        mistake()
    assert [word for word in words if word not in str(found.value)] == [], found.value


def test_records_are_read_by_their_folder_too():
    assert sl.training.read_events("nowhere") == []


def test_a_step_without_a_surrogate_is_told_once():
    class Blind(sl.Neuron):
        def step(self, x: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            v = v + x
            s = (v > 1).float()
            return s, v * (1 - s)

    with pytest.warns(UserWarning, match="no gradient passes the spikes of Blind"):
        Blind().eval()(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for neuron in (sl.LIF(), sl.PLIF(), sl.LI(), sl.AdLIF(5.0)):
            neuron(X)
