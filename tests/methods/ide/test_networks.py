"""The published networks: their sizes, what they accept, and what they do in an optimizer."""

import pytest
import torch
from ide_nets import make_classifier, make_inputs

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods.catalog import load_recipe, recipe_names
from spikeloom.methods.ide.config import IdeNetwork
from spikeloom.methods.ide.networks import IdeClassifier, build

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
NMNIST = (2, 34, 34)


def _build(name: str, shape: tuple[int, ...], classes: int = 10, **settings) -> IdeClassifier:
    kind = "events" if shape == NMNIST else "static"
    data = DataSpec("data", shape, tuple(map(str, range(classes))), kind=kind)
    return build(IdeNetwork(name=name, T=1, **settings), data)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "settings", "neurons", "weights", "trainable"),
    [
        ("f64c5", MNIST, 10, {}, 12_544, 229_440, 229_643),
        ("f400", MNIST, 10, {}, 400, 477_600, 478_811),
        ("f64c5", NMNIST, 10, {}, 16_384, 269_440, 269_643),
        ("f64c5", NMNIST, 10, {"padding_x": 2}, 18_496, 290_560, 290_763),
        ("alexnet-f", CIFAR, 10, {}, 155_648, 3_705_376, 3_709_515),
        ("alexnet-f", CIFAR, 100, {}, 155_648, 5_179_936, 5_184_165),
        ("cifarnet-f", CIFAR, 10, {}, 229_376, 11_832_704, 11_840_011),
        ("cifarnet-f", CIFAR, 100, {}, 229_376, 14_781_824, 14_789_221),
    ],
)
def test_sizes_are_the_published_ones(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    settings: dict[str, int],
    neurons: int,
    weights: int,
    trainable: int,
) -> None:
    net = _build(name, shape, classes, **settings)
    parameters = dict(net.named_parameters())
    assert sum(p.numel() for n, p in parameters.items() if p.dim() > 1) == weights
    assert sum(p.numel() for p in parameters.values()) == trainable
    counted: list[int] = []
    time = (1,) if net.feedback.events else ()

    def count(t: int, spikes: list[torch.Tensor]) -> None:
        counted[:] = [fired.numel() for fired in spikes]

    net.eval()
    with torch.no_grad():
        net.feedback(net.arrange(torch.zeros(*time, 1, *shape)), observe=count)
    assert sum(counted) == neurons


@pytest.mark.parametrize("name", [n for n in recipe_names() if n.startswith("ide/")])
def test_recipes_build(name: str) -> None:
    recipe = load_recipe(name)
    shape = {"mnist": MNIST, "fashion-mnist": MNIST, "digits": (1, 8, 8)}.get(
        recipe.data.name, NMNIST if recipe.data.name.startswith("nmnist") else CIFAR
    )
    assert isinstance(recipe.network, IdeNetwork)
    net = _build(recipe.network.name, shape)
    assert net.readout.out_features == 10
    if name not in ("ide/digits", "ide/cifar10-compact"):
        assert recipe.published and (recipe.network.neuron == "if") == ("-if" in name)


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be multiples of 4"):
        _build("alexnet-f", (3, 30, 30))
    with pytest.raises(ConfigError, match="nothing is left"):
        _build("f64c5", (1, 2, 2), padding_x=0)
    with pytest.raises(ConfigError, match=r"use network\.name = f400"):
        _build("f64c5", (700,))


def test_wrong_input_is_named() -> None:
    net = make_classifier("f64c5", events=True)
    with pytest.raises(ConfigError, match=r"expected frames \[6, B, ...\]; set network.T"):
        net(make_inputs(net)[:4])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "f400", "padding_x": 1}, "only f64c5 has it"),
        ({"name": "alexnet-f", "channels": (4,)}, "give 5 positive numbers"),
        ({"name": "f400", "solver": "newton"}, "broyden"),
        ({"name": "f400", "leak": 1.0}, "less than 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IdeNetwork(T=2, **settings)


def test_decay_may_spare_biases_and_gains() -> None:
    net = make_classifier("alexnet-f", decay="weights")
    decayed, spared = net.parameter_groups()
    assert spared["weight_decay"] == 0.0 and "weight_decay" not in decayed
    names = {id(p): name for name, p in net.named_parameters()}
    assert all(names[id(p)].endswith(("weight", "original")) for p in decayed["params"])  # type: ignore[union-attr]
    count = len(decayed["params"]) + len(spared["params"])  # type: ignore[arg-type]
    assert count == len(list(net.parameters()))


@pytest.mark.parametrize("restriction", ["spectral", "weight-norm"])
def test_restricted_feedback_keeps_its_norm(restriction: str) -> None:
    net = make_classifier("f400", restriction=restriction, norm_range=0.5)
    synapse = net.feedback.transforms[0].synapse
    for _ in range(60):  # power iterations
        weight = synapse.weight.detach()
    if restriction == "spectral":
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(0.5, rel=1e-3)
    else:
        assert torch.allclose(weight.norm(dim=1), torch.tensor(0.5), atol=1e-6)


def test_learns_two_classes() -> None:
    """Some steps of SGD on one batch halve the loss."""
    net = make_classifier("f64c5", T=10)
    x, labels = make_inputs(net, batch=12), torch.arange(12) % 3
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = net.loss(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_figures_show_convergence(layers: str) -> None:
    net = make_classifier(layers, T=40, neuron="if")
    x = make_inputs(net, batch=4)
    with torch.no_grad():
        for _ in range(30):  # running statistics: without them the rate map is no contraction
            net(x)
    solvers, rates = net.eval().figures(x, torch.tensor([0, 1, 2, 0]))
    assert set(solvers.curves) == {"broyden", "anderson", "fixed-point"}
    for trace in solvers.curves.values():
        assert trace[0] == 1 and trace[-1] < 1e-3
    distance = rates.curves["distance"]
    assert len(distance) == 40 and rates.start == 1
    assert distance[-1] < distance[0] / 2
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile traces with warnings of its own
def test_torch_compile_changes_nothing() -> None:
    """The feedback network runs as it is; what is around it may be compiled."""
    plain, other = make_classifier("f64c5"), make_classifier("f64c5")
    x = make_inputs(plain)
    compiled = torch.compile(other, backend="aot_eager")
    for net in (plain, compiled):
        net(x).scores.square().sum().backward()
    for ours, theirs in zip(plain.parameters(), other.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
