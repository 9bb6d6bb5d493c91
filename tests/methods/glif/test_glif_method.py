"""GLIF's networks: the published counts, groups for the optimizer, and what does not fit."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from spikeloom.components.optimizers import Sgd, make_optimizer
from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.methods import catalog
from spikeloom.methods.glif.config import GlifNetwork
from spikeloom.methods.glif.networks import GlifClassifier, build
from spikeloom.neurons.gated import GLIF, Gated
from spikeloom.training import evaluate, load_run, train


def _data(kind: str = "static", side: int = 32, classes: int = 10) -> DataSpec:
    names = tuple(map(str, range(classes)))
    return DataSpec("data", (3 if kind == "static" else 2, side, side), names, kind)  # type: ignore[arg-type]


def _net(data: DataSpec | None = None, **values: object) -> GlifClassifier:
    return build(GlifNetwork(**({"T": 2} | values)), data or _data())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "classes", "total"),
    [
        ({"name": "resnet18"}, 10, 11_355_264),
        ({"name": "resnet18"}, 100, 11_272_832),
        ({"name": "resnet18", "per": "layer"}, 10, 11_176_221),
        # The published fused neuron has one more parameter per channel, which nothing uses.
        ({"name": "resnet18", "neuron": "glif-f"}, 10, 11_218_944 - 3_904),
        ({"name": "resnet19"}, 10, 12_758_784),
        ({"name": "resnet19"}, 100, 12_676_352),
        ({"name": "resnet19", "per": "layer"}, 10, 12_700_765),
        ({"name": "cifarnet"}, 10, 45_035_520),
        ({"name": "resnet34", "per": "layer"}, 1000, 21_806_957),
        ({"name": "resnet34"}, 1000, 21_905_536),
        ({"name": "resnet18ms"}, 1000, 11_739_584),
        ({"name": "resnet34ms"}, 1000, 21_899_712),
    ],
)
def test_parameter_counts(values: dict[str, object], classes: int, total: int) -> None:
    net = _net(_data(classes=classes), T=6, **values)
    assert sum(parameter.numel() for parameter in net.parameters()) == total


@pytest.mark.parametrize(
    ("values", "side", "total"),
    [
        ({"name": "sew7-wide"}, 48, 1_236_298),
        ({"name": "sew7", "neuron": "plif"}, 128, 1_192_218),
        ({"name": "sew7", "neuron": "lif"}, 128, 1_192_202),
    ],
)
def test_event_network_parameter_counts(values: dict[str, object], side: int, total: int) -> None:
    net = _net(_data("events", side), T=16, norm="bn", **values)
    assert sum(parameter.numel() for parameter in net.parameters()) == total


@pytest.mark.parametrize("kind", ["glif", "lif", "plif"])
@pytest.mark.parametrize("connect", ["add", "and", "iand"])
def test_event_networks_learn_from_frames(kind: str, connect: str) -> None:
    net = _net(
        _data("events", 16), name="sew7-wide", channels=2, neuron=kind, connect=connect, norm="bn"
    )
    output = net(torch.rand(2, 3, 2, 16, 16) * 4)
    assert output.votes is not None and output.votes.shape == (2, 3, 10)
    net.loss(output, torch.arange(3)).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    more = torch.rand(5, 3, 2, 16, 16)
    if kind == "glif":
        with pytest.raises(ConfigError, match="expected frames"):
            net(more)
    else:
        votes = net(more).votes
        assert votes is not None and len(votes) == 5
        with pytest.raises(ConfigError, match=r"expected frames \[T, B, 2, H, W\]$"):  # of any T
            net(more[0])


def test_scores_are_the_mean_of_the_votes() -> None:
    output = _net(name="cifarnet", channels=2, gates="hard")(torch.randn(3, 3, 32, 32))
    assert output.votes is not None
    assert torch.allclose(output.scores, output.votes.mean(0))


def test_optimizer_groups() -> None:
    net = _net(name="resnet18", channels=2, gate_lr=0.1)
    config = Sgd(lr=0.1, momentum=0.9, weight_decay=4e-5)
    optimizer = make_optimizer(config, net.parameter_groups())
    rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert rates == [(0.1, 4e-5), (0.1, 0.0), (pytest.approx(0.01), 0.0)]
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert len({id(p) for p in grouped}) == len(grouped) == len(list(net.parameters()))
    gates = {id(p) for p in optimizer.param_groups[2]["params"]}
    expected = {
        id(p) for m in net.modules() if isinstance(m, GLIF) for p in (m.alpha, m.beta, m.gamma)
    }
    assert gates == expected


def test_frozen_gates_are_not_given_to_the_optimizer() -> None:
    groups = list(_net(name="resnet18", channels=2, gates="static-soft").parameter_groups())
    assert len(groups) == 2


def test_code_sign_inverts_layer_wise_gates_only() -> None:
    def gate(**values: str) -> float:
        net = _net(None, name="resnet18", channels=2, **values)
        layer = next(m for m in net.modules() if isinstance(m, Gated))
        assert isinstance(layer, GLIF)
        return float(layer.constants()["alpha"].mean())

    assert gate(per="layer") == pytest.approx(0.55)
    assert gate(per="layer", gate_sign="code") == pytest.approx(0.45)
    assert gate(gate_sign="code") == pytest.approx(0.55)


def test_leak_can_follow_the_number_of_steps() -> None:
    net = _net(name="resnet18", channels=2, T=10, leak="threshold/2T")
    layer = next(m for m in net.modules() if isinstance(m, Gated))
    assert float(layer.constants()["leak"].mean()) == pytest.approx(0.5 / 20)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "resnet18", "neuron": "plif"},
        {"name": "resnet18", "neuron": "glif-f", "per": "layer"},
        {"name": "resnet18", "time_wise": True, "learn_membrane": False},
        {"name": "resnet18", "gate": (0.5, 1.5, 0.5)},
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GlifNetwork(T=2, **values)  # type: ignore[arg-type]


def test_a_run_is_evaluated_at_another_t_by_interpolation(tmp_path: Path) -> None:
    small = ["channels=4", "epochs=1", "batch_size=479", "training.backend=eager", "T=3"]
    run = tmp_path / "run"
    train(catalog.load_recipe("glif/digits", small), run)
    with pytest.raises(ConfigError, match="eval --interpolate"):
        evaluate(run, timesteps=5)
    assert len(evaluate(run, timesteps=5, interpolate=True).accuracy_per_timestep) == 5
    three, five = load_run(run), load_run(run, timesteps=5, interpolate=True)
    for short, long in zip(
        (m for m in three.classifier.modules() if isinstance(m, GLIF)),
        (m for m in five.classifier.modules() if isinstance(m, GLIF)),
        strict=True,
    ):
        assert torch.equal(long.conduct[::2], short.conduct)
        torch.testing.assert_close(long.conduct[1], short.conduct[:2].mean(0))
        assert torch.equal(long.tau, short.tau)
    same = evaluate(run, timesteps=3, interpolate=True)
    assert same.loss == evaluate(run).loss


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes images"):
        _net(_data("events", 48), name="resnet18")
    with pytest.raises(ConfigError, match="takes event frames"):
        _net(name="sew7")
    with pytest.raises(ConfigError, match="halves its input 7 times"):
        _net(_data("events", 48), name="sew7")


def test_every_recipe_of_glif_loads() -> None:
    names = [name for name in catalog.recipe_names() if name.startswith("glif/")]
    assert len(names) >= 15
    for name in names:
        recipe = catalog.load_recipe(name)
        assert recipe.method == "glif"
        assert f"T={recipe.network.T}" in recipe.title or name == "glif/digits"  # type: ignore[attr-defined]


ABLATIONS = (
    ["gates=static-hard", "gate=[1, 0, 1]"],
    ["gates=static-soft"],
    ["gate=[0.6, 0.8, 0.6]"],
    ["per=layer"],
    ["per=layer", "learn_membrane=false"],
    ["neuron=glif-f"],
    ["gates=hard"],
    ["gate_lr=1.0"],
    ["T=2"],
    ["precision=float16"],
)


@pytest.mark.parametrize("overrides", ABLATIONS, ids=" ".join)
def test_ablations_are_overrides(overrides: list[str]) -> None:
    recipe = catalog.load_recipe("glif/digits", overrides)
    net = build(recipe.network, DataSpec("digits", (1, 8, 8), tuple("0123456789")))  # type: ignore[arg-type]
    net.loss(net(torch.rand(2, 1, 8, 8)), torch.tensor([0, 1])).backward()
