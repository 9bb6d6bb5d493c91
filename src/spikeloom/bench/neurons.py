"""Neuron kernels: forward and backward of one layer, in copies of its input.

The unit is one `out.copy_(x)` of the input by the same threads in the same process: a layer that
costs 5 copies takes as long as reading and writing its input five times.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikeloom.bench.peers import PEERS, Network
from spikeloom.bench.timing import best_of
from spikeloom.neurons import GLIF, IF, LIF, PLIF, AdLIF, ATan, CuLIF, Neuron
from spikeloom.training.allocator import keep_freed_memory

NEURONS: dict[str, Callable[[int], Neuron]] = {
    "IF": lambda channels: IF(),
    "LIF": lambda channels: LIF(),
    "LIF undecayed": lambda channels: LIF(decay_input=False, surrogate=ATan(strict=True)),
    "PLIF": lambda channels: PLIF(),
    "PLIF per channel": lambda channels: PLIF(shape=(channels,)),
    "GLIF": lambda channels: GLIF(channels),
    "CuLIF": lambda channels: CuLIF(5.0, 5.0),
    "AdLIF": lambda channels: AdLIF(5.0, shape=(channels,)),
}
"""Each neuron by name, made for a number of channels."""

SHAPES: dict[str, tuple[int, ...]] = {
    "conv 32x32": (4, 16, 64, 32, 32),
    "conv 14x14": (8, 16, 128, 14, 14),
    "conv 7x7": (4, 32, 512, 7, 7),
    "fc, long": (100, 64, 256),
    "fc": (16, 256, 1024),
}
"""`[T, B, C, ...]` by name: the layers of the published networks, and a long sequence."""

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """One layer to be timed."""

    neuron: str
    shape: str
    dtype: str = "float32"
    layout: Literal["contiguous", "channels_last", "constant"] = "contiguous"

    def input(self) -> Tensor:
        """A current of which about a fifth makes a PLIF with tau 2 fire."""
        shape = SHAPES[self.shape]
        generator = torch.Generator().manual_seed(7)
        x = torch.randn(shape, generator=generator) * 1.5
        x = x.to(DTYPES[self.dtype])
        if self.layout == "channels_last" and x.dim() == 5:
            x = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        if self.layout == "constant":
            x = x[0].expand(shape)
        return x


def default_cases() -> Iterator[Case]:
    for neuron in NEURONS:
        for shape in SHAPES:
            yield Case(neuron, shape)
    yield Case("PLIF", "conv 14x14", "bfloat16")
    yield Case("PLIF per channel", "conv 14x14", layout="channels_last")
    yield Case("PLIF", "conv 14x14", layout="constant")


def measure(case: Case, rounds: int, compile_eager: bool) -> list[dict[str, object]]:
    """A row per contender: forward without gradient, and forward with backward, in copies."""
    keep_freed_memory()  # as in training, for every contender
    x = case.input()
    neuron = NEURONS[case.neuron](x.shape[2])
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(8)).to(x.dtype)
    contenders = dict(_contenders(neuron, compile_eager))
    reference = _results(contenders["eager"], x, gradient)
    target = torch.empty(x.shape, dtype=x.dtype)
    rows: list[dict[str, object]] = []
    fair: dict[str, Network] = {}
    for name, network in contenders.items():
        disagreement = _disagreement(_results(network, x, gradient), reference, x.dtype)
        if disagreement is None:
            fair[name] = network
        else:
            rows.append(_row(case, x, name) | {"note": f"not timed: {disagreement}"})
    copy_seconds, *seconds = best_of(
        [
            lambda: target.copy_(x),
            *(_forward(network, x) for network in fair.values()),
            *(_both(network, x, gradient) for network in fair.values()),
        ],
        rounds,
    )
    count = len(fair)
    for name, forward, both in zip(fair, seconds[:count], seconds[count:], strict=True):
        rows.append(
            _row(case, x, name)
            | {
                "copy_ns_per_element": round(copy_seconds / x.numel() * 1e9, 4),
                "forward_copies": round(forward / copy_seconds, 2),
                "training_copies": round(both / copy_seconds, 2),
                "training_ns_per_element": round(both / x.numel() * 1e9, 3),
            }
        )
    return rows


def _row(case: Case, x: Tensor, contender: str) -> dict[str, object]:
    return {
        "neuron": case.neuron,
        "shape": "x".join(map(str, x.shape)),
        "dtype": case.dtype,
        "layout": case.layout,
        "contender": contender,
    }


def _contenders(neuron: Neuron, compile_eager: bool) -> Iterator[tuple[str, Network]]:
    compiled, eager = copy.deepcopy(neuron), copy.deepcopy(neuron)
    compiled.backend, eager.backend = "cpu", "eager"
    yield "spikeloom", compiled
    yield "eager", eager
    if compile_eager:
        yield "torch.compile", torch.compile(copy.deepcopy(eager))
    for name, build in PEERS.items():
        if (peer := build(neuron)) is not None:
            yield name, peer[0]


def _results(network: Network, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x[0].clone() if x.stride(0) == 0 else x.clone()
    leaf.requires_grad_()
    spikes = network(leaf.expand(x.shape))
    spikes.backward(gradient)
    assert leaf.grad is not None
    return spikes.detach(), leaf.grad


def _disagreement(
    got: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], dtype: torch.dtype
) -> str | None:
    """Why a contender does not compute the reference's function, or None."""
    differing = (got[0] != wanted[0]).float().mean().item()
    if differing > 1e-5:
        return f"{differing:.2%} of its spikes differ from the reference"
    # a spike within rounding of the threshold changes its neuron's gradient: those are left out
    same = (got[0] == wanted[0]).all(0).expand(wanted[1].shape)
    error = ((got[1] - wanted[1]) * same).abs().max() / wanted[1].abs().max()
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    if not error < tolerance:
        return f"its gradient is off by {error:.1e} of the largest"
    return None


def _forward(network: Network, x: Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            network(x)

    return run


def _both(network: Network, x: Tensor, gradient: Tensor) -> Callable[[], object]:
    leaf = (x[0] if x.stride(0) == 0 else x).clone().requires_grad_()
    current = leaf.expand(x.shape)

    def run() -> None:
        leaf.grad = None
        network(current).backward(gradient)

    return run
