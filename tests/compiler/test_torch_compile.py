"""torch.compile by inductor: every neuron and every layer of the library gives what eager gives,
forward and backward. Lists are made from the packages."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom import neurons
from spikeloom.testing import SHAPE, _maker

old_parts = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",  # dynamo, eager steps
)

NEURONS: dict[str, Callable[[], nn.Module]] = {
    name: _maker(kind, {})
    for name, kind in vars(neurons).items()
    if isinstance(kind, type)
    and issubclass(kind, sl.Neuron)
    and kind.step is not sl.Neuron.step
    and name != "Gated"
}
C = SHAPE[2]


class Static(nn.Module):
    """`StaticCoding` on the first step of a current."""

    def __init__(self) -> None:
        super().__init__()
        self.coding = sl.nn.StaticCoding(4, nn.Conv2d(C, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.coding(x[0])


class Intensities(nn.Module):
    """An encoder of values in [0, 1]; these are 0 or 1, which leaves nothing to chance."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder((x[:1] > 0).float().expand(x.shape))


class Flat(nn.Module):
    """A layer for `[T, B, features]`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(2))


FEATURES = SHAPE[2] * SHAPE[3] * SHAPE[4]
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: sl.nn.BatchNorm(C),
    "BatchNorm folded": lambda: sl.nn.BatchNorm(C, statistics="folded"),
    "TdBatchNorm": lambda: sl.nn.TdBatchNorm(C),
    "Delay": lambda: sl.nn.Delay(C, 3),
    "DelayedLinear": lambda: Flat(sl.nn.DelayedLinear(FEATURES, 5, 3)),
    "Dropout": lambda: sl.nn.Dropout(0.5).eval(),
    "Latency": lambda: Intensities(sl.nn.Latency(6)),
    "Poisson": lambda: Intensities(sl.nn.Poisson()),
    "Readout": lambda: sl.nn.Readout("mean"),
    "Recurrent": lambda: Flat(sl.nn.Recurrent(sl.LIF(), FEATURES)),
    "Sequential": lambda: sl.nn.Sequential(
        nn.Conv2d(C, 8, 3, padding=1),
        sl.nn.BatchNorm(8),
        sl.PLIF(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 4),
        sl.LIF(),
    ),
    "StaticCoding": Static,
    "Steps": lambda: sl.nn.steps(nn.Conv2d(C, 3, 3, padding=1)),
    "Voting": lambda: sl.nn.Voting(5),
}
NO_LAYERS = {"Classifier", "Figure", "Output"}
"""What `spikeloom.nn` offers besides layers and functions."""
ALL = {**NEURONS, **LAYERS}
FEW = ("PLIF", "GLIF", "BatchNorm", "Sequential")


def test_every_layer_is_listed() -> None:
    kinds = {name for name in sl.nn.__all__ if isinstance(getattr(sl.nn, name), type)}
    assert kinds - NO_LAYERS <= set(LAYERS), "give the new layer a line in LAYERS"


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _results(net: nn.Module, run: Callable[[Tensor], Tensor]) -> list[Tensor | None]:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).mul(1.5).requires_grad_()
    y = run(x)
    leaves = [x, *(p for p in net.parameters() if p.requires_grad)]
    up = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((y * up).sum(), leaves, allow_unused=True) if y.grad_fn else ()
    return [y.detach(), *found]


@old_parts
@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in ALL]
)
def test_inductor_gives_what_eager_gives(name: str) -> None:
    torch.manual_seed(0)
    net, again = ALL[name](), ALL[name]()
    again.load_state_dict(net.state_dict())
    expected = _results(net, net)
    actual = _results(again, torch.compile(again, backend="inductor"))
    assert len(actual) == len(expected) and expected[0] is not None
    for got, value in zip(actual, expected, strict=True):
        assert (got is None) == (value is None)
        if got is not None and value is not None:
            torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-5)
