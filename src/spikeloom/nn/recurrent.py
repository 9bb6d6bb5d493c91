"""A layer of neurons that hears its own spikes of the step before."""

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from spikeloom.compiler.dispatch import Choice
from spikeloom.compiler.plan.geometry import coef_kind
from spikeloom.neurons import Neuron, State
from spikeloom.neurons.neuron import GivenState
from spikeloom.nn.state import StatefulLayer


class Recurrent(StatefulLayer):
    """Neurons with all-to-all feedback, on `[T, B, features]`.

        into="input"        the neurons' input at t is  x_t + R s_{t-1},   s_0 = 0
        into=<state name>   before step t this state of theirs is increased by  R s_{t-1}

    The two differ in when a spike acts: a state that a step reads feels it one step before an
    input of that step that passes through that state does.

    On the CPU all time steps run in one compiled kernel, for float32 and float64, which adds up the
    rows of R of the neurons that fired. Elsewhere, and where hooks want to see every step, it is a
    loop over time; `sl.explain` says which, and why.

    `neuron`: the neurons. `features`: their number.
    R is `recurrent`, a linear map without bias, `[features, features]`.
    A state is that of the neurons followed by the last spikes, each `[B, features]`.
    Raises `ValueError` for an unknown state, or an input of other features.
    """

    def __init__(self, neuron: Neuron, features: int, *, into: str = "input") -> None:
        super().__init__()
        if into != "input" and into not in neuron.states:
            raise ValueError(
                f"into={into!r}: expected 'input' or a state of {type(neuron).__name__}: "
                f"{', '.join(neuron.states)}"
            )
        self.into = into
        self.features = features
        self.neuron = neuron
        self.recurrent = nn.Linear(features, features, bias=False)
        # In memory as [from, to]: what a neuron that fired adds to all others lies side by side.
        by_source = self.recurrent.weight.detach().t().contiguous()
        self.recurrent.weight = nn.Parameter(by_source.t())

    def advance(self, x: Tensor, state: GivenState) -> tuple[Tensor, State]:
        """`x` `[T, B, features]` -> spikes of the same shape."""
        if x.dim() != 3 or x.shape[2] != self.features:
            raise ValueError(
                f"input of shape {list(x.shape)}: expected [T, B, {self.features}] for a recurrent "
                "layer"
            )
        self.neuron._check(x, state[:-1] if state else None, ())
        obstacle, program = self._obstacle(x.device, x.dtype, type(x))
        if obstacle is None:
            return self._in_one_kernel(program, x, state)
        return self._step_by_step(x, state or self.initial_state(x))

    def initial_state(self, x: Tensor) -> State:
        """The neurons at rest and no spikes, for an input `[T, B, features]`."""
        return (*self.neuron.initial_state(x), x.new_zeros(x.shape[1:]))

    def choice(self, device: torch.device, dtype: torch.dtype) -> Choice:
        """Whether the layer is one kernel for such an input, and why not."""
        obstacle, program = self._obstacle(device, dtype, Tensor)
        if obstacle is None:
            return Choice("cpu", "all time steps in one kernel", program)
        return Choice("eager", f"one time step after the other: {obstacle}")

    @property
    def _place(self) -> int:
        """The number of the state that hears the feedback; -1 for the input."""
        return -1 if self.into == "input" else self.neuron.states.index(self.into)

    def _in_one_kernel(self, program: str, x: Tensor, start: GivenState) -> tuple[Tensor, State]:
        from spikeloom.compiler import recurrent
        from spikeloom.compiler.function import trace_of

        coefs = self.neuron._all_coefs()
        for name, coef in coefs.items():
            coef_kind(name, coef.shape, tuple(x.shape), per_time=False)
        layer = recurrent.Layer(trace_of(program), self._place, self.neuron._rest())
        spikes, finals = recurrent.run(
            layer, x, self.recurrent.weight, start or None, list(coefs.values()), start is not False
        )
        last = spikes[-1] if len(spikes) else start[-1] if start else x.new_zeros(x.shape[1:])
        return spikes, (*finals, last)

    def _step_by_step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        *carried, last = state
        place = self._place
        spikes: list[Tensor] = []
        for current in x.split(1):
            feedback = self.recurrent(last.unsqueeze(0))
            if place < 0:
                current = current + feedback
            else:
                carried[place] = carried[place] + feedback[0]
            fired, carried = self.neuron(current, tuple(carried))
            carried = list(carried)
            spikes.append(fired)
            last = fired[0]
        return (torch.cat(spikes) if spikes else torch.empty_like(x)), (*carried, last)

    def _obstacle(
        self, device: torch.device, dtype: torch.dtype, kind: type
    ) -> tuple[str | None, str]:
        """Why the time steps cannot be one kernel, or None and the neurons' compiled program."""
        if torch.compiler.is_compiling() or torch._C._is_tracing():
            return "the layer is being compiled or exported", ""
        weight = self.recurrent.weight
        synapse = type(self.recurrent)
        if device.type != "cpu" or weight.device.type != "cpu":
            return f"no kernel for device {device.type!r}", ""
        if dtype not in (torch.float32, torch.float64) or weight.dtype != dtype:
            return f"no kernel for input of {dtype} and weights of {weight.dtype}", ""
        if kind not in (Tensor, nn.Parameter) or is_in_torch_dispatch_mode():
            return "tensors of another kind than PyTorch's own, or a mode that watches them", ""
        if torch.is_autocast_enabled("cpu"):
            return "autocast decides the precision of the feedback", ""
        if synapse.forward is not nn.Linear.forward or self.recurrent.bias is not None:
            return f"the feedback is a {synapse.__name__}, not a plain linear map", ""
        if type(self.neuron).forward is not Neuron.forward:
            return f"{type(self.neuron).__name__} has a forward of its own", ""
        if any(watched(module) for module in (self.neuron, self.recurrent)):
            return "hooks want to see every step", ""
        if self.neuron.time_coefs:
            return f"{', '.join(self.neuron.time_coefs)} differ from step to step", ""
        choice = self.neuron.choice(device, dtype)
        if choice.backend != "cpu" or choice.program is None:
            return f"the neurons run {choice.backend} ({choice.reason})", ""
        return None, choice.program

    def extra_repr(self) -> str:
        return f"{self.features}, into={self.into!r}"


def watched(module: nn.Module) -> bool:
    """Whether hooks see a call of the module."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or hooks._global_forward_hooks
        or hooks._global_forward_pre_hooks
        or hooks._global_backward_hooks
        or hooks._global_backward_pre_hooks
    )
