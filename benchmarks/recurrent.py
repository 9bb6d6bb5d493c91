"""Layers that hear their own spikes: all time steps in one kernel, against a loop over time.

`Recurrent(LIF, 256)` on `[100, 32, 256]`, and the network of `fs/shd-adlif` with recurrent layers,
700-256-256-20, T = 100, batch 32, on frames of which 2 % are active. The loop is the same network
with hooks that want to see every step.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import spikeloom as sl
from benchmarks.runner import Row
from benchmarks.timing import clock_name, timings
from spikeloom.data.base import DataSpec
from spikeloom.methods.catalog import load_recipe, methods
from spikeloom.nn import Classifier, Recurrent
from spikeloom.run.device import keep_freed_memory

T, BATCH = 100, 32


def measure(rounds: int) -> list[Row]:
    """Rows of both networks: forward, and forward and backward."""
    keep_freed_memory()
    torch.manual_seed(0)
    layer = Recurrent(sl.LIF(v_threshold=1.0), 256)
    rows = _rows("Recurrent(LIF, 256)", layer, 1.1 * torch.randn(T, BATCH, 256), rounds)
    recipe = load_recipe("fs/shd-adlif", ["network.recurrent=true"])
    spec = DataSpec("shd", (700,), tuple(map(str, range(20))), "events")
    network = methods()["fs"].build(recipe.network, spec)
    frames = (torch.rand(T, BATCH, 700) < 0.02).float()
    return rows + _rows("fs/shd-adlif, recurrent", network, frames, rounds)


def _rows(what: str, module: nn.Module, x: Tensor, rounds: int) -> list[Row]:
    loop = copy.deepcopy(module)
    for each in loop.modules():
        if isinstance(each, Recurrent):
            each.neuron.register_forward_hook(lambda *_: None)
    runs: list[Callable[[], object]] = []
    for net in (module, loop):
        runs += [partial(_forward, net, x), partial(_both, net, x)]
    best = [timing.best * 1e3 for timing in timings(runs, rounds, clock_name())]
    names = ("one kernel", "a loop over time")
    return [
        {
            **{"what": what, "T": T, "batch": BATCH, "contender": name},
            **{"forward_ms": round(forward, 2), "both_ms": round(both, 2)},
            "times_loop": round(both / best[3], 3),
        }
        for name, forward, both in zip(names, best[::2], best[1::2], strict=True)
    ]


def _forward(net: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        net(x)


def _both(net: nn.Module, x: Tensor) -> None:
    if isinstance(net, Classifier):
        loss = net.loss(net(x), torch.arange(BATCH) % 20)
    else:
        loss = net(x).square().mean()
    loss.backward()
    net.zero_grad()
