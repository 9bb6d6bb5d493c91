"""SpikingJelly's `activation_based.model`: spiking and SEW ResNets, and the networks of PLIF.

The module tree, and so the state dict, is theirs; `pretrained` weights are not fetched.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_JOINTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ADD": lambda x, y: x + y,
    "AND": lambda x, y: x * y,
    "IAND": lambda x, y: x * (1.0 - y),
}


class ResidualBlock(nn.Module):
    """`widths`: of its convolutions, each with norm and neuron. `cnf`: how SEW joins the branches
    (None: they are added before the last neuron).
    """

    def __init__(
        self,
        layer: Any,
        norm: Any,
        plan: list[tuple[int, int, int]],
        inplanes: int,
        expansion: int,
        *,
        groups: int,
        cnf: str | None,
        neuron: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        width, stride = inplanes, 1
        for number, (planes, kernel, step) in enumerate(plan, 1):
            parts = groups if kernel == 3 and len(plan) == 3 else 1
            options = {"stride": step, "padding": kernel // 2, "groups": parts, "bias": False}
            setattr(self, f"conv{number}", layer["Conv2d"](width, planes, kernel, **options))
            setattr(self, f"bn{number}", norm(planes))
            setattr(self, f"sn{number}", neuron())
            width, stride = planes, stride * step
        self.depth, self.cnf, self.downsample = len(plan), cnf, None
        if cnf is not None and cnf not in _JOINTS:
            raise NotImplementedError(f"cnf={cnf!r}: expected one of {', '.join(_JOINTS)}")
        if stride != 1 or inplanes != width:
            conv = layer["Conv2d"](inplanes, width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, norm(width))
            if cnf is not None:
                self.downsample_sn = neuron()

    def forward(self, x: Tensor) -> Tensor:
        y = x
        modules = self._modules
        for number in range(1, self.depth + 1):
            y = modules[f"bn{number}"](modules[f"conv{number}"](y))  # type: ignore[misc]
            if number < self.depth or self.cnf is not None:
                y = modules[f"sn{number}"](y)  # type: ignore[misc]
        identity = x if self.downsample is None else self.downsample(x)
        if self.cnf is None:
            return modules[f"sn{self.depth}"](y + identity)  # type: ignore[misc,no-any-return]
        if self.downsample is not None:
            identity = self.downsample_sn(identity)
        pair = (identity, y) if self.depth == 2 else (y, identity)
        return _JOINTS[self.cnf](*pair)


class ResidualNetwork(nn.Module):
    def __init__(
        self,
        layer: Any,
        counts: tuple[int, ...],
        *,
        deep: bool,
        num_classes: int = 1000,
        groups: int = 1,
        width_per_group: int = 64,
        norm_layer: Any = None,
        cnf: str | None = None,
        neuron: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        norm, expansion = norm_layer or layer["BatchNorm2d"], 4 if deep else 1
        self.conv1 = layer["Conv2d"](3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1, self.sn1 = norm(64), neuron()
        self.maxpool = layer["MaxPool2d"](kernel_size=3, stride=2, padding=1)
        inplanes = 64
        for number, count in enumerate(counts, 1):
            planes, blocks = 32 * 2**number, []
            width = int(planes * width_per_group / 64) * groups if deep else planes
            for index in range(count):
                stride = 2 if number > 1 and index == 0 else 1
                plan = [(width, 3, stride), (planes, 3, 1)]
                if deep:
                    plan = [(width, 1, 1), (width, 3, stride), (planes * 4, 1, 1)]
                block = ResidualBlock(
                    *(layer, norm, plan, inplanes, expansion),
                    groups=groups,
                    cnf=cnf,
                    neuron=neuron,
                )
                blocks.append(block)
                inplanes = planes * expansion
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = layer["AdaptiveAvgPool2d"]((1, 1))
        self.fc = layer["Linear"](512 * expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.sn1(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1 if self.avgpool.step_mode == "s" else 2))  # type: ignore[no-any-return]


def _resnet(
    layer: Any,
    counts: tuple[int, ...],
    fixed: dict[str, Any],
    sew: bool,
    pretrained: bool = False,
    progress: bool = True,
    cnf: str | None = None,
    spiking_neuron: Any = None,
    **options: Any,
) -> nn.Module:
    if pretrained:
        raise NotImplementedError("pretrained=True: weights are not fetched; load them yourself")
    shape = {name: options.pop(name) for name in _SHAPE if name in options} | fixed
    return ResidualNetwork(
        layer,
        counts,
        cnf=cnf if sew else None,
        neuron=lambda: spiking_neuron(**deepcopy(options)),
        **shape,
    )


_SHAPE = ("num_classes", "norm_layer", "groups", "width_per_group")
_DEEP, _SHALLOW = {"deep": True}, {"deep": False}
_RESNETS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "resnet18": ((2, 2, 2, 2), _SHALLOW),
    "resnet34": ((3, 4, 6, 3), _SHALLOW),
    "resnet50": ((3, 4, 6, 3), _DEEP),
    "resnet101": ((3, 4, 23, 3), _DEEP),
    "resnet152": ((3, 8, 36, 3), _DEEP),
    "resnext50_32x4d": ((3, 4, 6, 3), {**_DEEP, "groups": 32, "width_per_group": 4}),
    "resnext101_32x8d": ((3, 4, 23, 3), {**_DEEP, "groups": 32, "width_per_group": 8}),
    "wide_resnet50_2": ((3, 4, 6, 3), {**_DEEP, "width_per_group": 128}),
    "wide_resnet101_2": ((3, 4, 23, 3), {**_DEEP, "width_per_group": 128}),
}

_PLIF_NETS: dict[str, tuple[int, int, list[int], tuple[int, int, int]]] = {
    "MNISTNet": (1, 128, [1, 1], (49, 2048, 100)),
    "FashionMNISTNet": (1, 128, [1, 1], (49, 2048, 100)),
    "NMNISTNet": (2, 128, [1, 1], (64, 2048, 100)),
    "CIFAR10Net": (3, 256, [3, 3], (64, 2048, 100)),
    "CIFAR10DVSNet": (2, 128, [1] * 4, (64, 512, 100)),
    "DVSGestureNet": (2, 128, [1] * 5, (16, 512, 110)),
}
"""Input channels, default width, convolutions before each pool; pixels left, hidden, outputs."""


class ParametricNetwork(nn.Module):
    """`conv_fc`: convolutions with norm and neuron, pools, and two linear layers that vote."""

    shape: tuple[int, int, list[int], tuple[int, int, int]]
    layer: dict[str, Any]

    def __init__(
        self, channels: int | None = None, spiking_neuron: Any = None, **options: Any
    ) -> None:
        super().__init__()
        width, default, stages, (pixels, hidden, outputs) = self.shape
        channels, layer, chain = channels or default, self.layer, []

        def neuron() -> nn.Module:
            return spiking_neuron(**deepcopy(options))  # type: ignore[no-any-return]

        for count in stages:
            for _ in range(count):
                chain.append(layer["Conv2d"](width, channels, kernel_size=3, padding=1, bias=False))
                chain += [layer["BatchNorm2d"](channels), neuron()]
                width = channels
            chain.append(layer["MaxPool2d"](2, 2))
        for start, end in ((channels * pixels, hidden), (hidden, outputs)):
            chain += [layer["Flatten"]()] if end == hidden else []
            chain += [layer["Dropout"](0.5), layer["Linear"](start, end), neuron()]
        self.conv_fc = nn.Sequential(*chain, layer["VotingLayer"](10))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_fc(x)  # type: ignore[no-any-return]


def namespace(part: str, modules: dict[str, dict[str, Any]], module: str) -> dict[str, Any] | None:
    """The names of `activation_based.model` (part "") or of a module in it."""
    layer = modules["layer"]
    if part == "parametric_lif_net":
        shared = {"layer": layer, "__module__": f"{module}.model.{part}"}
        return {
            name: type(name, (ParametricNetwork,), {**shared, "shape": shape})
            for name, shape in _PLIF_NETS.items()
        }
    kinds = {"spiking_resnet": ("spiking_", False), "sew_resnet": ("sew_", True)}
    if part in kinds:
        prefix, sew = kinds[part]
        return {
            f"{prefix}{name}": partial(_resnet, layer, counts, fixed, sew)
            for name, (counts, fixed) in _RESNETS.items()
        }
    return {} if not part else None
