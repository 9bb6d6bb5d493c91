"""SpikingJelly's monitors: what goes through the layers of a network, kept call by call."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikeloom.compat.spikingjelly.dialects import Dialect


def _same(value: Any) -> Any:
    return value


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


class BaseMonitor:
    """`records` in the order of the calls; `monitor["conv.0"]`: those of one layer."""

    def __init__(self, net: nn.Module, instance: Any, function: Callable[..., Any] = _same) -> None:
        self.records: list[Any] = []
        self.monitored_layers: list[str] = []
        self.name_records_index: dict[str, list[int]] = {}
        self.hooks: list[Any] = []
        self._enable, self._function = True, function
        for name, module in net.named_modules():
            if isinstance(module, type(net) if instance is None else instance):
                self.monitored_layers.append(name)
                self.name_records_index[name] = []
                self.hooks.append(self.watch(name, module))

    def watch(self, name: str, module: nn.Module) -> Any:
        raise NotImplementedError

    def keep(self, name: str, value: Any) -> None:
        if self._enable:
            self.name_records_index[name].append(len(self.records))
            self.records.append(self._function(value))

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return self.records[key]
        return [self.records[index] for index in self.name_records_index[key]]

    def clear_recorded_data(self) -> None:
        self.records.clear()
        for indices in self.name_records_index.values():
            indices.clear()

    def enable(self) -> None:
        self._enable = True

    def disable(self) -> None:
        self._enable = False

    def is_enable(self) -> bool:
        return self._enable

    def remove_hooks(self) -> None:
        for hook in self.hooks:
            hook.remove()


class LayerMonitor(BaseMonitor):
    """What one kind of hook is given as argument number `place`. `option`: SpikingJelly's name of
    the function that is applied to it.
    """

    option: ClassVar[str]
    hook: ClassVar[str]
    place: ClassVar[int]

    def __init__(
        self, net: nn.Module, instance: Any = None, function: Any = _same, **named: Any
    ) -> None:
        function = named.pop(self.option, function)
        if named:
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(named)}")
        super().__init__(net, instance, function)

    def watch(self, name: str, module: nn.Module) -> Any:
        hooked = getattr(module, f"register_{self.hook}_hook")
        return hooked(lambda *arguments: self.keep(name, _single(arguments[self.place])))


class AttributeMonitor(BaseMonitor):
    """An attribute of the layers, such as `v_seq`, before or after they are called."""

    def __init__(
        self,
        attribute_name: str,
        pre_forward: bool,
        net: nn.Module,
        instance: Any = None,
        function_on_attribute: Callable[..., Any] = _same,
    ) -> None:
        self.attribute_name, self.pre_forward = attribute_name, pre_forward
        super().__init__(net, instance, function_on_attribute)

    def watch(self, name: str, module: nn.Module) -> Any:
        def hook(layer: nn.Module, *rest: Any) -> None:
            self.keep(name, getattr(layer, self.attribute_name))

        if self.pre_forward:
            return module.register_forward_pre_hook(hook)
        return module.register_forward_hook(hook)


class RateMonitor:
    """clock_driven's `Monitor`: firing rates of the nodes since `reset()`."""

    nodes: type

    def __init__(self, net: nn.Module, device: Any = None, backend: str = "numpy") -> None:
        self.module_dict = {n: m for n, m in net.named_modules() if isinstance(m, self.nodes)}
        self.net, self.device, self.backend = net, device, backend
        self._hooks: list[Any] = []
        self.reset()

    def enable(self) -> None:
        self.disable()
        for name, module in self.module_dict.items():
            self._hooks.append(module.register_forward_hook(partial(self._count, name)))

    def disable(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def reset(self) -> None:
        self._spikes = dict.fromkeys(self.module_dict, 0.0)
        self._numbers = dict.fromkeys(self.module_dict, 0)
        self._fired: dict[str, Tensor] = {}

    def _count(self, name: str, module: Any, inputs: Any, output: Tensor) -> None:
        spikes = output.detach()
        spikes = spikes.flatten(0, 1) if module.sequential else spikes
        self._spikes[name] += float(spikes.sum())
        self._numbers[name] += spikes.numel()
        fired = spikes.sum(0) > 0
        self._fired[name] = fired | self._fired.get(name, fired)

    def get_avg_firing_rate(self, all: bool = True, module_name: str | None = None) -> float:
        names = self._names(all, module_name)
        return sum(self._spikes[n] for n in names) / max(1, sum(self._numbers[n] for n in names))

    def get_nonfire_ratio(self, all: bool = True, module_name: str | None = None) -> float:
        fired = torch.cat([self._fired[name].flatten() for name in self._names(all, module_name)])
        return float((~fired).float().mean())

    def _names(self, all: bool, module_name: str | None) -> list[str]:
        if all:
            return list(self.module_dict)
        if module_name is None or module_name not in self.module_dict:
            raise ValueError(f"module_name={module_name!r}: expected one of {[*self.module_dict]}")
        return [module_name]


_LAYER_MONITORS = {
    "OutputMonitor": ("output", "forward", 2),
    "InputMonitor": ("input", "forward", 1),
    "GradOutputMonitor": ("grad_output", "full_backward", 2),
    "GradInputMonitor": ("grad_input", "full_backward", 1),
}


def namespace(dialect: Dialect, base_node: type) -> dict[str, Any]:
    """The names of `monitor` in a version of SpikingJelly."""
    if dialect.single:
        return {"Monitor": type("Monitor", (RateMonitor,), {"nodes": base_node})}
    made: dict[str, Any] = {"BaseMonitor": BaseMonitor, "AttributeMonitor": AttributeMonitor}
    for name, (option, hook, place) in _LAYER_MONITORS.items():
        members = {"option": f"function_on_{option}", "hook": hook, "place": place}
        made[name] = type(name, (LayerMonitor,), members)
    return made
