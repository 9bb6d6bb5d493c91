"""Memory: what a layer of neurons keeps for its backward pass, and the peak of a training step.

A layer is asked what storages live on because of it between forward and backward: the input that it
is given and the output that it makes are let go by everyone else first. Counted are tensors in the
graph, on its nodes, and in the layer. What a network keeps anyway (a convolution its input, which
are the spikes) is not the layer's.
"""

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.peers import PEERS, Network
from spikeloom.analysis import agreement
from spikeloom.analysis.agreement import with_backend
from spikeloom.components.optimizers import make_optimizer
from spikeloom.data.base import DataSpec
from spikeloom.methods import catalog
from spikeloom.methods.dsr.representation import DsrIF, DsrLIF, Represented
from spikeloom.neurons import Neuron

NEURONS: dict[str, Callable[[int], Neuron]] = {
    **{name: agreement.NEURONS[name] for name in ("LIF", "PLIF", "GLIF")},
    "DSR IF": lambda channels: DsrIF(2.0),
    "DSR LIF": lambda channels: DsrLIF(0.1),
}
"""Neurons by name, made for a number of channels."""

TIME_STEPS = (5, 10, 20)
LAYER = (4, 16, 16, 16)
"""`[B, C, H, W]` of the layer: enough neurons that constants of the layer do not show."""

STEP_RECIPE = "ide/mnist-f64c5"
STEP_TIME_STEPS = (5, 30, 100, 300)
STEP_BATCH = 16

_M_MMAP_THRESHOLD = -3
_CLEAR_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def measure() -> list[dict[str, object]]:
    """All rows: layers, then training steps."""
    return [*measure_layers(), *measure_steps()]


def measure_layers(
    names: tuple[str, ...] | None = None, time_steps: tuple[int, ...] | None = None
) -> list[dict[str, object]]:
    """A row per library, neuron, and T: bytes kept per neuron and sample, float32.

    `names` and `time_steps`: all of `NEURONS` and `TIME_STEPS` if left out. A library whose spikes
    or gradient differ from the eager neuron's is not measured; its row says so.
    """
    rows: list[dict[str, object]] = []
    for name in names or tuple(NEURONS):
        for T in TIME_STEPS if time_steps is None else time_steps:
            neuron = NEURONS[name](LAYER[1])
            x = torch.randn(T, *LAYER, generator=torch.Generator().manual_seed(7)) * 1.5
            reference = _results(with_backend(neuron, "eager"), x)
            for library, network in _contenders(neuron):
                row: dict[str, object] = {"what": name, "library": library, "T": T}
                if all(map(_close, _results(network, x), reference)):
                    row["bytes_per_neuron"] = round(kept_bytes(network, x) / x[0].numel(), 2)
                else:
                    row["note"] = "not measured: computes something else"
                rows.append(row)
    return rows


def kept_bytes(network: Network, x: Tensor) -> int:
    """Bytes of the storages that live between forward and backward because of `network`."""
    leaf = x.clone().requires_grad_()
    made: dict[int, tuple[StorageWeakRef, int]] = {}
    with _Storages(made):
        current = leaf * 1.0
        spikes = network(current)
        graph = spikes.grad_fn
        del current, spikes
    assert graph is not None
    return sum(size for reference, size in made.values() if not reference.expired())


class _Storages(TorchDispatchMode):
    """Notes every storage that an operation answers."""

    def __init__(self, made: dict[int, tuple[StorageWeakRef, int]]) -> None:
        super().__init__()
        self.made = made

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        answer = func(*args, **(kwargs or {}))
        for one in answer if isinstance(answer, (tuple, list)) else (answer,):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                reference = StorageWeakRef(storage)
                self.made[reference.cdata] = (reference, storage.nbytes())
        return answer


class _WholeInput(torch.autograd.Function):
    """The representation of DSR as the published code differentiates it: the input is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, neuron: Represented) -> Tensor:
        ctx.save_for_backward(x)
        ctx.neuron = neuron
        return neuron.run(x).spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        neuron, (x,), g = ctx.neuron, ctx.saved_tensors, grads[0]
        weights = x.new_tensor(neuron.weights(len(x)))
        mean = torch.tensordot(weights, x, 1)
        total = torch.tensordot(weights * len(x), g, 1)
        passes = neuron.sides(mean, neuron.threshold) & 1
        return (total * passes * (neuron.slope / len(x))).expand_as(x), None


def _contenders(neuron: Neuron) -> Iterator[tuple[str, Network]]:
    yield "spikeloom", with_backend(neuron, "auto")
    yield "eager", with_backend(neuron, "eager")
    if isinstance(neuron, Represented):
        yield "published way", lambda x: _WholeInput.apply(x, neuron)
    for name, build in PEERS.items():
        if (peer := build(neuron)) is not None:
            yield name, peer[0]


def _results(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    spikes = network(leaf)
    spikes.backward(torch.randn(x.shape, generator=torch.Generator().manual_seed(8)))
    assert leaf.grad is not None
    return spikes.detach(), leaf.grad


def _close(got: Tensor, wanted: Tensor) -> bool:
    """Up to the few neurons that rounding moves over a threshold or an edge."""
    return ((got - wanted).abs() > 1e-4).float().mean().item() < 1e-4


def measure_steps(
    recipe: str = STEP_RECIPE,
    time_steps: tuple[int, ...] | None = None,
    batch: int = STEP_BATCH,
    shape: tuple[int, ...] = (1, 28, 28),
) -> list[dict[str, object]]:
    """A row per T: the most memory of a process during one training step on made images.

    Each T has a process of its own. Megabytes above the same process before the step, with the
    network and the optimizer built, a step of one sample done, and the libraries loaded.
    """
    rows: list[dict[str, object]] = []
    for T in STEP_TIME_STEPS if time_steps is None else time_steps:
        row: dict[str, object] = {"what": f"training step of {recipe}, batch {batch}", "T": T}
        if _CLEAR_PEAK.exists() and hasattr(ctypes.CDLL(None), "mallopt"):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                kilobytes = process.submit(_peak_of_step, recipe, T, batch, shape).result()
            row |= {"library": "spikeloom", "peak_megabytes": round(kilobytes / 1024, 1)}
        else:
            row["note"] = "not measured: needs Linux with glibc"
        rows.append(row)
    return rows


def _peak_of_step(name: str, T: int, batch: int, shape: tuple[int, ...]) -> int:
    """Kilobytes that a training step takes at most, above what the process holds before it."""
    torch.set_num_threads(1)
    # Large blocks go back when they are freed: what the process holds is then what is in use.
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    recipe = catalog.load_recipe(name, [f"T={T}"])
    spec = DataSpec("made images", shape, tuple(map(str, range(10))))
    network = catalog.methods()[recipe.method].build(recipe.network, spec)
    optimizer = make_optimizer(recipe.optimizer, network.parameter_groups())
    network.train()

    def step(size: int) -> None:
        inputs = torch.randn(size, *shape, generator=torch.Generator().manual_seed(1))
        loss = network.loss(network(inputs), torch.arange(size) % 10)
        loss.backward()
        network.before_step()
        optimizer.step()
        network.after_step()
        optimizer.zero_grad(set_to_none=True)

    step(2)
    _CLEAR_PEAK.write_text("5")
    before = _status("VmRSS")
    step(batch)
    return _status("VmHWM") - before


def _status(key: str) -> int:
    """A figure of this process in kilobytes: VmRSS, what it holds; VmHWM, the most it held."""
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields[key].split()[0])
