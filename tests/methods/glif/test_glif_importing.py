"""Checkpoints in the published layout load; files of other networks are refused in words."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikeloom.data.base import DataSpec
from spikeloom.errors import CheckpointError
from spikeloom.methods.glif.config import GlifNetwork
from spikeloom.methods.glif.importing import read_checkpoint
from spikeloom.methods.glif.networks import GlifClassifier, build
from spikeloom.nn import TdBatchNorm

CLASSES = tuple("abc")
IMAGES = DataSpec("images", (3, 8, 8), CLASSES)
FRAMES = DataSpec("frames", (2, 16, 16), CLASSES, "events")


def _net(seed: int, **changes: object) -> GlifClassifier:
    torch.manual_seed(seed)
    values = {"name": "resnet18", "T": 2, "channels": 2, "gate": "random"} | changes
    network = GlifNetwork(**values)  # type: ignore[arg-type]
    return build(network, FRAMES if network.name.startswith("sew") else IMAGES)


def _published(net: GlifClassifier) -> dict[str, Tensor]:
    """The state as the published programs save it: with tdBN's constant."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for name, module in net.named_modules():
        if isinstance(module, TdBatchNorm):
            state[f"{name}.Vth"] = torch.tensor(0.5)
    return state


def _equal(read: dict[str, Tensor], net: GlifClassifier) -> None:
    own = net.state_dict()
    assert read.keys() == own.keys()
    assert all(torch.equal(read[name], own[name]) for name in own)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_train_py_checkpoint(tmp_path: Path, prefix: str) -> None:
    saved, fresh = _net(1), _net(2)
    state = {prefix + name: value for name, value in _published(saved).items()}
    torch.save({"state_dict": state}, tmp_path / "SNN-checkpoint-000200.pth.tar")
    read = read_checkpoint(tmp_path / "SNN-checkpoint-000200.pth.tar", fresh)
    _equal(read, saved)
    fresh.load_state_dict(read)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x).scores, saved.eval()(x).scores)


def test_cifar10dvs_checkpoint_with_float64_gates(tmp_path: Path) -> None:
    saved = _net(1, name="sew7-wide", norm="bn")
    gates = ("alpha", "beta", "gamma")
    state = {
        name: value.double() if name.endswith(gates) else value
        for name, value in _published(saved).items()
    }
    content = {"net": state, "optimizer": {}, "epoch": 168, "max_test_acc": 0.781}
    torch.save(content, tmp_path / "checkpoint_max.pth")
    _equal(
        read_checkpoint(tmp_path / "checkpoint_max.pth", _net(2, name="sew7-wide", norm="bn")),
        saved,
    )


def test_fused_neurons_unused_gate_is_dropped(tmp_path: Path) -> None:
    saved = _net(1, neuron="glif-f", gate=(0.6, 0.8, 0.6))
    state = _published(saved)
    for name in list(state):
        if name.endswith(".conduct"):
            state[name.replace("conduct", "gamma")] = torch.zeros(state[name].shape[1])
    torch.save({"state_dict": state}, tmp_path / "f.pth.tar")
    fresh = _net(2, neuron="glif-f", gate=(0.6, 0.8, 0.6))
    _equal(read_checkpoint(tmp_path / "f.pth.tar", fresh), saved)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"T": 4}, "trained with T=2 .set T=2."),
        ({"channels": 4}, "conv1.0.0.weight is .2, 3, 3, 3., not .4, 3, 3, 3."),
        ({"name": "resnet18ms"}, "lacks features.0.body.0.tau, features.0.body.0.Vth"),
        ({"head": "one"}, "also has lastave.1.weight"),
    ],
)
def test_another_network_is_named(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    torch.save({"state_dict": _published(_net(1))}, tmp_path / "c.pth.tar")
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path / "c.pth.tar", _net(2, **changes))


def test_files_that_hold_no_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pth", _net(1))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "text.pth", _net(1))
    torch.save({"state_dict": [1, 2]}, tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds no network"):
        read_checkpoint(tmp_path / "list.pth", _net(1))
