"""What SpikingJelly's neurons share: firing, resetting, time, and what they remember."""

from functools import partial
from inspect import Parameter, Signature
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikeloom.compat.spikingjelly.dialects import Dialect
from spikeloom.compat.spikingjelly.fused import fusing, sequence
from spikeloom.compat.spikingjelly.memory import MemoryModule

POTENTIALS = {"v_threshold": 1.0, "v_reset": 0.0}
TAIL = {"surrogate_function": None, "detach_reset": False}


class Node(MemoryModule):
    """Charge, fire, reset; the potential stays in `v` until `reset()`.

    `arguments`: those of the constructor, in order, with their defaults.
    """

    dialect: ClassVar[Dialect]
    keeps_spike: ClassVar[bool] = False
    deaf_eval: ClassVar[bool] = False
    refits: ClassVar[bool] = False
    restores: ClassVar[bool] = False
    default_surrogate: ClassVar[type]
    arguments: ClassVar[dict[str, Any]] = {**POTENTIALS, **TAIL}
    deaf: ClassVar[bool] = False
    """Among those that pass no gradient in evaluation mode, where the version has such."""
    sequential: ClassVar[bool] = False
    """A clock_driven class that takes all steps at once."""
    step_method: ClassVar[str] = "single_step_forward"
    spike: Any

    def __init_subclass__(cls, **options: Any) -> None:
        """What a subclass of the user's writes for one step gets a kernel too."""
        super().__init_subclass__(**options)
        step = cls.__dict__.get(cls.step_method)
        if step is not None and not hasattr(step, "is_fusing") and cls.step_method != "one_step":
            setattr(cls, cls.step_method, fusing(step))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        values = self._bound(args, options)
        step_mode, backend = values.pop("step_mode", "s"), values.pop("backend", "torch")
        self.store_v_seq = bool(values.pop("store_v_seq", False))
        self.monitor: Any = False
        self.set_monitor(values.pop("monitor_state", False))
        surrogate = values.pop("surrogate_function")
        self.surrogate_function = self.default_surrogate() if surrogate is None else surrogate
        self.detach_reset = bool(values.pop("detach_reset"))
        v_reset, v_threshold = values.pop("v_reset"), values.pop("v_threshold")
        self.v_reset = v_reset if v_reset is None else float(v_reset)
        self.v_threshold = v_threshold if isinstance(v_threshold, Tensor) else float(v_threshold)
        self._restored = (self.v_threshold, self.v_reset)
        if self.keeps_spike:
            self.spike = None
        self._v_seq: Any = None
        self.register_memory("v", 0.0 if self.v_reset is None else self.v_reset)
        self.built(values)
        self.backend, self.step_mode = backend, step_mode

    def _bound(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name."""
        parameters = [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default)
            for name, default in self.arguments.items()
        ]
        try:
            return self.arguments | Signature(parameters).bind(*args, **options).arguments
        except TypeError as error:
            raise TypeError(
                f"{type(self).__name__} of SpikingJelly {self.dialect.version} {error}: it takes "
                f"{', '.join(self.arguments)}"
            ) from None

    def built(self, values: dict[str, Any]) -> None:
        """Keep the arguments that are this node's own."""
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def fuses(self) -> bool:
        """Whether a kernel may run: not while a monitor of old wants each step's numbers."""
        return not self.monitor

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a step leaves in an attribute besides its memories."""
        return ("spike",) if self.keeps_spike else ()

    def prepare(self, x: Tensor) -> None:
        """Let a state that was left by a batch of another shape go, where the version does."""
        v = self._memories["v"]
        if self.refits and isinstance(v, Tensor) and v.shape != x.shape:
            self._memories["v"] = self.v_reset or 0.0

    def fired(self, spike: Tensor) -> Tensor:
        """Leave the spike of the last step where the version does."""
        if self._is_deaf():
            spike = spike.detach()
        if self.keeps_spike:
            self.spike = spike
        return spike

    def _is_deaf(self) -> bool:
        return self.deaf and self.deaf_eval and not self.training

    # One step, as equations: what a kernel is made of, and what runs where there is none.

    def neuronal_charge(self, x: Tensor) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define neuronal_charge(x)")

    def neuronal_fire(self) -> Tensor:
        above = self.v - self.v_threshold
        spike = (above >= 0).to(above) if self._is_deaf() else self.surrogate_function(above)
        if self.keeps_spike:
            self.spike = spike
        return spike

    def neuronal_reset(self, spike: Tensor | None = None) -> None:
        fired: Tensor = self.spike if spike is None else spike
        fired = fired.detach() if self.detach_reset else fired
        if self.v_reset is None:
            self.v = self.v - fired * self.v_threshold
        else:
            v = (1.0 - fired) * self.v
            self.v = v + fired * self.v_reset if self.v_reset else v

    def spiking(self) -> Tensor:
        """Fire and reset: what a node of 0.0.0.0.2 calls after it has charged."""
        spike = self.neuronal_fire()
        if self.monitor:
            self._note("h", self.v)
            self._note("s", spike)
        self.neuronal_reset(spike)
        if self.monitor:
            self._note("v", self.v)
        return spike

    def _note(self, name: str, value: Tensor) -> None:
        self.monitor[name].append(value.detach().cpu().numpy().copy())

    def one_step(self, x: Tensor) -> Tensor:
        if isinstance(self.v, float):
            self.v = torch.full_like(x.data, self.v)
        self.neuronal_charge(x)
        if self.monitor:
            return self.spiking()
        if not self.keeps_spike:
            spike = self.neuronal_fire()
            self.neuronal_reset(spike)
            return spike
        self.neuronal_fire()
        self.neuronal_reset()
        return self.spike

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        spike = self.one_step(x)
        if self.store_v_seq and self.refits:
            kept = self._v_seq if isinstance(self._v_seq, Tensor) else self.v[:0].unsqueeze(0)[:0]
            fits = kept.shape[1:] == self.v.shape
            self._v_seq = torch.cat([kept, self.v[None]]) if fits else self.v[None].clone()
        return spike

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **options: Any) -> Tensor:
        if self.dialect.single or self.store_v_seq:
            # run again when it is asked for: most who have it never ask
            self._v_seq = partial(self._potentials, x_seq, dict(self._memories))
        spikes = sequence(self, x_seq, getattr(self, self.step_method))
        return spikes.detach() if self._is_deaf() else spikes

    def _potentials(self, x_seq: Tensor, start: dict[str, Any]) -> Tensor:
        now, self._memories = self._memories, dict(start)
        try:
            steps = []
            for x in x_seq.unbind(0):
                self.one_step(x)
                steps.append(self.v)
        finally:
            self._memories = now
        return torch.stack(steps)

    @property
    def v_seq(self) -> Any:
        """The potentials `[T, N, ...]` of the last sequence."""
        if callable(self._v_seq):
            self._v_seq = self._v_seq()
        return self._v_seq

    @v_seq.setter
    def v_seq(self, value: Any) -> None:
        self._v_seq = value

    def reset(self) -> None:
        super().reset()
        self._v_seq = None
        if self.keeps_spike:
            self.spike = None
        if self.restores:
            self.v_threshold, self.v_reset = self._restored
        self.set_monitor(bool(self.monitor))

    def set_monitor(self, monitor_state: bool = True) -> None:
        self.monitor = {"h": [], "v": [], "s": []} if monitor_state else False

    def __getstate__(self) -> dict[str, Any]:
        made = ("_written", "_v_seq")
        return {**self.__dict__, **{name: None for name in made if name in self.__dict__}}

    def extra_repr(self) -> str:
        names = [n for n in self.arguments if n != "surrogate_function" and hasattr(self, n)]
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class MultiStep:
    """A clock_driven node that takes `[T, N, ...]`."""

    sequential = True
    step_method = "one_step"

    def forward(self: Any, x_seq: Tensor) -> Tensor:
        if x_seq.dim() < 2:
            raise ValueError(f"{type(self).__name__} got {list(x_seq.shape)}: expected [T, N, ...]")
        spikes = self.multi_step_forward(x_seq)
        if self.keeps_spike:
            self.spike_seq = spikes
        return spikes
