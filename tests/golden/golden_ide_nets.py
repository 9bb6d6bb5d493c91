"""Rebuilds a golden feedback network: transforms, parameters, and dropout masks from the arrays
alone."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeloom.methods.ide.config import IdeNetwork
from spikeloom.methods.ide.feedback import FeedbackNetwork
from spikeloom.methods.ide.restriction import SpectralRestriction
from spikeloom.methods.ide.transforms import Masks, WeightTransform

Arrays = dict[str, np.ndarray]


def dtype_of(arrays: Arrays) -> torch.dtype:
    return torch.float64 if arrays["x.W"].dtype == np.float64 else torch.float32


def tensor(arrays: Arrays, name: str) -> Tensor:
    return torch.from_numpy(arrays[name])


def prefixes(arrays: Arrays) -> list[str]:
    """The transforms from layer to layer as the arrays call them: ["s"], or ["s1", ..., "sN"]."""
    if "s.g" in arrays:
        return ["s"]
    count = sum(f"s{i}.W" in arrays for i in range(1, 20)) + 1
    return [f"s{i}" for i in range(1, count + 1)]


def inputs(arrays: Arrays, name: str = "x") -> Tensor:
    """`[B, ...]`, or event frames `[T, B, ...]`, which the arrays hold with time last."""
    x = tensor(arrays, name).to(dtype_of(arrays))
    return x.movedim(-1, 0).contiguous() if int(arrays.get("event", 0)) else x


def build(arrays: Arrays, backend: str, rate_size: int | None = None, **settings: Any):
    """The network in training mode, with the values that the arrays hold before the call.

    `rate_size`: height of the output rates, which decides the padding of a 5x5 input convolution.
    """
    leaky = float(arrays["leaky"])
    config: dict[str, Any] = {
        "name": "f400",
        "T": int(arrays["T"]),
        "neuron": "lif" if 0 < leaky < 1 else "if",
        "v_threshold": float(arrays["vth"]),
        "dropout": float(arrays.get("dropout_p", 0.0)),
    } | settings
    if 0 < leaky < 1:
        config["leak"] = leaky
    network = FeedbackNetwork(
        _input(arrays, rate_size),
        [_between(arrays, prefix) for prefix in prefixes(arrays)],
        IdeNetwork(**config),
        feedback=int(arrays.get("fb_num", 1)),
        events=bool(arrays.get("event", 0)),
    ).to(dtype_of(arrays))
    for neuron in network.neurons:
        neuron.backend = backend  # type: ignore[assignment]
    with torch.no_grad():
        for prefix, transform in named(arrays, network):
            for name, target in places(transform).items():
                target.copy_(tensor(arrays, f"{prefix}.{name}"))
    return network.train()


def named(arrays: Arrays, network: FeedbackNetwork) -> list[tuple[str, WeightTransform]]:
    transforms = [network.input_transform, *network.transforms]
    return list(zip(["x", *prefixes(arrays)], transforms, strict=True))  # type: ignore[arg-type]


def places(transform: WeightTransform) -> dict[str, Tensor]:
    """Where the arrays `<prefix>.<name>` live in a transform."""
    synapse, norm = transform.synapse, transform.norm
    found: dict[str, Tensor] = {}
    if hasattr(synapse, "parametrizations"):
        rule = synapse.parametrizations.weight[0]
        assert isinstance(rule, SpectralRestriction)
        raw = synapse.parametrizations.weight.original
        found |= {"Wraw": raw, "g": rule.gain, "u": rule.u, "v": rule.v}
    else:
        found["W"] = synapse.weight
    if synapse.bias is not None:
        found["b"] = synapse.bias
    if norm is not None:
        assert norm.running_mean is not None and norm.running_var is not None
        found |= {"gamma": norm.weight, "beta": norm.bias}
        found |= {"rm": norm.running_mean, "rv": norm.running_var}
    return found


def masks(arrays: Arrays) -> Masks:
    given = {}
    for prefix in ["x", *prefixes(arrays)]:
        if f"{prefix}.mask" in arrays:
            given["s1" if prefix == "s" else prefix] = tensor(arrays, f"{prefix}.mask")
    return Masks(given=given)


def _input(arrays: Arrays, rate_size: int | None) -> WeightTransform:
    weight = arrays["x.W"]
    if weight.ndim == 2:
        return WeightTransform(nn.Linear(weight.shape[1], weight.shape[0]), norm=True)
    kernel = weight.shape[2]
    padding = kernel // 2
    if len(prefixes(arrays)) == 1 and rate_size is not None:
        size = next(arrays[name].shape[2] for name in ("x", "x0") if name in arrays)
        padding = next(p for p in (1, 2) if (size + 2 * p - kernel) // 2 + 1 == rate_size)
    synapse = nn.Conv2d(weight.shape[1], weight.shape[0], kernel, stride=2, padding=padding)
    return WeightTransform(synapse, norm=True)


def _between(arrays: Arrays, prefix: str) -> WeightTransform:
    restricted = f"{prefix}.Wraw" in arrays
    weight = arrays[f"{prefix}.Wraw" if restricted else f"{prefix}.W"]
    if weight.ndim == 2:
        return WeightTransform(
            nn.Linear(weight.shape[1], weight.shape[0], bias=not restricted), norm=not restricted
        )
    if restricted and prefix != "s":
        back = nn.ConvTranspose2d(
            *weight.shape[:3], stride=2, padding=1, output_padding=1, bias=False
        )
        return WeightTransform(back, norm=False)
    synapse = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        weight.shape[2],
        stride=2 if prefix == "s2" else 1,
        padding=weight.shape[2] // 2,
        bias=not restricted,
    )
    return WeightTransform(synapse, norm=not restricted)
