"""Files of the published programs (qymeng94/DSR), read without running anything they contain.

A checkpoint `<name>.pth` is a dictionary with `state_dict`; its keys are our module names, with the
threshold of a neuron layer called `Vth`, and `module.` in front where it was saved from a wrapped
model. A threshold file `<name>.dict` has the keys `storein1` ... for the last part of
`relu1` ..., and `layer2[0].storein1` for `layer2.0.relu1`; values are scalars, or tuples of one.
"""

import re
from pathlib import Path

from torch import Tensor

from spikeloom.errors import CheckpointError
from spikeloom.methods.published import fit, network_in, saved
from spikeloom.nn import Classifier

BODY = "body."
"""Where the published network is in ours."""


def read_checkpoint(path: Path, classifier: Classifier) -> dict[str, Tensor]:
    """The state of `classifier` from a published `.pth` file.

    A network with fixed thresholds was saved without them: they keep the classifier's values.
    CheckpointError if the file cannot be read, or is of another network: it names the first
    differences.
    """
    return fit(path, published(path), classifier.state_dict(), optional=(".threshold",))


def read_thresholds(path: Path) -> dict[str, float]:
    """Calibrated thresholds by neuron layer (`relu1`, `layer1.0.relu2`) from a published `.dict`
    file."""
    thresholds = {}
    for key, value in saved(path).items():
        match = re.fullmatch(r"(?:layer(\d+)\[(\d+)\]\.)?storein(\d+)", str(key))
        if match is None:
            raise CheckpointError(
                f"{path}: key {key!r}: expected storein1 or layer1[0].storein1, as the published "
                "calibration writes them"
            )
        stage, block, layer = match.groups()
        name = f"relu{layer}" if stage is None else f"layer{stage}.{block}.relu{layer}"
        thresholds[name] = float(value[0] if isinstance(value, tuple) else value)
    return thresholds


def published(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` file under our names; a checkpoint of this library (`model`) has
    them."""
    state = network_in(path, "model", "state_dict")
    return {
        BODY + re.sub(r"\bVth$", "threshold", name.removeprefix(BODY)): value
        for name, value in state.items()
    }
