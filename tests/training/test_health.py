"""Twelve ways to kill a network, and what is said about each after the first epoch."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from spikeloom import report, training
from spikeloom.analysis import FiringRates, Health, diagnose, idle_parameters
from spikeloom.analysis.health import News
from spikeloom.cli import doctor
from spikeloom.data import load, to_float
from spikeloom.errors import NonFiniteError
from spikeloom.methods.catalog import build, load_recipe
from spikeloom.methods.ide.restriction import restrict
from spikeloom.neurons import LIF, PLIF, Rectangle, Surrogate
from spikeloom.nn import Classifier
from spikeloom.training import train

PAGE = Path(__file__).parents[2] / "docs" / "health.md"
SMALL = ("channels=4", "hidden=16", "backend=eager", "dropout=0")


class NoSurrogate(Surrogate):
    """Compares, and has no derivative anywhere."""

    def derivative(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)


def weights(network: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in network.named_parameters() if name.endswith("weight") and p.dim() > 1]


def surrogate(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, PLIF | LIF):
            module.surrogate = NoSurrogate()


def narrow(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, PLIF | LIF):
            module.surrogate = Rectangle(1e-4)


@torch.no_grad()
def scale(network: nn.Module, factor: float) -> None:
    for weight in weights(network):
        weight.mul_(factor)


@torch.no_grad()
def norms(network: nn.Module, gain: float) -> None:
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1 and name.endswith("weight"):
            parameter.fill_(gain)


@torch.no_grad()
def absolute(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            parameter.abs_().mul_(3)


def freeze(network: nn.Module) -> None:
    for parameter in list(network.parameters())[:-1]:
        parameter.requires_grad_(False)


Change = Callable[[Classifier], object]
WAYS: dict[str, tuple[tuple[str, ...], Change, float, tuple[str, ...]]] = {
    # name: overrides, change of the built network, scale of the input, what is said
    "lr": ((), lambda n: step_of(n, 1e6), 1.0, ("silent", "saturated")),
    "threshold": (("v_threshold=50",), lambda n: None, 1.0, ("silent",)),
    "tau": (("neuron=lif", "tau=200", "pool=avg"), lambda n: None, 1.0, ("silent",)),
    "init": ((), lambda n: (scale(n, 1e-3), norms(n, 1e-3)), 1.0, ("silent",)),
    "dtype": ((), lambda n: scale(n.half().float(), 1e-6) or norms(n, 0.0), 1.0, ("silent",)),
    "surrogate": ((), surrogate, 1.0, ("without_gradient",)),
    "input scale": ((), absolute, 10.0, ("saturated",)),
    "normalisation": ((), lambda n: norms(n, 0.0), 1.0, ("silent", "one_class")),
    "pooling": (("pool=avg", "v_threshold=3"), lambda n: None, 1.0, ("silent",)),
    "T = 1": (("T=1", "neuron=lif", "tau=16"), lambda n: None, 1.0, ("silent",)),
    "frozen": ((), freeze, 1.0, ("frozen",)),
    "masked": ((), lambda n: scale(n, 0.0), 1.0, ("silent", "without_gradient")),
}


@torch.no_grad()
def step_of(network: nn.Module, lr: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.sub_(lr * torch.randn(parameter.shape, generator=generator))


def seen(overrides: tuple[str, ...], change: Change, gain: float) -> Health:
    """What is found after one step on 128 digits, and a look at as many."""
    torch.manual_seed(0)
    recipe = load_recipe("plif/digits", [*SMALL, *overrides])
    digits = load("digits")
    network = build(recipe, digits.spec, torch.device("cpu"))
    # As after some training: the linear layers, which have no normalisation, fire too.
    for name, parameter in network.named_parameters():
        if name.startswith("fc") and name.endswith("weight"):
            parameter.data.mul_(5)
    change(network)
    raw = digits.train.read(torch.arange(128))
    normal = gain == 1.0
    x = to_float(raw, digits.mean, digits.std) if normal else gain * raw.float()
    network.train(normal)  # otherwise BatchNorm does nothing yet
    labels = digits.train.labels[:128]
    loss = network.loss(network(x), labels)
    if loss.requires_grad:
        loss.backward()
    idle = idle_parameters(network)
    confusion = torch.zeros(10, 10, dtype=torch.int64)
    with torch.no_grad(), FiringRates(network) as rates:
        answers = network(x).scores.argmax(1)
    confusion.index_put_((labels, answers), torch.tensor(1), accumulate=True)
    return diagnose(network, rates.per_layer(), without_gradient=idle, confusion=confusion)


def test_a_good_network_is_well() -> None:
    found = seen((), lambda network: None, 1.0)
    assert not found and found.short() == "" and found.advice() == {}


@pytest.mark.parametrize("way", WAYS)
def test_what_kills_a_network_is_named(way: str) -> None:
    overrides, change, gain, said = WAYS[way]
    found = seen(overrides, change, gain).to_dict()
    assert set(said) & set(found), f"{way}: {found}"


def test_the_page_has_a_row_for_each_way() -> None:
    rows = re.findall(r"^\| ([\w =]+?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [row for row in rows if row in WAYS] == list(WAYS)


def test_not_a_number_is_an_error_and_no_finding(tmp_path: Path) -> None:
    recipe = load_recipe("plif/digits", [*SMALL, "lr=1e30", "epochs=1", "batch_size=512"])
    with pytest.raises(NonFiniteError):
        train(recipe, tmp_path / "run", console=Console(quiet=True))


def test_the_dead_network_is_named_in_the_line_of_its_first_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("epochs=2", "neuron=lif", "tau=16", "pool=avg", "batch_size=256", "threads=1")
    recipe = load_recipe("plif/digits", [*SMALL, *changes, "logging.tensorboard=false"])
    train(recipe, tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.startswith("epoch 0"))
    assert "silent: conv.0" in first and "answers class 0 for every sample" in first
    warnings = [line for line in lines if line.startswith("warning:")]
    assert any("lower v_threshold or tau" in line for line in warnings)
    assert len(warnings) == len(set(warnings))  # told when it changes, not in every epoch
    record = training.read_events(tmp_path / "run" / "metrics.jsonl")
    health = [event["health"] for event in record if event["event"] == "epoch"]
    assert "conv.0" in health[0]["silent"] and health[0]["one_class"] == 0

    found = {f.subject: f for f in doctor.examine_run(tmp_path / "run")}
    assert found["silent"].state == "broken" and "conv.0" in found["silent"].detail
    assert "lower v_threshold or tau" in found["silent"].advice
    assert "its threshold is 1" in found["potential"].detail
    page = report.write([tmp_path / "run"]).read_text("utf-8")
    assert "This network is not well." in page and "No prediction: all scores are equal" in page


def test_a_constant_at_its_bound_is_not_without_gradient() -> None:
    """IDE's gain beyond its limit has none, as published; its weights have."""
    synapse = nn.Linear(4, 4)
    restrict(synapse, "spectral", 1e-3)
    synapse(torch.rand(3, 4)).square().sum().backward()
    rule = synapse.parametrizations["weight"][0]  # type: ignore[index]
    assert not rule.gain.grad and idle_parameters(synapse) == []
    synapse.zero_grad()
    assert idle_parameters(synapse) == ["parametrizations.weight.original"]


def test_what_is_frozen_is_a_note_and_on_purpose_nothing() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    found = diagnose(network, {})
    assert found.frozen == ("0.weight", "0.bias") and not found
    news = News()
    assert news.lines(found) == ["note: 0: not trained, requires_grad is false there"]
    assert news.lines(found) == []  # told once
    assert diagnose(network, {}, frozen_on_purpose=["0.*"]).frozen == ()


def test_findings_survive_the_record() -> None:
    found = Health(silent=("a", "b"), one_class=3, still=True)
    assert Health.from_dict(found.to_dict()) == found
    assert "and 2 more" in Health(silent=tuple("abcdefgh")).short()
