"""Checkpoints of the published programs (FS_coding, `../models/<name>.pt`) under our names.

A checkpoint is a dictionary with epochs, accuracies, `sim_params`, `model_state_dict`, and
`best_model_state_dict`, which is taken where it is there. In state dicts of fully connected
networks a layer is `fc_layers.<i>`; those of convolutional ones are read in their order. Autograd
form: weights are (in, out), every layer has `alpha` (synapse), `beta` (membrane), and a fixed `th`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spikeloom.errors import CheckpointError
from spikeloom.methods.fs.networks import FsClassifier
from spikeloom.methods.published import fit, network_in
from spikeloom.neurons import Neuron
from spikeloom.nn import Classifier, Recurrent

# Kernel form: parameters of BatchNorm and of neurons, by the end of their names.
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_NEURON = {
    "decay_mem": "membrane",
    "decay_syn": "synapse",
    "decay_osc": "adaptation",
    "a": "a",
    "b": "b",
}
_THRESHOLD_TOLERANCE = 1e-6


def read_checkpoint(path: Path, classifier: Classifier) -> dict[str, Tensor]:
    """The state of `classifier` from a published `.pt` file, the best epoch's if it holds one.

    Raises `CheckpointError` if the file cannot be read, or is of another network, form, or
    threshold.
    """
    content = network_in(path, "best_model_state_dict", "model_state_dict")
    if not isinstance(classifier, FsClassifier):
        raise CheckpointError(
            f"{path} is a checkpoint of first-spike coding: give the network of an fs recipe"
        )
    return translate(content, classifier, str(path))


def translate(state: dict[str, Any], classifier: FsClassifier, origin: str) -> dict[str, Tensor]:
    """A published state dict under our names; CheckpointError, naming `origin`, if it misfits."""
    try:
        if classifier.network.form == "autograd":
            weights = dict(_autograd(state, classifier, origin))
        elif classifier.network.name == "fc":
            weights = dict(_kernel_fc(state))
        else:
            weights = dict(_in_order(state, classifier))
    except (KeyError, StopIteration) as error:
        what = "more entries than this" if isinstance(error, StopIteration) else str(error)
        raise _misfit(origin, f"its network has {what}", classifier) from error
    return _checked(weights, classifier, origin)


def _kernel_fc(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    last = max(int(key.split(".")[1]) for key in state if key.startswith("fc_layers."))
    for key, value in state.items():
        match = re.fullmatch(r"fc_layers\.(\d+)\.(.+)", key)
        if match is None:
            raise KeyError(key)
        layer, name = int(match[1]), match[2]
        part, _, end = name.rpartition(".")
        if layer == last:
            if name != "0.weight":
                raise KeyError(key)
            yield "output.weight", value
        elif part in ("0", "0.0") and end == "weight":
            yield f"hidden.linear{layer + 1}.weight", value
        elif part == "0.1" and end in _NORM:
            yield f"hidden.norm{layer + 1}.{end}", value
        elif part == "1" and end in _NEURON:
            yield f"hidden.neuron{layer + 1}.{_NEURON[end]}", value
        else:
            raise KeyError(key)


def _in_order(state: dict[str, Tensor], classifier: FsClassifier) -> Iterator[tuple[str, Tensor]]:
    """Convolutional networks, kernel form: weights, then the learned decays of each kind."""
    weights = _paths(classifier, nn.Linear, nn.Conv2d)
    for key, value in state.items():
        if value.dim() > 1 and key.endswith("weight"):
            yield f"{next(weights)}.weight", value
    for theirs, name in _NEURON.items():
        neurons = _paths(classifier, Neuron)
        paths = (path for path in neurons if hasattr(classifier.get_submodule(path), name))
        for key, value in state.items():
            if key.rpartition(".")[2] == theirs:
                yield f"{next(paths)}.{name}", value


def _autograd(
    state: dict[str, Tensor], classifier: FsClassifier, origin: str
) -> Iterator[tuple[str, Tensor]]:
    """Each layer of theirs is a group of names with one prefix; ours come in the same order."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = value
    layers = _paths(classifier, nn.Linear, nn.Conv2d)
    weights = (path for path in layers if not path.endswith(".recurrent"))
    feedback, neurons = _paths(classifier, Recurrent), _paths(classifier, Neuron)
    for prefix, group in groups.items():
        path = next(neurons)
        neuron = classifier.get_submodule(path)
        threshold = group.pop("th").item()
        if abs(threshold - neuron.v_threshold) > _THRESHOLD_TOLERANCE * max(1.0, abs(threshold)):  # type: ignore[operator]
            raise CheckpointError(
                f"{origin}: {prefix}.th is {threshold:g}, and {path} fires at "
                f"{neuron.v_threshold:g}: set the threshold in hidden_neuron or output_neuron"
            )
        for name, value in group.items():
            match name:
                case "alpha" | "beta":
                    yield f"{path}.{'synapse' if name == 'alpha' else 'membrane'}", value
                case "w" if value.dim() == 4:
                    yield f"{next(weights)}.weight", value
                case "w":
                    yield f"{next(weights)}.weight", value.T
                case "v":
                    yield f"{next(feedback)}.recurrent.weight", value.T
                case _:
                    raise KeyError(f"{prefix}.{name}")


def _paths(classifier: FsClassifier, *kinds: type[nn.Module]) -> Iterator[str]:
    return iter([path for path, m in classifier.named_modules() if isinstance(m, kinds)])


def _checked(
    weights: dict[str, Tensor], classifier: FsClassifier, origin: str
) -> dict[str, Tensor]:
    ours = classifier.state_dict()
    for name, theirs in weights.items():
        our = ours.get(name, theirs)
        # Constants per neuron are (1, N) there, one for all (1,); weights must agree as they are.
        if theirs.dim() < 3 and theirs.numel() == our.numel() and our.dim() < 2:
            weights[name] = theirs.reshape(our.shape)
    try:
        fitted = fit(origin, weights, ours)
    except CheckpointError as error:
        raise _misfit(origin, str(error), classifier) from error
    return {name: value.contiguous() for name, value in fitted.items()}


def _misfit(origin: str, problem: str, classifier: FsClassifier) -> CheckpointError:
    network = classifier.network
    return CheckpointError(
        f"{origin} does not fit a {network.name} network in {network.form} form: {problem}; set "
        "name, form, neuron, and hidden as they were in training"
    )
