"""Writes peers.npz: what the NIR importers of other libraries make of the same small graphs.

python tests/exchange/peer_spikes.py        # with norse, snntorch, sinabs, rockpool installed
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

T = 60
FILE = Path(__file__).parent / "peers.npz"


def graphs() -> dict[str, tuple[Any, float]]:
    """Graphs and the seconds of a time step, by name: a linear layer and one of neurons; deep."""
    weights = np.random.default_rng(0).uniform(-0.2, 1.0, (5, 4)).astype(np.float32)
    second = np.random.default_rng(1).uniform(-0.2, 1.0, (3, 5)).astype(np.float32)

    def linear(matrix: np.ndarray) -> Any:  # sinabs drops a Linear, and takes an Affine
        return nir.Affine(matrix, np.zeros(len(matrix), np.float32))

    def constant(value: float, size: int = 5) -> np.ndarray:
        return np.full(size, value, np.float32)

    def lif(dt: float, size: int = 5) -> Any:
        return nir.LIF(
            tau=constant(10 * dt, size),
            r=constant(1.0, size),
            v_leak=constant(0.0, size),
            v_threshold=constant(0.3, size),
            v_reset=constant(0.0, size),
        )

    def integrator(dt: float) -> Any:
        return nir.IF(r=constant(1 / dt), v_threshold=constant(2.0), v_reset=constant(0.0))

    def cuba(dt: float) -> Any:
        return nir.CubaLIF(
            tau_syn=constant(5 * dt),
            tau_mem=constant(10 * dt),
            r=constant(1.0),
            v_leak=constant(0.0),
            v_threshold=constant(0.3),
            v_reset=constant(0.0),
            w_in=constant(1.0),
        )

    made = {}
    for dt in (1e-3, 1e-4):
        for name, neuron in {"LIF": lif(dt), "IF": integrator(dt), "CubaLIF": cuba(dt)}.items():
            chain = (linear(weights), neuron)
            made[f"{name} {dt:g}"] = (nir.NIRGraph.from_list(*chain), dt)
        deep = (linear(weights), lif(dt), linear(second), lif(dt, 3))
        made[f"deep {dt:g}"] = (nir.NIRGraph.from_list(*deep), dt)
    return made


def inputs() -> Tensor:
    drawn = np.random.default_rng(2).random((T, 1, 4)) < 0.4
    return torch.from_numpy(drawn.astype(np.float32))


def norse(graph: Any, dt: float, x: Tensor) -> Tensor:
    module = import_module("norse.torch").from_nir(graph, dt=dt)
    state, spikes = None, []
    for frame in x:
        y, state = module(frame, state)
        spikes.append(y)
    return torch.stack(spikes)


def snntorch(graph: Any, dt: float, x: Tensor) -> Tensor:
    module = import_module("snntorch.import_nir").import_from_nir(graph)
    state, spikes = None, []
    for frame in x:
        y, state = module(frame, state)
        spikes.append(y[0] if isinstance(y, tuple) else y)
    return torch.stack(spikes)


def sinabs(graph: Any, dt: float, x: Tensor) -> Tensor:
    module = import_module("sinabs.nir").from_nir(graph, batch_size=1)
    y = module(x.flatten(0, 1))
    return (y[0] if isinstance(y, tuple) else y).reshape(len(x), 1, -1)


def rockpool(graph: Any, dt: float, x: Tensor) -> Tensor:
    module = import_module("rockpool.nn.modules.torch.nir").from_nir(graph)
    y = module(x.transpose(0, 1))[0]
    return y.transpose(0, 1)


PEERS: dict[str, Callable[[Any, float, Tensor], Tensor]] = {
    "norse": norse,
    "snntorch": snntorch,
    "sinabs": sinabs,
    "rockpool": rockpool,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    arrays = {}
    for peer, run in PEERS.items():
        for name, (graph, dt) in graphs().items():
            try:
                with torch.no_grad():
                    spikes = run(graph, dt, inputs())
            except Exception as error:
                print(peer, name, f"{type(error).__name__}: {str(error)[:120]}")
                continue
            arrays[f"{peer} {name}"] = spikes.numpy().astype(np.uint8)
            print(peer, name, int(spikes.sum()))
    np.savez_compressed(FILE, **arrays)  # type: ignore[arg-type]
