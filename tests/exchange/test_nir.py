"""Networks go to NIR and come back with the same spikes, or are refused by name."""

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.errors import ExportError

nir = pytest.importorskip("nir")
from tests.exchange.peer_spikes import FILE, PEERS, answer, cases, ours  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def neuron(draw: random.Random, width: int) -> sl.Neuron:
    reset = draw.choice([0.0, 0.0, -0.25])
    spiking = {"v_threshold": draw.choice([0.3, 0.5]), "v_reset": reset}
    strict = {"surrogate": sl.ATan(strict=draw.random() < 0.5)}
    decay = {"decay_input": draw.random() < 0.5}
    tau = draw.choice([1.7, 2.0, 3.3])
    made = [
        lambda: sl.IF(**spiking, **strict),
        lambda: sl.LIF(tau, **decay, **spiking, **strict),
        lambda: sl.PLIF(tau, shape=draw.choice([(), (width,)]), **decay, **spiking, **strict),
        lambda: sl.CuLIF(tau, 2.0, delay=draw.choice([1, 2]), **spiking),
        lambda: sl.PCuLIF(tau, 2.0, shape=(width,), delay=draw.choice([1, 2]), **spiking),
    ]
    found = draw.choice(made)()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    found.backend = "eager"
    return found


class Residual(nn.Module):
    """x + f(x), or f(x) + g(x): branches that meet."""

    time_first = True

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


def residual(draw: random.Random, width: int) -> Residual:
    def branch() -> sl.nn.Sequential:
        return sl.nn.Sequential(nn.Linear(width, width), neuron(draw, width))

    other = draw.choice([nn.Identity, branch])()
    return Residual(branch(), sl.nn.Sequential(other, Residual(branch(), nn.Identity())))


def network(draw: random.Random) -> tuple[sl.nn.Sequential, tuple[int, ...]]:
    layers: list[nn.Module] = []
    shape: tuple[int, ...] = (draw.choice([2, 5]),)
    if draw.random() < 0.4:
        channels = draw.choice([2, 3])
        shape = (1, 6, 6)
        layers += [nn.Conv2d(1, channels, 3, padding=1), neuron(draw, channels)]
        layers += [nn.AvgPool2d(2), nn.Flatten()]
        width = channels * 9
    else:
        (width,) = shape
    for _ in range(draw.choice([1, 2])):
        features = draw.choice([3, 4])
        layers.append(nn.Linear(width, features, bias=draw.random() < 0.5))
        one = neuron(draw, features)
        if draw.random() < 0.4:
            heard = draw.choice(["input", "i"]) if "i" in one.states else "input"
            one = sl.nn.Recurrent(one, features, into=heard)
        layers.append(one)
        if draw.random() < 0.4:
            layers.append(residual(draw, features))
        width = features
    if draw.random() < 0.3:
        layers += [nn.Linear(width, 2), sl.LI(draw.choice([2.0, 3.3]), backend="eager")]
    return sl.nn.Sequential(*layers).eval(), shape


def test_200_random_networks_come_back_with_the_same_spikes(tmp_path: Path) -> None:
    fired = 0.0
    for seed in range(200):
        draw = random.Random(seed)
        torch.manual_seed(seed)
        net, shape = network(draw)
        dt = draw.choice([1e-3, 1e-4, 1.0])
        nir.write(tmp_path / "net.nir", sl.to_nir(net, shape, dt=dt))
        back = sl.from_nir(tmp_path / "net.nir", dt=dt)
        for layer in back.modules():
            if isinstance(layer, sl.Neuron):
                layer.backend = "eager"
        x = torch.rand(6, 2, *shape) * 3
        with torch.no_grad():
            expected, found = net(x), back(x)
        assert torch.equal(expected, found), (seed, net, back)
        fired += expected.mean().item()
    assert fired > 5  # they are not all silent


def test_learned_constants_come_back_as_parameters() -> None:
    net = sl.nn.Sequential(nn.Linear(3, 4), sl.PLIF(3.3, shape=(4,)))
    (_, back) = sl.from_nir(sl.to_nir(net, (3,)))
    assert isinstance(back, sl.PLIF) and torch.equal(back.w, net[1].w)


def test_an_edited_graph_is_what_it_says_now() -> None:
    net = sl.nn.Sequential(nn.Linear(3, 4), sl.LIF(2.0))
    graph = sl.to_nir(net, (3,))
    graph.nodes["1"].tau[:] = 5e-3
    (_, back) = sl.from_nir(graph)
    assert back.tau == 5


def test_batchnorm_is_folded() -> None:
    torch.manual_seed(0)
    net = sl.nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), sl.nn.BatchNorm(3), sl.LI(backend="eager")
    ).eval()
    net[1].running_mean.uniform_()
    net[1].running_var.uniform_(0.5, 2)
    back = sl.from_nir(sl.to_nir(net, (1, 5, 5)))
    back[1].backend = "eager"
    x = torch.rand(4, 2, 1, 5, 5)
    assert len(back) == 2
    assert torch.allclose(net(x), back(x), atol=1e-6)


def test_gated_neurons_that_are_lif_are_expressed() -> None:
    """Gates A = G = 1: an exponential leak and a hard reset."""
    torch.manual_seed(0)
    net = sl.nn.Sequential(sl.GLIF(5, gates="static_hard", gate=(1.0, 1.0, 1.0), backend="eager"))
    graph = sl.to_nir(net, (5,))
    back = sl.from_nir(graph)
    back[0].backend = "eager"
    x = torch.rand(30, 4, 5) * 2
    assert graph.nodes["0"].tau.shape == (5,)
    assert torch.equal(net(x), back(x)) and net(x).any()


LAYERS: dict[str, tuple[nn.Module, str]] = {
    "soft reset": (sl.LIF(v_reset=None), "resets by subtraction"),
    "GLIF": (sl.GLIF(4), "GLIF has no form in NIR but with"),
    "AdLIF": (sl.AdLIF(3.0), "AdLIF has no form in NIR"),
    "into v": (sl.nn.Recurrent(sl.LIF(), 4, into="v"), "go into 'v' have no form"),
    "softmax": (nn.Softmax(-1), "Softmax has no form in NIR"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_has_no_exact_form_is_refused_by_name(name: str) -> None:
    layer, words = LAYERS[name]
    with pytest.raises(ExportError, match=words):
        sl.to_nir(sl.nn.Sequential(nn.Linear(3, 4), layer), (3,))


def test_losses_are_taken_on_purpose_and_named() -> None:
    net = sl.nn.Sequential(nn.Linear(3, 4), sl.LIF(v_reset=None))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        graph = sl.to_nir(net, (3,), allow_lossy=True)
    assert (graph.nodes["1"].v_reset == 0).all()
    assert any("resets by subtraction" in str(one.message) for one in said)


def branched(*lost: str) -> Any:
    """The input times 2, 3 and 5, added; the nodes `lost` do not get it."""
    scales = {"a.b": 2.0, "a_b": 3.0, "values": 5.0}
    nodes = {name: nir.Scale(np.full(4, scale, np.float32)) for name, scale in scales.items()}
    ends = {"in": nir.Input({"input": np.array([4])}), "out": nir.Output({"output": np.array([4])})}
    edges = [(name, "out") for name in nodes]
    edges += [("in", name) for name in nodes if name not in lost]
    return nir.NIRGraph(ends | nodes, edges, type_check=False)


def test_a_sample_in_place_of_a_shape_is_refused() -> None:
    with pytest.raises(ExportError, match=r"a tensor of shape \[1, 28, 28\]: give the shape"):
        sl.to_nir(nn.Linear(28, 2), torch.zeros(1, 28, 28))  # type: ignore[arg-type]


def test_branches_of_any_names_are_added() -> None:
    x = torch.rand(3, 1, 4)
    torch.testing.assert_close(sl.from_nir(branched())(x), 10 * x)


def test_a_branch_that_does_not_get_the_input_is_refused() -> None:
    with pytest.raises(ExportError, match="out: nothing leads to a_b from the input"):
        sl.from_nir(branched("a_b"))


class Otherwise(nn.Module):
    """Functions between its layers."""

    time_first = True

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = sl.IF(backend="eager"), function

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.function(self.layer(x)))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x * x, "'mul' between layers"),
        (lambda x: x.transpose(2, 3), "'transpose' between layers"),
        (lambda x: x[:, :, :2], "'getitem' between layers"),
        (lambda x: x[-1:], "'getitem' between layers"),
        (lambda x: x.flatten(2), r"\[16\] was \[4, 4\]"),
        (lambda x: torch.zeros(2, 1, 4, 4), "no layer before it"),
        (lambda x: x + 1, "'add' between layers"),
    ],
)
def test_functions_between_layers_are_refused_by_name(
    function: Callable[[Tensor], Tensor], words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        sl.to_nir(Otherwise(function), (4, 4))


class Shown(sl.nn.Classifier):
    """An image that is shown at every step, behind a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = sl.IF(backend="eager"), function

    def current(self, inputs: Tensor) -> Tensor:
        return inputs.expand(3, *inputs.shape)

    def course(self, current: Tensor) -> tuple[Tensor, ...]:
        return (self.layer(self.function(current)),)


def test_of_a_shown_image_a_step_may_be_taken_but_no_part() -> None:
    sl.to_nir(Shown(lambda x: x[0].expand(3, -1, -1)), (4,))
    for function in (lambda x: x[:, :, [3, 2, 1, 0]], lambda x: x[:, :, :2]):
        with pytest.raises(ExportError, match="'getitem' between layers"):
            sl.to_nir(Shown(function), (4,))


def test_batchnorm_is_not_folded_where_others_read_the_layer_without_it() -> None:
    norm = sl.nn.Sequential(sl.nn.BatchNorm(4))
    net = sl.nn.Sequential(nn.Linear(3, 4), Residual(norm, nn.Identity()), Residual(norm, norm))
    with pytest.raises(ExportError, match="BatchNorm is folded"):
        sl.to_nir(net, (3,))


COMMON = (
    "LIF, dt 0.1 ms",
    "LIF, Affine, LIF, dt 0.1 ms",
    "CubaLIF, r and w_in = tau / dt, dt 0.1 ms",
    "Conv2d, LIF, Flatten, Affine, LIF, dt 0.1 ms",
    "residual: LIF + LIF(Affine), dt 0.1 ms",
    "exported by to_nir: Linear, PLIF, Linear, LIF, dt 0.1 ms",
)
"""What three libraries and ours agree on."""


def test_three_libraries_spike_alike_on_the_same_graphs() -> None:
    """peers.npz holds what the libraries themselves answered, see peer_spikes.py."""
    golden = np.load(FILE)
    for name, case in cases().items():
        spikes = ours(case.graph, case.dt, case.inputs()).numpy()
        assert spikes.any() and len(np.unique(spikes)) == 2
        if name in COMMON:
            for peer in ("norse", "snntorch", "spikingjelly"):
                assert np.array_equal(spikes, golden[f"{peer}: {name}"]), (peer, name)
        if f"spikingjelly: {name}" in golden:  # right about all that it takes
            assert np.array_equal(spikes, golden[f"spikingjelly: {name}"]), name


@pytest.mark.parametrize("peer", PEERS)
def test_peers_answer_what_is_kept_of_them(peer: str) -> None:
    pytest.importorskip(peer, reason=f"{peer} is not installed")
    golden = np.load(FILE)
    for name, case in cases().items():
        spikes = answer(peer, case.graph, case.dt, case.inputs())
        kept = golden.get(f"{peer}: {name}")
        assert (kept is None) == isinstance(spikes, str), (name, spikes)
        assert kept is None or np.array_equal(kept, spikes), name
