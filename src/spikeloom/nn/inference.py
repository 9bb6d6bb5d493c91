"""A trained network for answers alone: BatchNorm folded into weights, no graph, sparse synapses.

fast = sl.inference(net)
y = fast(x)                          # as net.eval()(x)
y, state = fast(frame, state)        # [1, B, ...]: one time step, from the state before it
"""

import copy
import warnings
from collections import Counter, defaultdict
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeloom.hooks import hooked
from spikeloom.nn.batchnorm import BatchNorm
from spikeloom.nn.chain import Chain
from spikeloom.nn.sequential import Sequential
from spikeloom.nn.state import GivenNetworkState, stream
from spikeloom.synapses.fixed import fixed

Linear = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNorm)
Pair = tuple[str, str]
"""The paths of a linear layer and of the normalisation that its result, and nothing else, feeds."""

AGREEMENT = 1e-6
"""How far answers of the folded network may be from the others in float64, relative."""


__all__ = ["Inference", "inference"]


def inference(net: nn.Module, example: Tensor | None = None) -> "Inference":
    """`net` as it is now, in evaluation mode, to be asked many times: a copy of its own.

    The first input (or `example`, one like those to come) shows which BatchNorm follows which
    linear layer or convolution; each is folded into the weights before it, where that leaves the
    answers to this input as they were (computed in float64; otherwise nothing is folded, with a
    warning). Then every linear layer and convolution is laid out for sums over the neurons that
    fired, and takes that way in the calls in which it is the faster one.

    Runs on the device and in the dtype of `net`; sparse sums are for CPUs.
    """
    fast = Inference(net)
    if example is not None:
        fast.prepare(example)
    return fast


class Inference(nn.Module):
    """What `inference` returns. `network` is the copy; `folded` the pairs of layers that became
    one, by their paths."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        try:
            self.network = copy.deepcopy(net).eval().requires_grad_(False)
        except RuntimeError as error:
            raise ValueError(
                f"{type(net).__name__} cannot be copied ({str(error).splitlines()[0]}): where "
                "layers are pruned, make it lasting with torch.nn.utils.prune.remove first"
            ) from error
        self.folded: tuple[Pair, ...] = ()
        self._prepared = False

    def forward(self, x: Tensor, state: GivenNetworkState = False) -> Any:
        """What the network answers to `x`; with a state (None: at rest) the pair of that and of the
        state after it, so that a sequence may come in pieces, of one time step too."""
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.forward(x, state)
        if not self._prepared:
            self.prepare(x)
        return self.network(x) if state is False else stream(self.network, x, state)

    @torch.no_grad()
    def prepare(self, example: Tensor) -> None:
        """What the first call does before it answers."""
        if self._prepared:
            return
        self._prepared = True
        pairs = _pairs(self.network, example)
        if pairs and _agree(self.network, pairs, example):
            _fold(self.network, pairs)
            self.folded = tuple(pairs)
        for layer in self.network.modules():
            product = None if parametrize.is_parametrized(layer) else fixed(layer)
            if product is not None:
                layer.forward = product  # type: ignore[method-assign]
        for layer in self.network.modules():
            if type(layer).forward is Sequential.forward:
                layer.forward = Chain(layer)  # type: ignore[method-assign, arg-type]

    def train(self, mode: bool = True) -> "Inference":
        """Stays in evaluation mode: `ValueError` for anything else."""
        if mode:
            raise ValueError("a network made for inference does not train: train the one it is of")
        return super().train(False)

    def extra_repr(self) -> str:
        return f"{len(self.folded)} BatchNorms folded" if self._prepared else "not asked yet"


def _pairs(net: nn.Module, example: Tensor) -> list[Pair]:
    """Whose result goes straight into which BatchNorm, in every call of either."""
    paths = {module: path for path, module in net.named_modules()}
    results: dict[int, tuple[nn.Module, Tensor, int]] = {}
    feeds: defaultdict[nn.Module, set[nn.Module]] = defaultdict(set)
    fed: defaultdict[nn.Module, set[nn.Module | None]] = defaultdict(set)
    calls: Counter[nn.Module] = Counter()
    uses: Counter[nn.Module] = Counter()

    def produced(layer: nn.Module, _: Any, y: Tensor) -> None:
        # kept, so that no other result can have the same memory
        results[y.untyped_storage().data_ptr()] = (layer, y, y._version)
        calls[layer] += 1

    def received(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = arguments[0]
        layer, y, version = results.get(x.untyped_storage().data_ptr(), (None, x, x._version))
        same = layer is not None and x.numel() == y.numel() and y._version == version
        source = layer if same and _fits(cast(Linear, layer), norm, x) else None
        fed[norm].add(source)
        if source is not None:
            feeds[source].add(norm)
            uses[source] += 1

    norms = {module: received for module in net.modules() if isinstance(module, _NORMS)}
    linear = {module: produced for module in net.modules() if isinstance(module, Linear)}
    with hooked(norms, linear):
        net(example)
    return [
        (paths[layer], paths[norm])
        for norm, sources in fed.items()
        if len(sources) == 1 and (layer := next(iter(sources))) is not None
        if feeds[layer] == {norm} and uses[layer] == calls[layer]
    ]


def _fits(layer: Linear, norm: nn.Module, x: Tensor) -> bool:
    """Whether a channel of `norm`, in evaluation mode, is a feature of `layer`."""
    if getattr(norm, "running_var", None) is None or norm.weight is None:
        return False
    time = 1 if isinstance(norm, BatchNorm) else 0
    if isinstance(layer, nn.Linear) and x.dim() != 2 + time:
        return False
    return layer.weight.shape[0] == norm.running_var.numel()  # type: ignore[union-attr, operator]


def _agree(net: nn.Module, pairs: list[Pair], example: Tensor) -> bool:
    """Whether the answers to `example` stay as they are, computed in float64."""
    try:
        plain = copy.deepcopy(net).double()
        x = example.double()
        before = _tensors(plain(x))
        _fold(plain, pairs)
        after = _tensors(plain(x))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    else:
        if all(
            a.shape == b.shape and torch.allclose(a, b, rtol=AGREEMENT, atol=AGREEMENT)
            for a, b in zip(before, after, strict=True)
        ):
            return True
        why = "its answers to the first input would change"
    warnings.warn(f"no BatchNorm of this network is folded: {why}", stacklevel=4)
    return False


def _tensors(answer: Any) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer.double()]
    if isinstance(answer, dict):
        answer = tuple(answer.values())
    return (
        [t for part in answer for t in _tensors(part)] if isinstance(answer, (tuple, list)) else []
    )


def _fold(net: nn.Module, pairs: list[Pair]) -> None:
    """y = gamma (W x + b - mean) / sqrt(var + eps) + beta as one linear layer."""
    for layer_path, norm_path in pairs:
        layer = _plain(net, cast(Linear, net.get_submodule(layer_path)))
        norm = net.get_submodule(norm_path)
        weight = layer.weight.double()
        bias = layer.bias.double() if layer.bias is not None else weight.new_zeros(len(weight))
        scale, shift = _affine(norm, weight)
        shift = shift + bias * scale
        kind = layer.weight.dtype
        shape = (-1, *[1] * (weight.dim() - 1))
        layer.weight = nn.Parameter((weight * scale.view(shape)).to(kind), requires_grad=False)
        layer.bias = nn.Parameter(shift.to(kind), requires_grad=False)
        _replace(net, norm, nn.Identity())


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in list(net.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                parent._modules[name] = new


def _plain(net: nn.Module, layer: Linear) -> Linear:
    """`layer`, its parametrised weights as they are now. (torch's `remove_parametrizations` takes
    them from every copy of the layer.)"""
    if not parametrize.is_parametrized(layer):
        return layer
    plain = object.__new__(type(layer).__bases__[0])
    plain.__dict__.update(layer.__dict__)
    kept = {name: module for name, module in layer._modules.items() if name != "parametrizations"}
    parametrised = {name: nn.Parameter(getattr(layer, name)) for name in layer.parametrizations}  # type: ignore[union-attr]
    plain.__dict__.update(_modules=kept, _parameters={**layer._parameters, **parametrised})
    _replace(net, layer, plain)
    return plain


def _affine(norm: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset of every channel in evaluation mode, in float64, as the layer itself answers
    to zeros and ones."""
    axes = {nn.BatchNorm2d: (1, 1), nn.BatchNorm3d: (1, 1, 1)}.get(type(norm), ())
    zero = weight.new_zeros(
        (1, 1, len(weight)) if isinstance(norm, BatchNorm) else (1, len(weight), *axes)
    )
    exact = copy.deepcopy(norm).double()
    offset = exact(zero)
    return (exact(zero + 1) - offset).flatten(), offset.flatten()
