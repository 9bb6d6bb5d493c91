"""Answers from a trained network: spiking, T steps, against the real ANN, one pass without time.

The network of `plif/mnist` is trained for some steps, so that its neurons fire at the rates of a
trained one. Three contenders answer the same images in evaluation mode, without a graph:

    network     as it was trained
    inference   `sl.inference(network)`
    ANN         the same layers with ReLU in place of the neurons, one pass without time,
                BatchNorm folded too

and a chain Linear 2048-2048, LIF is streamed one time step of one sample at a time, with changing
inputs of which 5 % are active, against the same with torch's dense product.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import spikeloom as sl
from benchmarks.runner import Row
from benchmarks.synapses import prepared, trained_network
from benchmarks.timing import clock_name, timings
from benchmarks.training import replace_neurons
from spikeloom import data
from spikeloom.methods.plif.networks import PlifImageClassifier

FEATURES, RATE, FRAMES = 2048, 0.05, 50


def measure(steps: int, rounds: int, kept: Path | None) -> list[Row]:
    """A row for each batch size and contender, then those of the streaming step. `kept`: where the
    trained weights are kept, and taken from if they are there."""
    network, _, loaded = trained_network("plif/mnist", 16, steps, kept)
    assert isinstance(network, PlifImageClassifier)
    network.eval()
    images = prepared(next(data.Loader(loaded.test, 64).epoch(0)).inputs)
    with torch.no_grad():
        return [*_network(network, images, rounds), *_streaming(rounds)]


def _network(network: PlifImageClassifier, images: Tensor, rounds: int) -> list[Row]:
    fast = sl.inference(network, images[:2])
    twin = copy.deepcopy(network)
    replace_neurons(twin, lambda neuron: nn.ReLU())
    twin.time_steps = twin.static_conv.time_steps = 1
    with sl.sparse("off"):  # an ANN's inputs are dense
        ann = sl.inference(twin, images[:2])
    same = fast(images).scores.argmax(1) == network(images).scores.argmax(1)
    rows: list[Row] = []
    for batch in (64, 1):
        x = images[:batch]

        def dense(x: Tensor = x) -> object:
            with sl.sparse("off"):
                return ann(x)

        runs: dict[str, Callable[[], object]] = {
            "network": lambda x=x: network(x),
            "inference": lambda x=x: fast(x),
            "ANN, one pass": dense,
        }
        found = timings(list(runs.values()), rounds, clock_name())
        seconds = [timing.best for timing in found]
        for name, time in zip(runs, seconds, strict=True):
            row: Row = {"what": "plif/mnist", "batch": batch, "contender": name}
            row |= {"ms": round(time * 1e3, 3), "of_ann": round(time / seconds[-1], 2)}
            if name == "inference":
                row["note"] = f"{same.double().mean():.1%} predictions as the network's"
            rows.append(row)
    return rows


def _streaming(rounds: int) -> list[Row]:
    """A step of one of `FRAMES` inputs after another: the rows of the weights that one of them
    asks for are not in the cache because the last one asked for the same."""
    net = sl.nn.Sequential(nn.Linear(FEATURES, FEATURES), sl.LIF(v_threshold=0.2))
    frames = [(torch.rand(1, 1, FEATURES) < RATE).float() for _ in range(FRAMES)]
    fast = sl.inference(net, frames[0])
    layer = net[0]
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    _, state = net(frames[0], None)
    runs: dict[str, Callable[[Tensor], object]] = {
        "inference": lambda x: fast(x, state),
        "dense": lambda x: _dense_step(net, x, state),
        "dense, synapses alone": lambda x: nn.functional.linear(x[0], weight, bias),
    }

    def all_frames(run: Callable[[Tensor], object]) -> None:
        for frame in frames:
            run(frame)

    found = timings([partial(all_frames, run) for run in runs.values()], rounds, clock_name())
    seconds = {name: timing.best / FRAMES for name, timing in zip(runs, found, strict=True)}
    rows: list[Row] = []
    for name, time in seconds.items():
        row: Row = {"what": "streaming step", "batch": 1, "contender": name}
        row |= {"ms": round(time * 1e3, 4), "of_dense": round(time / seconds["dense"], 3)}
        rows.append(row)
    return rows


def _dense_step(net: nn.Module, x: Tensor, state: object) -> object:
    with sl.sparse("off"):
        return net(x, state)
