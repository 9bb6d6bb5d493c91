"""SpikingJelly's layers: torch's own with a step mode, containers, and those that remember.

`namespace(dialect)` gives what a version has: `layer.Conv2d(..., step_mode="m")` of
activation_based, `MultiStepDropout` of clock_driven, `SeqToANNContainer` of both.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.compat.spikingjelly import functional
from spikeloom.compat.spikingjelly.dialects import Dialect
from spikeloom.compat.spikingjelly.memory import MemoryModule, MultiStepModule, StepModule

_AXES: dict[str, str] = {
    **{
        f"{kind}{len(axes) - 1}d": axes
        for kind in ("Conv", "ConvTranspose", "BatchNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool")
        for axes in ("CL", "CHW", "CDHW")
    },
    **{"Linear": "", "Flatten": "", "GroupNorm": "", "Upsample": ""},
}
"""Torch's layers that have a step mode, and the axes that a sequence has after `[T, N`."""


class Stepped(StepModule):
    """In front of a layer of torch's: takes `[N, ...]`, or `[T, N, ...]` with `step_mode="m"`."""

    axes: ClassVar[str] = ""

    def __init__(self, *args: Any, step_mode: str = "s", **options: Any) -> None:
        super().__init__(*args, **options)
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        plain = super().forward  # type: ignore[misc]
        if self.step_mode == "s" or (not self.axes and type(self).__name__ == "Linear"):
            return plain(x)  # type: ignore[no-any-return]
        if self.axes and x.dim() != len(self.axes) + 2:
            shape = ", ".join(("T", "N", *self.axes))
            raise ValueError(f"{type(self).__name__} got {list(x.shape)}: expected [{shape}]")
        return functional.seq_to_ann_forward(x, plain)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, step_mode={self.step_mode}".lstrip(", ")  # type: ignore[misc]


class Contained(nn.Sequential, MultiStepModule):
    """Its layers, by `run`: step by step, or all steps at once if they remember nothing."""

    keeps_mode_inside = True
    run: ClassVar[Callable[[Tensor, Any], Tensor]]

    def forward(self, x_seq: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self).run(x_seq, super().forward)


class _Wrapped(nn.Module):
    """Both containers as they were up to 0.0.0.0.7: what they hold is called `module`."""

    keeps_mode_inside = True
    run: ClassVar[Callable[[Tensor, Any], Tensor]]

    def __init__(self, *args: nn.Module) -> None:
        super().__init__()
        self.module = args[0] if len(args) == 1 else nn.Sequential(*args)

    def forward(self, x_seq: Tensor) -> Tensor:
        return type(self).run(x_seq, self.module)

    def reset(self) -> None:
        functional.reset_net(self.module)


class StepModeContainer(nn.Sequential, StepModule):
    """Layers without a step mode; `stateful`: they remember, and go step by step."""

    keeps_mode_inside = True

    def __init__(self, stateful: bool, *args: nn.Module) -> None:
        super().__init__(*args)
        self.stateful = stateful
        self.step_mode = "s"

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.step_mode == "s":
            return super().forward(x)  # type: ignore[no-any-return]
        run = functional.multi_step_forward if self.stateful else functional.seq_to_ann_forward
        return run(x, super().forward)


class MemoryLayer(MemoryModule):
    """A layer with memory. In clock_driven it takes one step."""

    def __init__(self, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode


class DroppingOut(MemoryLayer):
    """One mask for all steps, until `reset()`."""

    default_p = 0.5
    drop: ClassVar[Callable[..., Tensor]] = F.dropout

    def __init__(
        self, p: float | None = None, step_mode: str = "s", dropout_spikes: bool = False
    ) -> None:
        super().__init__(step_mode)
        self.p = self.default_p if p is None else p
        if not 0 <= self.p < 1:
            raise ValueError(f"p={p}: expected a probability below 1")
        self.register_memory("mask", None)

    def create_mask(self, x: Tensor) -> None:
        self.mask = type(self).drop(torch.ones_like(x.data), self.p, training=True)

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        if self.training and self.mask is None:
            self.create_mask(x)
        return x * self.mask if self.training else x

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **options: Any) -> Tensor:
        if self.training and self.mask is None:
            self.create_mask(x_seq[0])
        return x_seq * self.mask if self.training else x_seq

    def extra_repr(self) -> str:
        return f"p={self.p}"


class NeuNorm(MemoryLayer):
    def __init__(
        self,
        in_channels: int,
        height: int,
        width: int,
        k: float = 0.9,
        shared_across_channels: bool = False,
        step_mode: str = "s",
    ) -> None:
        super().__init__(step_mode)
        self.register_memory("x", 0.0)
        self.k0, self.k1 = k, (1.0 - k) / in_channels**2
        channels = 1 if shared_across_channels else in_channels
        self.w = nn.Parameter(torch.empty(channels, height, width))
        nn.init.kaiming_uniform_(self.w, a=math.sqrt(5))

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        self.x = self.k0 * self.x + self.k1 * x.sum(dim=1, keepdim=True)
        return x - self.w * self.x


class SynapseFilter(MemoryLayer):
    """A current that decays where no spike comes in."""

    def __init__(self, tau: float = 100.0, learnable: bool = False, step_mode: str = "s") -> None:
        super().__init__(step_mode)
        self.learnable = learnable
        if learnable:
            self.w = nn.Parameter(torch.as_tensor(-math.log(tau - 1)))
        else:
            self.tau = tau
        self.register_memory("out_i", 0.0)

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        rate = self.w.sigmoid() if self.learnable else 1.0 / self.tau
        self.out_i = self.out_i - (1 - x) * self.out_i * rate + x
        return self.out_i  # type: ignore[no-any-return]


class ElementWiseRecurrentContainer(MemoryLayer):
    keeps_mode_inside = True

    def __init__(
        self, sub_module: nn.Module, element_wise_function: Callable[..., Any], step_mode: str = "s"
    ) -> None:
        super().__init__(step_mode)
        self.sub_module = sub_module
        self.element_wise_function = element_wise_function
        self.register_memory("y", None)

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        last = torch.zeros_like(x.data) if self.y is None else self.y
        self.y = self.sub_module(self.element_wise_function(last, x))
        return self.y


class LinearRecurrentContainer(MemoryLayer):
    keeps_mode_inside = True

    def __init__(
        self,
        sub_module: nn.Module,
        in_features: int,
        out_features: int,
        bias: bool = True,
        step_mode: str = "s",
    ) -> None:
        super().__init__(step_mode)
        self.sub_module_out_features = out_features
        self.rc = nn.Linear(in_features + out_features, in_features, bias)
        self.sub_module = sub_module
        self.register_memory("y", None)

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        if self.y is None:
            self.y = x.new_zeros(*x.shape[:-1], self.sub_module_out_features)
        self.y = self.sub_module(self.rc(torch.cat([x, self.y], dim=-1)))
        return self.y


class TemporalBatchNorm(nn.modules.batchnorm._BatchNorm, MultiStepModule):
    """Threshold-dependent: a BatchNorm over T and N whose weight starts at alpha v_th."""

    step_mode = "m"  # type: ignore[assignment]

    def __init__(self, alpha: float, v_th: float, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.alpha, self.v_th = alpha, v_th
        nn.init.constant_(self.weight, alpha * v_th)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x_seq: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return functional.seq_to_ann_forward(x_seq, super().forward)


class TemporalWiseAttention(nn.Module, MultiStepModule):
    """A weight for each time step, from the mean and the maximum of what it holds."""

    step_mode = "m"  # type: ignore[assignment]

    def __init__(self, T: int, reduction: int = 16, dimension: int = 4) -> None:
        super().__init__()
        pools = {2: (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)}
        pools[4] = (nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d)  # type: ignore[assignment]
        if dimension not in pools or reduction > T:
            raise ValueError(f"dimension={dimension}, reduction={reduction}: 2 or 4, and up to T")
        self.dimension = dimension
        self.avg_pool, self.max_pool = (pool(1) for pool in pools[dimension])
        small = T // reduction
        layers = nn.Linear(T, small, bias=False), nn.ReLU(), nn.Linear(small, T, bias=False)
        self.sharedMLP = nn.Sequential(*layers)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x_seq: Tensor) -> Tensor:
        x = x_seq.transpose(0, 1)
        pooled = [pool(x).view(x.shape[:2]) for pool in (self.avg_pool, self.max_pool)]
        scores = self.sigmoid(sum(map(self.sharedMLP, pooled)))  # type: ignore[arg-type]
        return (x * scores.view(*scores.shape, *[1] * (x.dim() - 2))).transpose(0, 1)


class VotingLayer(nn.Module, StepModule):
    """The mean of each `voting_size` outputs."""

    def __init__(self, voting_size: int = 10, step_mode: str = "s") -> None:
        super().__init__()
        self.voting_size = voting_size
        self.step_mode = step_mode

    def single_step_forward(self, x: Tensor) -> Tensor:
        return F.avg_pool1d(x.unsqueeze(1), self.voting_size, self.voting_size).squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.step_mode == "s":
            return self.single_step_forward(x)
        return functional.seq_to_ann_forward(x, self.single_step_forward)


class SteppedDelay(MemoryLayer):
    def __init__(self, delay_steps: int, step_mode: str = "s") -> None:
        super().__init__(step_mode)
        self.delay_steps = delay_steps
        self.register_memory("queue", [])

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        self.queue.append(x)
        return self.queue.pop(0) if len(self.queue) > self.delay_steps else torch.zeros_like(x)

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **options: Any) -> Tensor:
        return functional.delay(x_seq, self.delay_steps)


class PrintShapeModule(nn.Module):
    def __init__(self, ext_str: str = "PrintShapeModule") -> None:
        super().__init__()
        self.ext_str = ext_str

    def forward(self, x: Tensor) -> Tensor:
        print(self.ext_str, x.shape)
        return x


def namespace(dialect: Dialect) -> dict[str, Any]:
    """The names of `layer` in a version of SpikingJelly."""
    attributes = {"__module__": f"{__name__.rpartition('.')[0]}.{dialect.package}.layer"}

    def make(name: str, *bases: type, **members: Any) -> type:
        return type(name, bases, {**attributes, **members})

    flat = {"drop": staticmethod(F.dropout2d), "default_p": 0.2}
    shared: list[type] = [NeuNorm, SynapseFilter, PrintShapeModule]
    shared += [ElementWiseRecurrentContainer, LinearRecurrentContainer]
    names: dict[str, Any] = {kind.__name__: make(kind.__name__, kind) for kind in shared}
    drop = make("Dropout", DroppingOut, drop=staticmethod(F.dropout))
    names |= {"Dropout": drop, "Dropout2d": make("Dropout2d", drop, **flat)}
    container = _Wrapped if dialect.wraps_layers else Contained
    runs: dict[str, Any] = {"MultiStepContainer": functional.multi_step_forward}
    runs["SeqToANNContainer"] = functional.seq_to_ann_forward
    names |= {name: make(name, container, run=staticmethod(run)) for name, run in runs.items()}
    prefix = "MultiStep" if dialect.single else ""
    for axes in ("1d", "2d", "3d"):
        name = f"{prefix}ThresholdDependentBatchNorm{axes}"
        names[name] = make(name, TemporalBatchNorm)
    name = f"{prefix}TemporalWiseAttention"
    names[name] = make(name, TemporalWiseAttention)
    if dialect.single:
        for name in ("Dropout", "Dropout2d"):
            many = {"forward": DroppingOut.multi_step_forward, "default_p": 0.5}
            names[f"MultiStep{name}"] = make(f"MultiStep{name}", names[name], **many)
        return names
    for name, axes in _AXES.items():
        names[name] = make(name, Stepped, getattr(nn, name), axes=axes)
    late = {"StepModeContainer": StepModeContainer, "VotingLayer": VotingLayer}
    for name, kind in {**late, "Delay": SteppedDelay}.items():
        names[name] = make(name, kind)
    return names
