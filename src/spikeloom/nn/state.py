"""The state of a whole network, so that it can be run in pieces of time.

    y, state = net(piece, state)           a neuron, `Recurrent`, `Sequential`; None: at rest
    y, state = stream(net, piece, state)  any module that has such layers inside

A layer that remembers offers `initial_state(x)` and `forward(x, state) -> (y, state)`. The state of
one layer is a tuple of tensors; that of a container a dict of its layers' states by their names.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spikeloom.neurons import Response, State
from spikeloom.neurons.neuron import GivenState

NetworkState = dict[str, Any]
"""The states of layers by their names in a container: tuples of tensors, or dicts of the same."""
GivenNetworkState = NetworkState | None | Literal[False]
"""As `neurons.neuron.GivenState`: None is at rest, False asks for no state."""


class StatefulLayer(nn.Module):
    """A layer over time whose answer depends on the steps before: a subclass overrides `advance`,
    and `initial_state` where it is something."""

    time_first = True

    def initial_state(self, x: Tensor) -> State:
        """The state before the first step, for an input like `x` `[T, B, ...]`: nothing."""
        return ()

    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]: ...
    def forward(self, x: Tensor, state: GivenState = False) -> Tensor | tuple[Tensor, State]:
        """The answer to `x` `[T, B, ...]`; with a state (None: at rest) also the state after the
        last step. Gradients flow through both."""
        y, after = self.advance(x, state)
        return y if state is False else (y, after)

    def advance(self, x: Tensor, state: GivenState) -> tuple[Tensor, State]:
        """The answer to `x`, and the state after it."""
        raise TypeError(f"{type(self).__name__} must override advance(x, state)")


def is_stateful(module: nn.Module) -> bool:
    """Whether `module` takes and returns its state: it says so with a method `initial_state(x)`."""
    return callable(getattr(module, "initial_state", None))


def holds_state(module: nn.Module) -> bool:
    """Whether a layer inside `module` takes and returns its state."""
    return any(is_stateful(layer) for layer in module.modules())


_IN_PIECES: ContextVar[bool] = ContextVar("in pieces", default=False)


def in_pieces() -> bool:
    """Whether a network is being run by `stream`, so that its input may be shorter than T."""
    return _IN_PIECES.get()


def stream(module: nn.Module, x: Tensor, state: Any = None) -> tuple[Any, Any]:
    """What `module` answers to `x`, the next piece of a sequence, and its state after that.

    `state`: what the call for the piece before returned; None before the first. Whatever `module`
    is made of, each layer inside that remembers (`is_stateful`) goes on from its own state, and
    gradients flow from piece to piece. Pieces may have any length; with BatchNorm in evaluation
    mode all of them together are bit for bit what the whole sequence gives at once.

    A layer that runs several times in one pass has a state for each time, in their order. Raises
    `ValueError` where `module` hands states to its neurons itself, or does not call one: its
    `forward` then runs them in its own way, and cannot be run in pieces.
    """
    if is_stateful(module):
        return module(x, state)  # type: ignore[no-any-return]
    with _carried(module, state or {}) as after:
        y = module(x)
    return y, after


def initial_state(module: nn.Module, x: Tensor) -> Any:
    """The state at rest of every layer of `module` that remembers, for an input like `x`.

    The shapes come from a forward pass over the first step of `x`, in evaluation mode, without
    gradient; random numbers drawn in it do not count.
    """
    if is_stateful(module):
        return module.initial_state(x)  # type: ignore[operator]
    with trial(module), _carried(module, {}, ask_rest=True) as rest:
        module(x[:1])
    return rest


@contextmanager
def trial(module: nn.Module) -> Iterator[None]:
    """Inside the `with` block `module` is in evaluation mode, without gradients, and random numbers
    that it draws do not count.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        for layer, _ in modes:
            layer.training = False
        with torch.no_grad(), torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def map_state(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """`state` with `function` applied to every tensor in it.

    >>> cut = map_state(Tensor.detach, state)          # truncated backpropagation through time
    """
    if isinstance(state, dict):
        return {name: map_state(function, value) for name, value in state.items()}
    if isinstance(state, tuple):
        return tuple(map_state(function, value) for value in state)
    return None if state is None else function(state)


def check_names(module: nn.Module, state: NetworkState, names: set[str]) -> None:
    """Refuse a state of other layers than `names`."""
    unknown = sorted({name.partition("#")[0] for name in state} - names)
    if unknown:
        raise ValueError(
            f"{type(module).__name__} got a state of {', '.join(map(repr, unknown))}, and has no "
            f"such layer: begin with initial_state(x) of this network, or None"
        )


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost layers inside `module` that remember, by path."""
    for name, child in module.named_children():
        if is_stateful(child):
            yield prefix + name, child
        else:
            yield from _layers(child, f"{prefix}{name}.")


@contextmanager
def _carried(
    module: nn.Module, before: NetworkState, *, ask_rest: bool = False
) -> Iterator[NetworkState]:
    """Inside the `with` block every layer of `module` that remembers starts from its state in
    `before`; its state after that, or with `ask_rest` its state at rest, comes into the dict.
    """
    states: NetworkState = {}
    layers = dict(_layers(module))
    check_names(module, before, set(layers))
    calls = dict.fromkeys(layers, 0)
    handles: list[RemovableHandle] = []

    def hooks(path: str, layer: nn.Module) -> None:
        def key() -> str:
            return f"{path}#{calls[path]}" if calls[path] else path

        def keep(state: Any) -> None:
            if state:
                states[key()] = state

        def give(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            passed = args[1] if len(args) > 1 else kwargs.get("state", False)
            record = args[2] if len(args) > 2 else kwargs.get("record")
            if passed is not False and not (passed is None and record is not None):
                raise ValueError(
                    f"{type(module).__name__} gives '{path}' a state itself: only a module that "
                    "leaves the states of its neurons alone can be run in pieces"
                )
            if ask_rest:
                keep(layer.initial_state(args[0]))  # type: ignore[operator]
            kwargs = {**kwargs, "state": before.get(key())}
            if record is not None:
                kwargs["record"] = record
            return args[:1], kwargs

        def take(_: nn.Module, inputs: Any, answer: Any) -> Any:
            if not ask_rest:
                keep(answer.state if isinstance(answer, Response) else answer[1])
            calls[path] += 1
            return answer if isinstance(answer, Response) else answer[0]

        handles.append(layer.register_forward_pre_hook(give, with_kwargs=True))
        handles.append(layer.register_forward_hook(take, prepend=True))

    token = _IN_PIECES.set(True)
    try:
        for path, layer in layers.items():
            hooks(path, layer)
        yield states
    finally:
        _IN_PIECES.reset(token)
        for handle in handles:
            handle.remove()
    silent = [path for path, count in calls.items() if not count]
    if silent:
        raise ValueError(
            f"{type(module).__name__} did not call {', '.join(map(repr, silent))}: it runs these "
            "neurons in its own way, and cannot be run in pieces"
        )
