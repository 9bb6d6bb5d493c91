"""Small feedback networks for tests."""

from typing import Any

import torch

from spikeloom.data.base import DataSpec
from spikeloom.methods.ide.config import IdeNetwork
from spikeloom.methods.ide.networks import IdeClassifier, build

SHAPES = {
    "f400": ((1, 4, 4), (12,)),
    "f64c5": ((1, 6, 6), (4,)),
    "alexnet-f": ((2, 8, 8), (4, 5, 4, 5, 4)),
}


def make_classifier(name: str = "f64c5", *, events: bool = False, **settings: Any) -> IdeClassifier:
    """A network of the layers of `name`, a few channels wide, for tiny samples of three classes."""
    shape, channels = SHAPES[name]
    torch.manual_seed(0)
    settings = {"T": 6, "channels": channels, "dropout": 0.0} | settings
    data = DataSpec("tiny", shape, ("a", "b", "c"), kind="events" if events else "static")
    return build(IdeNetwork(name=name, **settings), data)  # type: ignore[arg-type]


def make_inputs(classifier: IdeClassifier, batch: int = 3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    network = classifier.network
    if classifier.feedback.events:
        shape = (network.T, batch, *classifier.shape)
        return (torch.rand(shape, generator=generator) < 0.3).float()
    return torch.randn((batch, *classifier.shape), generator=generator)
