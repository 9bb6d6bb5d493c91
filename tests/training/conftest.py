"""A method and a data set small enough that a training run takes milliseconds."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from run_folders import assert_same_run, recorded
from spikeloom.config.section import Section
from spikeloom.data import registry
from spikeloom.data.api import Source
from spikeloom.data.base import DataSet, DataSpec, TensorSplit
from spikeloom.methods import catalog
from spikeloom.methods.base import Method
from spikeloom.neurons import PLIF
from spikeloom.nn.classifier import Classifier, Output

__all__ = ["assert_same_run", "recorded"]

CLASSES = 3


class TinyNetwork(Section):
    """Two linear layers and two layers of PLIF neurons."""

    T: int = 2
    hidden: int = 6
    dropout: float = 0.25


class TinyClassifier(Classifier):
    """Images [B, 1, 2, 3]; dropout draws random numbers, so that streams matter."""

    def __init__(self, network: TinyNetwork, data: DataSpec) -> None:
        super().__init__()
        self.time_steps = network.T
        self.first = nn.Linear(6, network.hidden)
        self.norm = nn.BatchNorm1d(network.hidden)
        self.drop = nn.Dropout(network.dropout)
        self.hidden = PLIF()
        self.second = nn.Linear(network.hidden, data.class_count)
        self.out = PLIF()

    def forward(self, inputs: Tensor) -> Output:
        current = self.drop(self.norm(self.first(inputs.flatten(1)))) * 4
        spikes = self.hidden(current.expand(self.time_steps, *current.shape))
        votes = self.out(self.second(spikes) * 4)
        # The membrane of a real readout has many values; spikes alone would tie too often.
        votes = votes + 0.01 * self.second(spikes)
        return Output(votes.sum(0), votes)

    def scalars(self) -> dict[str, float]:
        return {"w0": float(self.hidden.w.detach())}


@dataclass(frozen=True)
class LocalMethod(Method):
    """A method whose network is made by a function of the test."""

    make: Callable[[Any, DataSpec], Classifier] = TinyClassifier

    def build(self, network: Section, data: DataSpec) -> Classifier:
        return self.make(network, data)


class TinyData(Source):
    """Three classes of noisy 2x3 images; `train` of 22 samples, so that a last batch is partial."""

    name = "tiny"
    title = "three noisy patterns"
    published = {"train": 22, "test": 11}

    def files(self, root: Path | None) -> tuple[Path, ...]:
        return ()

    def load(self, root: Path | None) -> DataSet:
        generator = torch.Generator().manual_seed(1)
        patterns = torch.randint(0, 200, (CLASSES, 1, 2, 3), generator=generator)

        def split(count: int) -> TensorSplit:
            labels = torch.arange(count) % CLASSES
            noise = torch.randint(0, 56, (count, 1, 2, 3), generator=generator)
            return TensorSplit((patterns[labels] + noise).to(torch.uint8), labels)

        spec = DataSpec("tiny", (1, 2, 3), ("a", "b", "c"))
        return DataSet(spec, split(22), split(11), mean=(0.5,), std=(0.25,))


RECIPE = """
title = "tiny"
method = "tiny"
[data]
name = "tiny"
batch_size = 4
[network]
[optimizer]
lr = 0.02
[schedule]
name = "cosine"
T_max = 3
[training]
epochs = 3
threads = 1
[logging]
every_steps = 2
"""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a method called "tiny" in the catalog; call it to replace the method's classifier."""
    monkeypatch.setattr(registry, "_registered", {})
    registry.register(TinyData())

    def put(make: Callable[[Any, DataSpec], Classifier] = TinyClassifier) -> None:
        method = LocalMethod("tiny", "for tests", TinyNetwork, "", make=make)
        monkeypatch.setattr(catalog, "methods", lambda: {"tiny": method})
        catalog.library.cache_clear()

    put()
    yield put
    monkeypatch.undo()
    catalog.library.cache_clear()


@pytest.fixture
def recipe(install: Callable[..., None], tmp_path: Path) -> Callable[..., Any]:
    """`recipe("training.epochs=1", ...)`: the tiny recipe with overrides."""
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return lambda *overrides: catalog.load_recipe(path, overrides)


@dataclass(frozen=True)
class Screen:
    """A console whose text a test can read."""

    console: Console

    @property
    def text(self) -> str:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()


@pytest.fixture
def screen() -> Screen:
    return Screen(Console(file=io.StringIO(), width=200))
