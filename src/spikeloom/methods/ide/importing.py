"""Checkpoints of the published program (pkuxmq/IDE-FSNN), read without running what they contain.

`checkpoint.pth.tar` is a dictionary with `state_dict`, whose keys carry `module.` in front and
repeat most tensors: of the network's parts only these are its state, the rest (`snn_func`,
`snn_func_copy`, `snn_ide_*`) are other names of them or a copy for the backward pass.

    network_x.conv.weight, .bias, network_x.bn.*                          A_x (f400: `fc`)
    network_s.conv.weight_w, _g, _u, _v                                   the feedback of one layer
    network_s1 ... network_s4 .conv.*, .bn.*, network_s5.convT.weight_*   of several layers
    classifier.weight, .bias                                              the readout

T, threshold, and leak are in the script's options, not in the file.
"""

import re
from pathlib import Path

from torch import Tensor

from spikeloom.methods.published import fit, network_in
from spikeloom.nn import Classifier

_SYNAPSE = re.compile(r"network_(x|s\d*)\.(?:conv|convT|fc)\.(weight|bias)(_[wguv])?")
_NORM = re.compile(r"network_(x|s\d*)\.bn\.(\w+)")
_RESTRICTED = {"_w": "original", "_g": "0.gain", "_u": "0.u", "_v": "0.v"}


def read_checkpoint(path: Path, classifier: Classifier) -> dict[str, Tensor]:
    """The state of `classifier` from a published checkpoint file.

    Raises `CheckpointError` if the file cannot be read, or holds another network: the text names
    the first tensor that does not fit.
    """
    state = network_in(path, "state_dict")
    ours = classifier.state_dict()
    weights = {
        name: value
        for key, value in state.items()
        if (name := our_name(key)) is not None
        # The restricted weight itself may be stored beside its parts.
        and (name in ours or name.replace("weight", "parametrizations.weight.original") not in ours)
    }
    advice = "give the recipe of the network that was saved (network.padding_x, data set)"
    return fit(path, weights, ours, optional=("feedback.tally",), advice=advice)


def our_name(key: str) -> str | None:
    """What a tensor of the published state is called in ours; None for copies and aliases."""
    key = key.removeprefix("module.")
    if key.startswith("classifier."):
        return key.replace("classifier.", "readout.", 1)
    if match := _NORM.fullmatch(key):
        return f"{_transform(match[1])}.norm.{match[2]}"
    if match := _SYNAPSE.fullmatch(key):
        transform, tensor, part = match.groups()
        if part:
            inner = f"parametrizations.{tensor}.{_RESTRICTED[part]}"
            return f"{_transform(transform)}.synapse.{inner}"
        return f"{_transform(transform)}.synapse.{tensor}"
    return None


def _transform(name: str) -> str:
    if name == "x":
        return "feedback.input_transform"
    return f"feedback.transforms.{int(name[1:] or 1) - 1}"
