"""Checkpoints of the published programs (CAS-CLab/Gated-LIF), read without running their content.

    train.py           <tag>-checkpoint-<epoch>.pth.tar    {"state_dict": ...}
    cifar10dvs         checkpoint_max.pth                  {"net": ..., "optimizer": ..., ...}

The module names are ours. `module.` stands in front of all where the model was wrapped; tdBN has a
constant buffer `Vth` more; the fused neuron a parameter `gamma` that nothing uses; the CIFAR10-DVS
gates are float64.
"""

from pathlib import Path

from torch import Tensor

from spikeloom.data.files import saved_tensors
from spikeloom.errors import CheckpointError
from spikeloom.neurons import FusedGLIF
from spikeloom.nn import Classifier, TdBatchNorm

_WRAPPED = "module."


def read_checkpoint(path: Path, classifier: Classifier) -> dict[str, Tensor]:
    """The state of `classifier` from a published checkpoint.

    Raises `CheckpointError` if the file cannot be read or is of another network: another T, other
    widths, soft gates for fused neurons, and so on; it names the first differences.
    """
    state = _plain(path, _load(path))
    unused = {f"{name}.Vth" for name, m in classifier.named_modules() if type(m) is TdBatchNorm}
    unused |= {f"{name}.gamma" for name, m in classifier.named_modules() if type(m) is FusedGLIF}
    state = {name: value for name, value in state.items() if name not in unused}
    own = classifier.state_dict()
    for name, value in own.items():
        # Files from before PyTorch 0.4 lack the counter; nothing depends on it.
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, value)
    _compare(path, state, own)
    return {name: state[name].to(value.dtype) for name, value in own.items()}


def _load(path: Path) -> object:
    try:
        return saved_tensors.load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: give a published checkpoint") from error
    except (OSError, saved_tensors.RefusedError) as error:
        raise CheckpointError(
            f"{path} cannot be read as saved tensors ({error}): "
            "give the .pth.tar or .pth file that the published program wrote"
        ) from error


def _plain(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict inside, without the prefix of a wrapped model."""
    if isinstance(content, dict):
        content = content.get("state_dict", content.get("net", content))
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f'{path} holds no network: expected a dictionary with "state_dict" or "net", and '
            "tensors by name inside"
        )
    return {str(name).removeprefix(_WRAPPED): value for name, value in content.items()}


def _compare(path: Path, state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    problems = []
    for what, names in (
        ("lacks", own.keys() - state.keys()),
        ("also has", state.keys() - own.keys()),
    ):
        if names:
            first = ", ".join(sorted(names)[:3])
            problems.append(f"{what} {first}" + f" and {len(names) - 3} more" * (len(names) > 3))
    for name in own.keys() & state.keys():
        theirs, ours = list(state[name].shape), list(own[name].shape)
        if theirs != ours:
            if name.endswith("conduct") and theirs[1:] == ours[1:]:
                problems.insert(0, f"was trained with T={theirs[0]} (set T={theirs[0]})")
            else:
                problems.append(f"{name} is {theirs}, not {ours}")
    if problems:
        shown = "; ".join(dict.fromkeys(problems[:1] + sorted(problems[1:])[:3]))
        raise CheckpointError(
            f"{path} is of another network: it {shown}; "
            "use the recipe of the network that was saved"
        )
