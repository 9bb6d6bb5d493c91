"""Rebuilds the neurons, blocks, and networks behind the DSR arrays from the arrays alone."""

import numpy as np
import torch
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.networks import DsrClassifier, build
from spikeloom.methods.dsr.representation import DsrIF, DsrLIF, Represented
from spikeloom.neurons import Neuron

Arrays = dict[str, np.ndarray]


def cases(arrays: Arrays, ending: str) -> list[str]:
    """The prefixes of the arrays that share a file, from the names with this ending."""
    return sorted(name.removesuffix(ending) for name in arrays if name.endswith(ending))


def sequence(array: np.ndarray, time_steps: int, dtype: torch.dtype) -> Tensor:
    """Rows t * B + b as `[T, B, ...]`."""
    return torch.from_numpy(array).to(dtype).unflatten(0, (time_steps, -1))


def neuron(arrays: Arrays, case: str, lif: bool, backend: str, dtype: torch.dtype) -> Represented:
    """A layer with the settings of `case`, in `dtype`."""
    common = {
        "alpha": float(arrays[f"{case}alpha"]),
        "bound": float(arrays[f"{case}Vth_bound"]),
        "backend": backend,
    }
    start = float(arrays[f"{case}Vth"])
    layer: Represented
    if lif:
        tau, delta_t = (float(arrays[case + name]) for name in ("tau", "delta_t"))
        layer = DsrLIF(start, tau=tau, delta_t=delta_t, **common)
    else:
        layer = DsrIF(start, **common)
    layer = layer.to(dtype)
    with torch.no_grad():  # 0.3 in float64 is not 0.3 in float32
        layer.threshold.fill_(start)
    return layer


def fill(index: int, shape: tuple[int, ...], size: float) -> Tensor:
    """The README's filler h(index, shape, size): uniform in [-size, size], float64."""
    with np.errstate(over="ignore"):
        z = (np.uint64(index) << np.uint64(32)) + np.arange(
            int(np.prod(shape, dtype=np.int64)), dtype=np.uint64
        )
        z = z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(11)).astype(np.float64) / 2.0**53
    return torch.from_numpy(((2 * u - 1) * size).reshape(shape))


def our_name(name: str) -> str:
    """The name in our state dict of an entry of the published one."""
    return "body." + name.replace("Vth", "threshold")


def use_backend(net: nn.Module, backend: str) -> None:
    for module in net.modules():
        if isinstance(module, Neuron):
            module.backend = backend  # type: ignore[assignment]


def small_net(arrays: Arrays, case: str, backend: str) -> DsrClassifier:
    """A full-size CIFAR or CIFAR10-DVS network, filled by the recipe, in float64 for training."""
    kind = bytes(arrays[f"{case}net"]).decode()
    vgg = kind.startswith("vgg")
    classes = int(arrays[f"{case}num_classes"])
    network = DsrNetwork(
        name="vgg11" if vgg else "preresnet18",
        T=int(arrays[f"{case}T"]),
        neuron="lif" if kind.endswith("lif") else "if",
        threshold=float(arrays[f"{case}Vth"]),
        alpha=float(arrays[f"{case}alpha"]),
        threshold_bound=float(arrays[f"{case}Vth_bound"]),
        tau=float(arrays[f"{case}tau"]),
        delta_t=float(arrays[f"{case}delta_t"]),
        dropout=0.0,
    )
    shape = (2, 48, 48) if vgg else (3, 32, 32)
    labels = tuple(str(i) for i in range(classes))
    net = build(network, DataSpec("golden", shape, labels, "events" if vgg else "static")).double()
    use_backend(net, backend)
    gain, salt = float(arrays[f"{case}gain"]), int(arrays[f"{case}salt"])
    state = net.state_dict()
    for i, name in enumerate(str(name) for name in arrays[f"{case}state_names"]):
        target = state[our_name(name)]
        index, shape = salt * 1000 + i, tuple(target.shape)
        if name.endswith("Vth"):
            target.fill_(float(arrays[f"{case}Vth"]))
        elif name.endswith("running_var"):
            target.copy_(1 + fill(index, shape, 0.5))
        elif name.endswith("running_mean"):
            target.copy_(fill(index, shape, 0.2))
        elif len(shape) == 4:
            target.copy_(fill(index, shape, (6 / (shape[0] * shape[2] * shape[3])) ** 0.5))
        elif len(shape) == 2:
            target.copy_(fill(index, shape, (6 / shape[1]) ** 0.5))
        elif name.endswith(".weight"):
            target.copy_(gain * (1 + fill(index, shape, 0.4)))
        elif not name.endswith("num_batches_tracked"):
            target.copy_(0.3 * gain + fill(index, shape, 0.3))
    return net.train()


def small_input(arrays: Arrays, case: str) -> Tensor:
    """Images `[B, 3, 32, 32]`, or frames `[T, B, 2, 48, 48]`."""
    index, B, T = (int(arrays[case + name]) for name in ("x_index", "B", "T"))
    if bytes(arrays[f"{case}net"]).startswith(b"vgg"):
        levels = 4 * (fill(index, (B, T, 2, 48, 48), 0.5) + 0.5)
        return (0.5 * levels.floor()).transpose(0, 1)
    return fill(index, (B, 3, 32, 32), 1.7)


def tiny_net(arrays: Arrays, run: str, backend: str, dtype: torch.dtype) -> DsrClassifier:
    """The network of the hybrid pipeline for `run` ("ann", "snn_if", "snn_lif"), with the ANN's
    weights; thresholds are still to be set."""
    channels, classes = (int(value) for value in arrays["settings_baseWidth_numclasses"])
    blocks = tuple(int(count) for count in arrays["settings_layers"])
    if run == "ann":
        network = DsrNetwork(
            name="imagenet-preresnet18", T=1, neuron="relu", channels=channels, blocks=blocks
        )
    else:
        network = DsrNetwork(
            name="imagenet-preresnet18",
            T=int(arrays[f"{run}.T"]),
            neuron="lif" if run == "snn_lif" else "if",
            alpha=float(arrays[f"{run}.alpha"]),
            threshold_bound=float(arrays[f"{run}.Vth_bound"]),
            tau=float(arrays[f"{run}.tau"]),
            delta_t=float(arrays[f"{run}.delta_t"]),
            channels=channels,
            blocks=blocks,
        )
    spec = DataSpec("golden", arrays["x"].shape[1:], tuple(str(i) for i in range(classes)))
    net = build(network, spec).to(dtype)
    use_backend(net, backend)
    state = net.state_dict()
    for name, value in arrays.items():
        if name.startswith("w."):
            state["body." + name.removeprefix("w.")].copy_(torch.from_numpy(value))
    return net
