"""Checkpoints in the form of the published program."""

from pathlib import Path

import pytest
import torch
from ide_nets import make_classifier, make_inputs

from spikeloom.errors import CheckpointError
from spikeloom.methods.ide.importing import read_checkpoint
from spikeloom.methods.ide.networks import IdeClassifier

# What the published modules call the synapses of each network.
SYNAPSES = {"f400": "fc", "f64c5": "conv", "alexnet-f": "conv"}


def published_state(net: IdeClassifier, layers: str) -> dict[str, torch.Tensor]:
    """The state of `net` as the published program saves it: prefixes, aliases, and the copy."""
    state: dict[str, torch.Tensor] = {}
    many = layers == "alexnet-f"
    for name, value in net.state_dict().items():
        head, _, rest = name.partition(".")
        if head == "readout":
            state[f"classifier.{rest}"] = value
            continue
        if rest == "tally":
            continue
        parts = rest.split(".")
        where = "x" if parts[0] == "input_transform" else f"s{int(parts[1]) + 1}" if many else "s"
        inner = parts[1:] if where == "x" else parts[2:]
        kind = "convT" if where == "s5" else SYNAPSES[layers]
        if inner[0] == "norm":
            key = f"network_{where}.bn.{inner[1]}"
        elif inner[1] == "parametrizations":
            letter = {"original": "w", "gain": "g", "u": "u", "v": "v"}[inner[-1]]
            key = f"network_{where}.{kind}.weight_{letter}"
        else:
            key = f"network_{where}.{kind}.{inner[1]}"
        state[key] = value
        state[f"snn_func.{key}"] = value
        state[f"snn_func_copy.{key}"] = value + 1
        state[f"snn_ide_{SYNAPSES[layers]}.snn_func.{key}"] = value
    return {f"module.{name}": value for name, value in state.items()}


def _save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save({"epoch": 3, "state_dict": state, "best_acc": 99.0}, path)
    return path


def test_round_trip(layers: str, tmp_path: Path) -> None:
    net = make_classifier(layers).eval()
    torch.manual_seed(5)
    other = make_classifier(layers).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.3)
    path = _save(tmp_path / "model.pth.tar", published_state(net, layers))
    other.load_state_dict(read_checkpoint(path, other))
    x = make_inputs(net)
    with torch.no_grad():
        assert torch.equal(net(x).scores, other(x).scores)


def test_another_network_is_named(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pth.tar", published_state(make_classifier("f64c5"), "f64c5"))
    with pytest.raises(CheckpointError, match=r"lacks feedback\.transforms\.0\.synapse"):
        read_checkpoint(path, make_classifier("alexnet-f"))
    with pytest.raises(CheckpointError, match=r"is \[4, 1, 5, 5\], not \[5, 1, 5, 5\]"):
        read_checkpoint(path, make_classifier("f64c5", channels=(5,)))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_damaged_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as saved tensors") as error:
        read_checkpoint(path, make_classifier("f64c5"))
    assert "\n" not in str(error.value)


def test_file_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "list.pth.tar"
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="expected a dictionary"):
        read_checkpoint(path, make_classifier("f64c5"))
