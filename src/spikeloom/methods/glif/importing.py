"""Checkpoints of the published programs (CAS-CLab/Gated-LIF), read without running their content.

    train.py           <tag>-checkpoint-<epoch>.pth.tar    {"state_dict": ...}
    cifar10dvs         checkpoint_max.pth                  {"net": ..., "optimizer": ..., ...}

The module names are ours. `module.` stands in front of all where the model was wrapped; tdBN has a
constant buffer `Vth` more; the fused neuron a parameter `gamma` that nothing uses; the CIFAR10-DVS
gates are float64.
"""

from pathlib import Path

from torch import Tensor

from spikeloom.errors import CheckpointError
from spikeloom.methods.published import network_in
from spikeloom.neurons import FusedGLIF
from spikeloom.nn import Classifier, TdBatchNorm


def read_checkpoint(path: Path, classifier: Classifier) -> dict[str, Tensor]:
    """The state of `classifier` from a published checkpoint.

    Raises `CheckpointError` if the file cannot be read or is of another network: another T, other
    widths, soft gates for fused neurons, and so on; it names the first differences.
    """
    state = network_in(path, "state_dict", "net")
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
