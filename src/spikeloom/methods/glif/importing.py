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
from spikeloom.methods.published import fit, network_in
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
    ours = classifier.state_dict()
    for name in ours.keys() & state.keys():
        theirs, our = state[name].shape, ours[name].shape
        if name.endswith("conduct") and theirs != our and theirs[1:] == our[1:]:
            T = theirs[0]
            raise CheckpointError(f"{path} was trained with T={T} (set T={T}), not T={our[0]}")
    # Files from before PyTorch 0.4 lack the counter; nothing depends on it.
    return fit(path, state, ours, optional=("num_batches_tracked",))
