"""A regression: real targets, mean squared error, and its own figures under their names."""

from pathlib import Path

import pytest
import torch

from run_folders import assert_same_run
from spikeloom import report
from spikeloom.data import registry
from spikeloom.data.api import Source
from spikeloom.data.base import DataSet, DataSpec, TensorSplit
from spikeloom.errors import ConfigError
from spikeloom.evaluation.metrics import Errors
from spikeloom.nn.classifier import Classifier, Output
from spikeloom.training import evaluate, resume, train

from .conftest import recorded

CPU = torch.device("cpu")


class Brightness(Source):
    """The mean of the upper and of the lower row of an image."""

    name = "brightness"
    title = "rows of noise, and how bright they are"
    published = {"train": 64, "test": 32}

    def files(self, root: Path | None) -> tuple[Path, ...]:
        return ()

    def load(self, *given: object) -> DataSet:
        draws = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (96, 1, 2, 3), generator=draws, dtype=torch.uint8)
        labels = images.float().mean((1, 3)) / 255
        spec = DataSpec(self.name, (1, 2, 3), (), targets=2)
        train, test = (TensorSplit(images[a:b], labels[a:b]) for a, b in ((0, 64), (64, 96)))
        return DataSet(spec, train, test, mean=(0.5,), std=(0.25,))


@pytest.fixture
def regression(recipe):
    registry.register(Brightness())
    return lambda *overrides: recipe("data=brightness", *overrides)


def test_figures_against_their_formulas():
    draws = torch.Generator().manual_seed(0)
    y, z = torch.randn(2, 50, 3, generator=draws, dtype=torch.float64)
    errors = Errors(3, CPU)
    for part in (slice(0, 20), slice(20, 50)):
        errors.add(torch.tensor(0.5), z[part], y[part])
    residual, total = (y - z).square().sum(0), (y - y.mean(0)).square().sum(0)
    assert errors.figures == pytest.approx(
        {
            "mse": (y - z).square().mean().item(),
            "mae": (y - z).abs().mean().item(),
            "r2": (1 - residual / total).mean().item(),
        }
    )
    assert errors.samples == 50 and errors.loss == 0.5


class Potential(Classifier):
    """A linear layer that is read out as it is."""

    def __init__(self, network: object, data: DataSpec) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, data.class_count)

    def forward(self, inputs: torch.Tensor) -> Output:
        return Output(self.linear(inputs.flatten(1)))


def test_it_learns_and_says_what_it_says(regression, install, screen, tmp_path):
    full = regression("epochs=20", "schedule=constant")
    install(Potential)
    run = train(full, tmp_path / "run", console=screen.console)
    last = [event for event in recorded(run.folder) if event["event"] == "epoch"][-1]
    assert last["test"]["r2"] == last["test"]["accuracy"] > 0.9
    assert last["test"]["mse"] == pytest.approx(last["test"]["loss"], rel=1e-5)
    assert run.best.metric == "test r2"
    assert f"r2-A {run.best.test_accuracy:.4f} (test r2 of epoch" in screen.text
    assert "%" not in screen.text
    found = evaluate(run.folder)
    assert found.errors["r2"] == found.accuracy == run.best.test_accuracy
    page = report.write([run.folder]).read_text("utf-8")
    assert "r2-A" in page and "accuracy-A" not in page and "Energy in three lines" in page
    (row,) = report.compare([run.folder])
    assert row["figure"] == "r2" and row["low"] is None
    assert found.samples == 32 and found.accuracy_per_timestep == []


@pytest.mark.parametrize("overrides", [(), ("protocol=B", "val_ratio=0.25", "loss=mae")])
def test_a_resumed_one_is_the_uninterrupted_one(regression, screen, tmp_path, overrides):
    whole = train(regression(*overrides), tmp_path / "whole", console=screen.console).folder
    train(regression("epochs=1", *overrides), tmp_path / "cut", console=screen.console)
    resume(tmp_path / "cut", epochs=3, console=screen.console)
    assert_same_run(tmp_path / "cut", whole)


def test_there_are_no_classes_to_balance(regression, screen, tmp_path):
    with pytest.raises(ConfigError, match="a regression has no classes"):
        train(regression("sampling=balanced"), tmp_path / "run", console=screen.console)
