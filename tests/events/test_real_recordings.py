"""The real N-MNIST 1k and FSDD, where $SPIKELOOM_DATA has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeloom.data import registry
from spikeloom.data.sets.fsdd import FSDD
from spikeloom.data.sets.nmnist import NMNIST, stabilised

ROOT = Path(os.environ.get("SPIKELOOM_DATA", ""))
pytestmark = pytest.mark.data


def _needs(folder: str) -> pytest.MarkDecorator:
    there = "SPIKELOOM_DATA" in os.environ and (ROOT / folder).is_dir()
    return pytest.mark.skipif(not there, reason=f"$SPIKELOOM_DATA has no {folder}")


@_needs("NMNIST")
def test_nmnist_recordings_are_whole() -> None:
    pair = NMNIST.open(ROOT)
    assert len(pair.train.labels) >= 1000 and len(pair.test.labels) >= 100
    for index in range(0, len(pair.train.labels), 97):
        recording = pair.train.read(index)
        assert 500 < len(recording) < 20_000 and (np.diff(recording.t) >= 0).all()
        assert 250_000 < recording.duration < 400_000


@_needs("NMNIST")
def test_stabilising_sharpens_the_picture() -> None:
    """Events of all three saccades fall on fewer pixels once the motion is taken out."""
    pair = NMNIST.open(ROOT)
    sharper = []
    for index in range(0, 1000, 50):
        recording = pair.train.read(index)
        spread = [
            np.bincount(one.y.astype(int) * 34 + one.x, minlength=1156)
            for one in (recording, stabilised(recording))
        ]
        entropy = [-(c[c > 0] / c.sum() * np.log(c[c > 0] / c.sum())).sum() for c in spread]
        sharper.append(entropy[1] < entropy[0])
    assert np.mean(sharper) > 0.9


@_needs("NMNIST")
def test_a_linear_reader_tells_digits_from_prepared_frames(monkeypatch) -> None:
    monkeypatch.setenv("SPIKELOOM_DATA", str(ROOT))
    data = registry.load("nmnist", ROOT)

    def counts(split) -> torch.Tensor:
        frames = split.read(torch.arange(min(len(split), 1000))).float()
        flat = frames.sum((0, 2)).flatten(1)
        return flat / flat.norm(dim=1, keepdim=True)

    train, test = counts(data.train), counts(data.test)
    nearest = (test @ train.T).argmax(1)
    labels = data.train.labels[:1000][nearest]
    assert (labels == data.test.labels[: len(labels)]).float().mean() > 0.75


@_needs("FSDD")
def test_fsdd_has_its_split_and_the_ear_hears_every_word() -> None:
    pair = FSDD.open(ROOT)
    assert len(pair.train.labels) == 2700 and len(pair.test.labels) == 300
    assert np.bincount(pair.test.labels).tolist() == [30] * 10
    for index in range(0, 300, 43):
        heard = pair.test.read(index)
        assert 500 < len(heard) < 60_000
        assert len(np.unique(heard.x)) > 150
