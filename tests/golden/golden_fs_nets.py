"""Builds the networks of first-spike coding from golden arrays alone."""

import numpy as np
import torch
from golden_fs import Arrays, rounded, tensor
from torch import Tensor

from spikeloom.data.base import DataSpec
from spikeloom.methods.fs.config import FsNetwork
from spikeloom.methods.fs.importing import translate
from spikeloom.methods.fs.networks import FsClassifier, build
from spikeloom.neurons import Neuron
from spikeloom.nn import Dropout

CONV_WEIGHTS = ("conv1", "conv2", "conv3", "linear1", "neuron1.recurrent")
"""Where the six weights of a convolutional network are in ours; the sixth is the output."""


def time_first(x: np.ndarray, dtype: torch.dtype) -> Tensor:
    """`[B, ..., T]` as `[T, B, ...]`."""
    return tensor(x, dtype).movedim(-1, 0)


def _set_backend(net: FsClassifier, backend: str) -> FsClassifier:
    for module in net.modules():
        if isinstance(module, Neuron):
            module.backend = backend  # type: ignore[assignment]
    return net


def _coding(arrays: Arrays) -> dict[str, float]:
    values = {
        "fs_alpha": "alpha_fs",
        "window": "D",
        "amplitude": "A",
        "silent_weight": "treg_lambda",
        "silent_rate": "treg_beta",
    }
    return {ours: float(arrays[theirs]) for ours, theirs in values.items()}


def mlp(arrays: Arrays, form: str, readout: str, backend: str, dtype: torch.dtype) -> FsClassifier:
    """The fully connected network in training mode, with the golden initial values."""
    state = {
        name.removeprefix("w_"): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith("w_")
    }
    layers = 1 + max(int(name.split(".")[1]) for name in state)
    widths = [arrays[f"fs_grad_f64/fc_layers.{i}.{_weight(form)}"] for i in range(layers - 1)]
    constants = {
        key: tuple(rounded(arrays[f"n{i}_{name}"]) for name in ("tau_m", "tau_s", "theta"))
        if form == "autograd"
        else tuple(float(arrays[f"n{i}_{name}"]) for name in ("tau_m", "tau_s", "theta"))
        for i, key in ((1, "hidden_neuron"), (2, "output_neuron"))
    }
    _, inputs, T = arrays["x"].shape
    network = FsNetwork(
        name="fc",
        T=T,
        form=form,  # type: ignore[arg-type]
        hidden=tuple(w.shape[0 if form == "kernel" else 1] for w in widths),
        readout=readout,  # type: ignore[arg-type]
        fr_alpha=float(arrays["alpha_fr"]),
        **constants,  # type: ignore[arg-type]
        **_coding(arrays),  # type: ignore[arg-type]
    )
    classes = arrays["first_time_f64"].shape[1]
    data = DataSpec("golden", (inputs,), tuple(map(str, range(classes))), kind="events")
    net = build(network, data).to(dtype)
    net.load_state_dict(translate(state, net, "golden"))
    set_dropout(net, None)
    return _set_backend(net, backend)


def _weight(form: str) -> str:
    return "0.0.weight" if form == "kernel" else "w"


def set_dropout(net: FsClassifier, masks: list[np.ndarray] | None) -> None:
    """Masks (scaled by 1 / (1 - p)) for the dropout layers in order; None turns them off."""
    layers = [module for module in net.modules() if isinstance(module, Dropout)]
    for i, layer in enumerate(layers):
        if masks is None:
            layer.p, layer.keep = 0.0, None
        else:
            # Their scale 1 / (1 - p) is rounded to float32.
            layer.p = 1 - 1 / float(masks[i].max())
            layer.keep = torch.from_numpy((masks[i] > 0).astype(np.float64))


def gradients(net: FsClassifier, form: str) -> dict[str, Tensor]:
    """The parameters' gradients under the published names, in the published shapes."""
    found = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        found[published_name(net, name, form)] = oriented(parameter.grad, name, form)
    return found


def oriented(value: Tensor, name: str, form: str) -> Tensor:
    """Weights are (in, out) in the autograd form."""
    return value.T if form == "autograd" and value.dim() == 2 else value


def published_name(net: FsClassifier, name: str, form: str) -> str:
    last = len(net.network.hidden)
    if form == "autograd":
        ends = {"membrane": "beta", "synapse": "alpha"}
        end = name.rpartition(".")[2]
        layer = last if name.startswith("output") else int(name.split(".")[1][-1]) - 1
        kind = ends.get(end) or ("v" if ".recurrent." in name else "w")
        return f"fc_layers.{layer}.{kind}"
    if name.startswith("output"):
        return f"fc_layers.{last}.0.weight"
    _, module, end = name.split(".")
    kind, layer = module[:-1], int(module[-1]) - 1
    ends = {"membrane": "decay_mem", "adaptation": "decay_osc"}
    place = {"linear": "0.0", "norm": "0.1", "neuron": "1"}[kind]
    return f"fc_layers.{layer}.{place}.{ends.get(end, end)}"


def conv_net(arrays: Arrays, name: str, form: str, backend: str) -> FsClassifier:
    """The convolutional network in float64, its weights from the integer hash of the README."""
    x = arrays[f"{name}_x"]
    classes = arrays[f"{'spkjelly' if form == 'kernel' else 'superspike'}_{name}_first_time_f64"]
    number = rounded if form == "autograd" else float
    network = FsNetwork(
        name=f"dvs{name}",  # type: ignore[arg-type]
        T=x.shape[-1],
        form=form,  # type: ignore[arg-type]
        hidden_neuron=tuple(number(arrays[k]) for k in ("tau_m1", "tau_s1", "theta1")),  # type: ignore[arg-type]
        output_neuron=tuple(number(arrays[k]) for k in ("tau_m2", "tau_s2", "theta2")),  # type: ignore[arg-type]
        **_coding(arrays),  # type: ignore[arg-type]
    )
    data = DataSpec(
        "golden", x.shape[1:-1], tuple(map(str, range(classes.shape[1]))), kind="events"
    )
    net = build(network, data).double()
    for i, weight in enumerate(conv_weights(net)):
        weight.data = hashed(
            weight.shape,
            int(arrays["weight_k"][i]),
            float(arrays[f"{name}_weight_scale"][i]),
            float(arrays[f"{name}_weight_bias"][i]),
        )
    return _set_backend(net, backend)


def conv_weights(net: FsClassifier) -> list[Tensor]:
    """The six weights, `[out, in]`."""
    own = dict(net.named_parameters())
    names = [f"hidden.{name}.weight" for name in CONV_WEIGHTS]
    return [own[name] for name in (*names, "output.weight")]


def hashed(shape: torch.Size, k: int, scale: float, bias: float) -> Tensor:
    i = np.arange(1, shape.numel() + 1, dtype=np.int64)
    h = (i * i * k + 12345 * i + 7) % 65521
    return torch.from_numpy(scale * (h / 65521 - 0.5 + bias)).view(shape)
