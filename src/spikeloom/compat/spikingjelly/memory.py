"""Modules that remember between calls until they are reset, as SpikingJelly has them."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

BACKENDS = ("torch", "cupy", "triton", "cuda")
"""What SpikingJelly calls its own kernels. All mean ours here, on every device."""


class StepModule:
    """A module that takes one step (`step_mode="s"`) or a whole sequence (`"m"`)."""

    def supported_step_mode(self) -> tuple[str, ...]:
        return ("s", "m")

    @property
    def step_mode(self) -> str:
        return self._step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        if value not in self.supported_step_mode():
            raise ValueError(f"step_mode={value!r}: expected one of {self.supported_step_mode()}")
        self._step_mode = value


class SingleStepModule(StepModule):
    def supported_step_mode(self) -> tuple[str, ...]:
        return ("s",)


class MultiStepModule(StepModule):
    def supported_step_mode(self) -> tuple[str, ...]:
        return ("m",)


class MemoryModule(nn.Module, StepModule):
    """A module with memories: attributes that `reset()` puts back, and no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self._memories: dict[str, Any] = {}
        self._memories_rv: dict[str, Any] = {}
        self._backend = "torch"
        self._step_mode = "s"

    @property
    def supported_backends(self) -> tuple[str, ...]:
        return BACKENDS

    @property
    def backend(self) -> str:
        return self._backend

    @backend.setter
    def backend(self, value: str) -> None:
        """Every backend of SpikingJelly's is taken and means ours, but for those that are chips."""
        if value not in BACKENDS:
            raise NotImplementedError(
                f"backend={value!r}: expected one of {', '.join(BACKENDS)}; each runs on the "
                "kernels of spikeloom"
            )
        self._backend = value

    def register_memory(self, name: str, value: Any) -> None:
        if hasattr(self, name):
            raise AssertionError(f"{name} has been set as a member variable!")
        self._memories[name] = value
        self.set_reset_value(name, value)

    def set_reset_value(self, name: str, value: Any) -> None:
        self._memories_rv[name] = copy.deepcopy(value)

    def reset(self) -> None:
        for name, value in self._memories_rv.items():
            self._memories[name] = copy.deepcopy(value)

    def detach(self) -> None:
        for name, value in self._memories.items():
            if isinstance(value, Tensor):
                self._memories[name] = value.detach()

    def memories(self) -> Iterator[Any]:
        yield from self._memories.values()

    def named_memories(self) -> Iterator[tuple[str, Any]]:
        yield from self._memories.items()

    def single_step_forward(self, x: Tensor, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define single_step_forward(x)")

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **options: Any) -> Any:
        steps = [self.single_step_forward(x, *args, **options) for x in x_seq.unbind(0)]
        return torch.stack(steps)

    def forward(self, *args: Any, **options: Any) -> Any:
        if self.step_mode == "s":
            return self.single_step_forward(*args, **options)
        return self.multi_step_forward(*args, **options)

    def __getattr__(self, name: str) -> Any:
        memories = self.__dict__.get("_memories")
        if memories is not None and name in memories:
            return memories[name]
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        memories = self.__dict__.get("_memories")
        if memories is not None and name in memories:
            memories[name] = value
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._memories:
            del self._memories[name], self._memories_rv[name]
        else:
            super().__delattr__(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__dict__.get("_memories", ())})

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Any:
        for store in (self._memories, self._memories_rv):
            for name, value in store.items():
                if isinstance(value, Tensor):
                    store[name] = fn(value)
        return super()._apply(fn, *args, **options)

    def _replicate_for_data_parallel(self) -> Any:
        replica = super()._replicate_for_data_parallel()
        replica._memories = dict(self._memories)
        return replica
