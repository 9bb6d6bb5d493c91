"""Rebuilds a golden network: architecture, initial parameters, and dropout masks from the arrays
alone."""

import numpy as np
import torch
from torch import Tensor

from spikeloom.data.base import DataSpec
from spikeloom.methods.plif.config import PlifNetwork
from spikeloom.methods.plif.networks import PlifClassifier, build
from spikeloom.neurons import Neuron
from spikeloom.nn import Dropout

Arrays = dict[str, np.ndarray]


def our_name(name: str) -> str:
    """The published module tree is ours; only the surrogate is called otherwise."""
    return name.replace("surrogate_function", "surrogate")


def build_net(arrays: Arrays, backend: str, dtype: torch.dtype) -> PlifClassifier:
    """The classifier in training mode, with the golden initial values."""
    static = arrays["x"].ndim == 4
    layers = [str(name) for name in arrays["layer_names"]]
    in_conv = sum(name.startswith("conv.") for name in layers)
    network = PlifNetwork(
        # The event networks differ only in their number of layers.
        name=("mnist" if in_conv == 2 else "cifar10") if static else "nmnist",
        T=int(arrays["T"]),
        neuron="plif" if arrays["cfg.use_plif"] else "lif",
        tau=float(arrays["cfg.init_tau"]),
        detach_reset=bool(arrays["cfg.detach_reset"]),
        learn_alpha=bool(arrays["cfg.alpha_learnable"]),
        pool="max" if arrays["cfg.use_max_pool"] else "avg",
        channels=_channels(arrays),
        layers=None if static else in_conv,
        hidden=int(arrays["layer_size"][-2]) // len(arrays["x"]),
        dropout=0.5 if arrays["cfg.dropout"] else 0.0,
        votes=arrays["spk_out"].shape[-1] // int(arrays["class_num"]),
    )
    shape = tuple(arrays["x"].shape[-3:])
    classes = tuple(str(i) for i in range(int(arrays["class_num"])))
    net = build(network, DataSpec("golden", shape, classes, "static" if static else "events"))
    for module in net.modules():
        if isinstance(module, Neuron):
            module.backend = backend  # type: ignore[assignment]
    _load(net, arrays)
    return net.to(dtype).train()


def inputs(arrays: Arrays, dtype: torch.dtype) -> Tensor:
    """Images `[B, C, H, W]`, or frames `[T, B, 2, H, W]`."""
    x = torch.from_numpy(arrays["x"]).to(dtype)
    return x if x.dim() == 4 else x.transpose(0, 1)


def set_masks(net: PlifClassifier, arrays: Arrays, iteration: int) -> None:
    """Dropout keeps what the published run kept in this iteration."""
    for name, module in net.named_modules():
        if isinstance(module, Dropout) and f"keep.{name}" in arrays:
            module.keep = torch.from_numpy(arrays[f"keep.{name}"][iteration])


def _channels(arrays: Arrays) -> int:
    means = [name for name in arrays if name.startswith("bn.") and name.endswith("running_mean")]
    return len(arrays[means[0]])


def _load(net: PlifClassifier, arrays: Arrays) -> None:
    state = net.state_dict()
    names = [str(name) for name in arrays["param_names"]]
    assert [our_name(name) for name in names] == [name for name, _ in net.named_parameters()]
    for i, name in enumerate(names):
        target = state[our_name(name)]
        if f"param.{name}" in arrays:
            target.copy_(torch.from_numpy(arrays[f"param.{name}"]))
        else:
            target.copy_(torch.from_numpy(_formula(arrays, name, i, tuple(target.shape))))
    for name, target in state.items():
        if name.endswith(("running_mean", "running_var")):
            if f"buffer.{name}" in arrays:
                target.copy_(torch.from_numpy(arrays[f"buffer.{name}"]))
            else:
                target.fill_(0.0 if name.endswith("running_mean") else 0.1)


def _formula(arrays: Arrays, name: str, i: int, shape: tuple[int, ...]) -> np.ndarray:
    """The values of parameter number `i` as the README's hash generates them (uint32, wrapping
    around)."""
    salt = (int(arrays["formula_seed"]) * 1000 + i) * 0x9E3779B9 % 2**32
    z = np.arange(np.prod(shape), dtype=np.uint32) + np.uint32(salt)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        z ^= z >> np.uint32(shift)
        z *= np.uint32(factor)
    z ^= z >> np.uint32(16)
    u = (2 * (z / 2**32) - 1).reshape(shape)
    if len(shape) == 4:
        value = u / np.sqrt(shape[1] * 9)
    elif len(shape) == 2:
        value = u * float(arrays["formula_fc_gain"]) / np.sqrt(shape[1])
    else:
        value = 2 + 0.5 * u if name.endswith("weight") else 0.3 + 0.3 * u
    return value.astype(np.float32)
