"""`check_neuron` holds for every neuron of the library, and catches what breaks the contract."""

import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom import neurons
from spikeloom.neurons import Neuron
from spikeloom.testing import check_neuron

pytestmark = pytest.mark.kernels

LIBRARY = [
    kind
    for kind in vars(neurons).values()
    if isinstance(kind, type) and issubclass(kind, Neuron) and kind.step is not Neuron.step
]
ALSO = {
    "PLIF per neuron, soft reset": (sl.PLIF, {"shape": (4, 2, 5), "v_reset": None}),
    "GLIF per step": (sl.GLIF, {"time_steps": 6, "time_wise": True}),
    "LIF, learned steepness": (sl.LIF, {"surrogate": sl.ATan(learnable=True), "v_reset": -0.5}),
    "CuLIF, fire first": (sl.CuLIF, {"delay": 2}),
    "LI learned": (sl.LI, {"learn": True, "shape": (4,)}),
}


@pytest.mark.parametrize("kind", LIBRARY, ids=lambda kind: kind.__name__)
def test_every_neuron_of_the_library(kind: type[Neuron]) -> None:
    check_neuron(kind)


@pytest.mark.parametrize("name", ALSO)
def test_variants(name: str) -> None:
    kind, options = ALSO[name]
    check_neuron(kind, **options)


class Mine(Neuron):
    """Keeps the contract, with a state of its own at rest."""

    def __init__(self, channels: int, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.leak = torch.nn.Parameter(torch.linspace(-1, 1, channels))

    def coefs(self) -> dict[str, Tensor]:
        return {"k": self.leak.sigmoid()}

    def rest(self) -> dict[str, float]:
        return {"v": 0.25}

    def step(self, x: Tensor, v: Tensor, *, k: Tensor) -> tuple[Tensor, ...]:
        h = v + (x * self.gain - v) * k
        s = self.surrogate(h - 1.0)
        return s, h * (1 - s)


class Deaf(Mine):
    def step(self, x: Tensor, v: Tensor, *, k: Tensor) -> tuple[Tensor, ...]:
        return self.surrogate(v - 1e9), v * k


class Mixing(Mine):
    """Samples hear each other."""

    def step(self, x: Tensor, v: Tensor, *, k: Tensor) -> tuple[Tensor, ...]:
        s, v = super().step(x, v, k=k)
        return s, v - v.mean()


class Counting(Mine):
    """A hidden state: pieces and the whole differ."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.offset = [0.0]

    def coefs(self) -> dict[str, Tensor]:
        self.offset[0] += 0.5
        return {"k": (self.leak + self.offset[0]).sigmoid()}


def test_a_users_neuron_passes() -> None:
    check_neuron(Mine)
    check_neuron(lambda: Mine(4, gain=2.0))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (Deaf, {}, "fires always or never"),
        (Mixing, {}, "runs on the eager backend"),
        (Mixing, {"compiled": False}, "samples by themselves"),
        (Counting, {}, "compiled against eager"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_breaks_the_contract_is_named(kind, options, said) -> None:
    with pytest.raises(AssertionError, match=said):
        check_neuron(kind, **options)


def test_what_it_cannot_choose_is_asked_for() -> None:
    class Sized(Mine):
        def __init__(self, width: int) -> None:
            super().__init__(width)

    with pytest.raises(TypeError, match="cannot choose 'width'"):
        check_neuron(Sized)
    check_neuron(Sized, width=4)
