"""The layers of a `Sequential` that only answers, with who fired handed on in lists.

    neurons [MaxPool2d] [Flatten] conv or linear    no spike is written as a number
    conv neurons MaxPool2d                          a few samples at a time, while they are in cache
    linear neurons                                  one call, where samples and steps are few

Whatever else there is runs as in `Sequential.forward`, and everything does where hooks watch a
layer, or where kernels have no place (`synapses.functional.obstacle`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeloom.compiler.function import trace_of
from spikeloom.neurons import Neuron
from spikeloom.nn.fold import is_time_aware
from spikeloom.nn.layers import Dropout
from spikeloom.nn.recurrent import watched
from spikeloom.nn.sequential import Sequential, apply
from spikeloom.nn.state import GivenNetworkState, NetworkState, check_names, holds_state, stream
from spikeloom.synapses.fired import Fired, listed
from spikeloom.synapses.firing import Firing, takes
from spikeloom.synapses.fixed import FixedConv2d, FixedLinear
from spikeloom.synapses.functional import obstacle
from spikeloom.synapses.linear_step import LinearStep
from spikeloom.synapses.steps import STORAGE, Neurons
from spikeloom.synapses.switch import record_counts, setting

CURRENT_BYTES = 4 << 20
"""Of the current of the samples that are taken through a convolution and its neurons together."""

FEW = 4
"""Up to so many samples and steps a linear layer and its neurons are one call."""

Kind = Literal["same", "flatten", "pool", "conv", "linear", "neurons", "other"]


@dataclass
class Link:
    """A layer of the chain. `product`: the fixed convolution or linear layer; `step`: that one with
    the neurons behind it."""

    kind: Kind
    name: str
    layer: nn.Module
    product: Any = None
    neurons: dict[torch.dtype, Neurons | None] = field(default_factory=dict)
    window: tuple[int, int] = (1, 1)
    step: LinearStep | None = None
    following: int = 0
    """The next link that does something."""

    def neurons_for(self, dtype: torch.dtype) -> Neurons | None:
        if dtype not in self.neurons:
            self.neurons[dtype] = _neurons(self.layer, dtype)
        return self.neurons[dtype]


class Chain:
    """What a `Sequential` of an inference network has in place of its `forward`."""

    def __init__(self, net: Sequential) -> None:
        self.net = net
        self._links: list[Link] | None = None

    def __reduce__(self) -> tuple[type, tuple[Sequential]]:
        return Chain, (self.net,)

    @property
    def links(self) -> list[Link]:
        if self._links is None:
            links = [_link(name, layer) for name, layer in self.net._modules.items()]  # type: ignore[arg-type]
            for at, link in enumerate(links):
                link.following = at + 1
                while link.following < len(links) and links[link.following].kind == "same":
                    link.following += 1
            self._links = links
        return self._links

    def __call__(self, input: Tensor, state: GivenNetworkState = False) -> Any:
        links = self.links
        if (
            torch.is_grad_enabled()
            or setting.mode == "off"
            or obstacle(input) is not None
            or torch.is_autocast_enabled("cpu")
            or input.dtype not in STORAGE
            or any([watched(link.layer) for link in links])
        ):
            return Sequential.forward(self.net, input, state)  # type: ignore[arg-type]
        if state and not state.keys() <= self.net._modules.keys():
            check_names(self.net, state, set(self.net._modules))
        run = _Run(links, state)
        x: Tensor | Fired = input
        at = 0
        while at < len(links):
            x, at = run.link(x, at)
        x = _dense(x)
        return x if state is False else (x, run.after)


class _Run:
    """One call of a chain: takes a link, or several, at a time."""

    def __init__(self, links: list[Link], state: GivenNetworkState) -> None:
        self.links = links
        self.before: NetworkState = state or {}
        self.after: NetworkState = {}
        self.want_state = state is not False

    def link(self, x: Tensor | Fired, at: int) -> tuple[Tensor | Fired, int]:
        """What comes out of the link `at`, and which is next."""
        link = self.links[at]
        if link.kind == "same":
            return x, at + 1
        way = _WAYS.get(link.kind)
        taken = None if way is None else way(self, x, at)
        return taken or (self._ordinary(_dense(x), link), at + 1)

    def _ordinary(self, x: Tensor, link: Link) -> Tensor:
        layer = link.layer
        if not is_time_aware(layer):
            return apply([layer], x)
        if not self.want_state or not holds_state(layer):
            return layer(x)  # type: ignore[no-any-return]
        x, carried = stream(layer, x, self.before.get(link.name))
        if carried:
            self.after[link.name] = carried
        return x

    def _kind(self, at: int) -> Kind | None:
        return self.links[at].kind if at < len(self.links) else None

    def _listening(self, at: int, shape: tuple[int, ...], dtype: torch.dtype) -> int | None:
        """Where the spikes of the neurons `at` are heard as lists, for a current of `shape`: the
        link of the layer that listens, or the end of the chain."""
        link = self.links[at]
        neurons = link.neurons_for(dtype) if link.kind == "neurons" else None
        image = len(shape) == 5
        end = link.following
        window, flattened = (1, 1), not image
        if self._kind(end) == "pool" and image:
            window, end = self.links[end].window, self.links[end].following
        if neurons is None or not takes(neurons, shape, window):
            return None
        if self._kind(end) == "flatten":
            flattened, end = True, self.links[end].following
        if self._kind(end) is None:
            return end if window != (1, 1) and not flattened else None
        heard = self._kind(end) == ("linear" if flattened else "conv")
        return end if heard else None

    def _firing(self, at: int, shape: tuple[int, ...], dtype: torch.dtype) -> Firing:
        link, behind = self.links[at], self.links[at].following
        pooled = self._kind(behind) == "pool" and len(shape) == 5
        neurons = link.neurons_for(dtype)
        assert neurons is not None
        window = self.links[behind].window if pooled else (1, 1)
        return Firing(neurons, shape, window, self._start(at, shape), self.want_state)

    def _start(self, at: int, shape: tuple[int, ...]) -> Any:
        """The state before the neurons `at`, for a current of `shape`; refused as they would."""
        link = self.links[at]
        state = self.before.get(link.name)
        neurons: Any = link.layer
        if state:
            step = shape[1:]
            if len(state) != len(neurons.states) or any([each.shape != step for each in state]):
                neurons._check(torch.empty(shape, device="meta"), state, ())
        return state

    def _neurons(self, x: Tensor | Fired, at: int) -> tuple[Fired, int] | None:
        if not isinstance(x, Tensor):
            return None
        end = self._listening(at, x.shape, x.dtype)
        if end is None:
            return None
        firing = self._firing(at, x.shape, x.dtype)
        firing.add(x)
        return self._fired(firing, at), end

    def _fired(self, firing: Firing, at: int) -> Fired:
        if self.want_state:
            self.after[self.links[at].name] = firing.state()
        return firing.fired()

    def _conv(self, x: Tensor | Fired, at: int) -> tuple[Tensor | Fired, int] | None:
        conv: FixedConv2d = self.links[at].product
        if not isinstance(x, Fired):
            return None
        size = x.size
        if size[0] != conv.weight.shape[1] or len(x.shape) != 3:
            return None
        if not conv.pays((x.time_steps * x.batch, *size), x.count, x.listed):
            return None
        features, place = conv.weight.shape[0], conv.geometry.output(*size[1:])
        shape = (x.time_steps, x.batch, features, *place)
        following = self.links[at].following
        end = self._listening(following, shape, x.dtype) if self._kind(following) else None
        if end is None:
            return conv.of_fired(x), at + 1
        firing = self._firing(following, shape, x.dtype)
        sample = x.time_steps * features * place[0] * place[1] * x.dtype.itemsize
        many = max(1, CURRENT_BYTES // sample)
        for first in range(0, x.batch, many):
            last = min(first + many, x.batch)
            firing.add(conv.of_fired(x.samples(first, last), "current"), first)
        return self._fired(firing, following), end

    def _flatten(self, x: Tensor | Fired, at: int) -> tuple[Tensor, int] | None:
        """Spikes of images that a linear layer hears are listed as they lie in memory."""
        end = self.links[at].following
        if not isinstance(x, Tensor) or x.dim() != 5 or self._kind(end) != "linear":
            return None
        fired = listed(x)
        return None if fired is None else self._linear(fired, end)

    def _linear(self, x: Tensor | Fired, at: int) -> tuple[Tensor, int] | None:
        link = self.links[at]
        linear: FixedLinear = link.product
        if isinstance(x, Fired):
            y = linear.of_fired(x)
            if y is None:
                return self._ordinary(x.dense().flatten(2), link), at + 1
            return y.unflatten(0, (x.batch, x.time_steps)).transpose(0, 1), at + 1
        following = link.following
        few = x.dim() == 3 and 0 < x.shape[0] * x.shape[1] <= FEW
        if not few or self._kind(following) != "neurons" or x.shape[2] != linear.weight.shape[1]:
            return None
        behind = self.links[following]
        if link.step is None or link.step.neurons.dtype != x.dtype:
            neurons = behind.neurons_for(x.dtype)
            if neurons is None or not neurons.fit(linear.weight.shape[0]):
                return None
            link.step = LinearStep(neurons, linear.by_input(), linear.bias)
        rows = x.shape[0] * x.shape[1]
        most = linear.most(rows)
        given = self._start(following, (*x.shape[:2], linear.weight.shape[0]))
        y, state, counts = link.step(x.contiguous(), given, self.want_state, most)
        if max(counts) > most:
            return None
        record_counts("linear", linear.parameter, (rows, x.shape[2]), counts)
        if self.want_state:
            self.after[behind.name] = state
        return y, following + 1


_WAYS: dict[Kind, Callable[..., Any]] = {
    "neurons": _Run._neurons,
    "flatten": _Run._flatten,
    "conv": _Run._conv,
    "linear": _Run._linear,
}
"""What takes a link, or answers None if it is one for `_ordinary`."""


def _dense(x: Tensor | Fired) -> Tensor:
    return x if isinstance(x, Tensor) else x.dense()


def _link(name: str, layer: nn.Module) -> Link:
    """What the chain can do with a layer."""
    product = vars(layer).get("forward")
    if type(layer) in (nn.Identity, Dropout, nn.Dropout):
        return Link("same", name, layer)
    if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
        return Link("flatten", name, layer)
    if type(layer) is nn.MaxPool2d and (window := _window(layer)) is not None:
        return Link("pool", name, layer, window=window)
    if type(product) is FixedConv2d and product.geometry.groups == 1:
        return Link("conv", name, layer, product)
    if type(product) is FixedLinear:
        return Link("linear", name, layer, product)
    is_neuron = getattr(type(layer), "forward", None) is Neuron.forward
    return Link("neurons" if is_neuron else "other", name, layer)


def _window(pool: nn.MaxPool2d) -> tuple[int, int] | None:
    """Of pooling over windows that touch and do not overlap."""

    def pair(value: Any) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else tuple(value)

    window = pair(pool.kernel_size)
    plain = pair(pool.stride) == window and pair(pool.padding) == (0, 0)
    plain = plain and pair(pool.dilation) == (1, 1)
    return window if plain and not (pool.ceil_mode or pool.return_indices) else None


def _neurons(layer: nn.Module, dtype: torch.dtype) -> Neurons | None:
    """The neurons as they are now; None where there is no kernel."""
    if type(layer).forward is not Neuron.forward or layer.time_coefs:
        return None
    choice = layer.choice(torch.device("cpu"), dtype)  # type: ignore[operator]
    if choice.backend != "cpu" or choice.program is None:
        return None
    coefs = layer._all_coefs().values()  # type: ignore[operator]
    neurons = Neurons(
        trace_of(choice.program),
        layer._rest(),  # type: ignore[operator]
        tuple(coef.detach().to(dtype, copy=True).contiguous() for coef in coefs),
        dtype,
    )
    return neurons if neurons.fire_ones and all(c.dim() < 2 for c in neurons.coefs) else None
