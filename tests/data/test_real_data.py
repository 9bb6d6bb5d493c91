"""The publishers' own files, where SPIKELOOM_DATA names a folder that has them."""

from pathlib import Path

import pytest
import torch

from spikeloom import data
from spikeloom.data import Split
from spikeloom.data.base import split_per_class

pytestmark = pytest.mark.data


def _moments(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all pixels of each channel, from how often each of the 256 levels occurs."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    raw = split.read(torch.arange(len(split)))
    shares = torch.stack(
        [raw[:, channel].flatten().bincount(minlength=256) for channel in range(raw.shape[1])]
    ).double()
    shares /= shares.sum(1, keepdim=True)
    mean = shares @ levels
    return mean, (shares @ levels**2 - mean**2).sqrt()


def test_mnist(real_root: Path) -> None:
    if not (real_root / "MNIST").exists():
        pytest.skip("no MNIST there")
    mnist = data.load("mnist", real_root)
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000) and mnist.notes == ()
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    mean, std = _moments(mnist.train)
    # The published constants have four places.
    assert torch.allclose(mean, torch.tensor(mnist.mean).double(), atol=5e-5, rtol=0)
    assert torch.allclose(std, torch.tensor(mnist.std).double(), atol=5e-5, rtol=0)
    train, validation = split_per_class(mnist.train.labels, 0.15)
    assert (len(train), len(validation)) == (51_005, 8_995)
    report = data.check("mnist", real_root)
    assert all(file.original for file in report.files.values())


def test_cifar10(real_root: Path) -> None:
    if not (real_root / "CIFAR10").exists():
        pytest.skip("no CIFAR-10 there")
    cifar = data.load("cifar10", real_root)
    assert (len(cifar.train), len(cifar.test)) == (50_000, 10_000) and cifar.notes == ()
    assert torch.bincount(cifar.train.labels).tolist() == [5000] * 10
    mean, _ = _moments(cifar.train)
    # A copy that went through JPEG differs a little from the publisher's images.
    assert torch.allclose(mean, torch.tensor(cifar.mean).double(), atol=2e-3, rtol=0)
