"""Writes peers.npz: what the NIR importers of other libraries make of the same small graphs.

python -m tests.exchange.peer_spikes    # norse, snntorch, sinabs, rockpool, spikingjelly installed

It prints both tables of docs/export.md.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

import spikeloom as sl

T = 60
FILE = Path(__file__).parent / "peers.npz"


@dataclass
class Case:
    """A graph, the seconds of a time step, and the axes of a sample."""

    graph: Any
    dt: float
    shape: tuple[int, ...] = (4,)

    def inputs(self) -> Tensor:
        drawn = np.random.default_rng(2).random((T, 1, *self.shape)) < 0.4
        return torch.from_numpy(drawn.astype(np.float32))


def affine(outputs: int, inputs: int, seed: int) -> Any:
    """Sinabs drops a Linear, and takes an Affine."""
    drawn = np.random.default_rng(seed).uniform(-0.2, 1.0, (outputs, inputs))
    return nir.Affine(drawn.astype(np.float32), np.zeros(outputs, np.float32))


def lif(dt: float, shape: Sequence[int] = (5,), *, r: float = 1.0, threshold: float = 0.3) -> Any:
    """tau of 10 steps; a threshold for an input that counts whole goes with r."""
    values = {"tau": 10 * dt, "r": r, "v_leak": 0.0, "v_threshold": threshold * r, "v_reset": 0.0}
    return nir.LIF(**{key: np.full(shape, value, np.float32) for key, value in values.items()})


def integrator(dt: float, threshold: float = 2.0) -> Any:
    values = {"r": 1 / dt, "v_threshold": threshold, "v_reset": 0.0}
    return nir.IF(**{key: np.full(5, value, np.float32) for key, value in values.items()})


def cuba(dt: float, *, whole: bool) -> Any:
    """tau of 5 and 10 steps; `whole`: what comes in is added as it is, not by shares of dt."""
    values = {"tau_syn": 5 * dt, "tau_mem": 10 * dt, "v_leak": 0.0, "v_reset": 0.0}
    values |= {"r": 10.0, "w_in": 5.0} if whole else {"r": 1.0, "w_in": 1.0}
    values["v_threshold"] = 15.0 if whole else 0.3
    return nir.CubaLIF(**{key: np.full(5, value, np.float32) for key, value in values.items()})


def chain(*nodes: Any) -> Any:
    return nir.NIRGraph.from_list(*nodes)


def wired(shape: Sequence[int], nodes: dict[str, Any], *edges: tuple[str, str]) -> Any:
    ends = {
        "input": nir.Input({"input": np.array(shape)}),
        "output": nir.Output({"output": np.array([5])}),
    }
    return nir.NIRGraph(ends | nodes, list(edges), type_check=False)


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for dt in (1e-3, 1e-4):
        ms = f"dt {1e3 * dt:g} ms"
        found[f"LIF, {ms}"] = Case(chain(affine(5, 4, 0), lif(dt)), dt)
        found[f"LIF, r = tau / dt, {ms}"] = Case(chain(affine(5, 4, 0), lif(dt, r=10)), dt)
        deep = (affine(5, 4, 0), lif(dt), affine(3, 5, 1), lif(dt, (3,)))
        found[f"LIF, Affine, LIF, {ms}"] = Case(chain(*deep), dt)
        found[f"IF, {ms}"] = Case(chain(affine(5, 4, 0), integrator(dt)), dt)
        found[f"CubaLIF, {ms}"] = Case(chain(affine(5, 4, 0), cuba(dt, whole=False)), dt)
        whole = chain(affine(5, 4, 0), cuba(dt, whole=True))
        found[f"CubaLIF, r and w_in = tau / dt, {ms}"] = Case(whole, dt)
    dt = 1e-4
    kernel = np.random.default_rng(3).uniform(-0.2, 1.0, (2, 1, 3, 3)).astype(np.float32)
    size, bias = np.array([6, 6]), np.zeros(2, np.float32)
    conv = nir.Conv2d(size, kernel, 1, 1, 1, 1, bias)
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    flat = nir.Flatten({"input": np.array([2, 3, 3])}, 0, -1)
    nodes = {"conv": conv, "first": lif(dt, (2, 6, 6)), "pool": pool, "flat": flat}
    nodes |= {"affine": affine(5, 18, 4), "last": lif(dt, threshold=0.1)}
    found["Conv2d, LIF, AvgPool2d, Flatten, Affine, LIF, dt 0.1 ms"] = Case(
        wired((1, 6, 6), nodes, *pairwise(["input", *nodes, "output"])), dt, (1, 6, 6)
    )
    flat = nir.Flatten({"input": np.array([2, 6, 6])}, 0, -1)
    nodes = {"conv": conv, "first": lif(dt, (2, 6, 6)), "flat": flat}
    nodes |= {"affine": affine(5, 72, 4), "last": lif(dt)}
    found["Conv2d, LIF, Flatten, Affine, LIF, dt 0.1 ms"] = Case(
        wired((1, 6, 6), nodes, *pairwise(["input", *nodes, "output"])), dt, (1, 6, 6)
    )
    back = nir.Linear((affine(5, 5, 5).weight - 0.4).astype(np.float32))
    nodes = {"affine": affine(5, 4, 0), "lif.lif": lif(dt), "lif.w_rec": back}
    edges = [("input", "affine"), ("affine", "lif.lif"), ("lif.lif", "output")]
    edges += [("lif.lif", "lif.w_rec"), ("lif.w_rec", "lif.lif")]
    found["LIF with a loop, dt 0.1 ms"] = Case(wired((4,), nodes, *edges), dt)
    nodes = {"affine": affine(5, 4, 0), "first": lif(dt), "middle": affine(5, 5, 1)}
    nodes |= {"second": lif(dt), "last": affine(5, 5, 6), "third": lif(dt)}
    edges = [("input", "affine"), ("affine", "first"), ("first", "middle"), ("middle", "second")]
    edges += [("first", "last"), ("second", "last"), ("last", "third"), ("third", "output")]
    found["residual: LIF + LIF(Affine), dt 0.1 ms"] = Case(wired((4,), nodes, *edges), dt)
    half = nir.Affine(np.eye(5, 4, dtype=np.float32) / 2, np.zeros(5, np.float32))
    below = float(np.nextafter(np.float32(2), np.float32(0)))
    found["IF whose potential meets the threshold, dt 1 s"] = Case(
        chain(half, integrator(1.0, below)), 1.0
    )
    torch.manual_seed(0)
    net = sl.nn.Sequential(
        torch.nn.Linear(4, 5), sl.PLIF(3.3, v_threshold=0.2), torch.nn.Linear(5, 5)
    )
    net.append(sl.LIF(2.0, v_threshold=0.1))
    found["exported by to_nir: Linear, PLIF, Linear, LIF, dt 0.1 ms"] = Case(
        sl.to_nir(net, (4,), dt=dt), dt
    )
    return found


@dataclass
class Smallest:
    """A graph of one neuron that gets a 1 at each of 6 steps, on which a peer answers otherwise."""

    peer: str
    text: str
    graph: Any
    dt: float
    why: str
    shape: tuple[int, ...] = (1,)


def smallest() -> list[Smallest]:
    def one(kind: Any, **values: float) -> Any:
        return kind(**{key: np.full(1, value, np.float32) for key, value in values.items()})

    weight = nir.Affine(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    plain = {"v_leak": 0.0, "v_reset": 0.0}
    reset = {"v_reset": 0.0}
    synapse = {"tau_syn": 2.0, "tau_mem": 2.0, "r": 1.0, "w_in": 2.0, "v_threshold": 0.8}
    leaky = {"r": 2.0, "v_threshold": 1.4, **plain}
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    pooled = {"pool": pool, "if": nir.IF(*(np.full((1, 1, 1), v, np.float32) for v in (1, 1.4, 0)))}
    loop = {"affine": weight, "lif.lif": one(nir.LIF, tau=2e-4, **leaky)}
    loop["lif.w_rec"] = nir.Linear(np.zeros((1, 1), np.float32))
    heard = {"affine": weight, "lif.lif": one(nir.LIF, tau=2.0, r=1.0, v_threshold=0.7, **plain)}
    heard["lif.w_rec"] = nir.Linear(np.full((1, 1), 0.25, np.float32))
    ends = [("input", "affine"), ("affine", "lif.lif"), ("lif.lif", "output")]
    back = [("lif.lif", "lif.w_rec"), ("lif.w_rec", "lif.lif")]
    return [
        Smallest(
            *("norse", "LIF, tau = 2 s, r = 2, v_threshold = 1.4, dt 1 s"),
            *(chain(weight, one(nir.LIF, tau=2.0, **leaky)), 1.0),
            "r is taken for 1, with a warning",
        ),
        Smallest(
            *("norse", "AvgPool2d of 2 x 2, IF, r = 1, v_threshold = 1.4, dt 1 s"),
            wired((1, 2, 2), pooled, ("input", "pool"), ("pool", "if"), ("if", "output")),
            *(1.0, "has no AvgPool2d, and leaves it out without a word"),
            (1, 2, 2),
        ),
        Smallest(
            *(
                "norse",
                "LIF with a loop of weight 0.25, tau = 2 s, r = 1, v_threshold = 0.7, dt 1 s",
            ),
            *(wired((1,), heard, *ends, *back), 1.0),
            "the answer is that of the loop's weights, not of the neurons",
        ),
        Smallest(
            *("snntorch", "LIF, tau = 2 ms, r = 2, v_threshold = 1.4, dt 1 ms"),
            *(chain(weight, one(nir.LIF, tau=2e-3, **leaky)), 1e-3),
            "dt is 0.1 ms, whatever the graph was made with",
        ),
        Smallest(
            *("snntorch", "IF, r = 1, v_threshold = 2.9, dt 1 s"),
            *(chain(weight, one(nir.IF, r=1.0, v_threshold=2.9, **reset)), 1.0),
            "an IF becomes a Leaky with beta = 0.9; with r other than 1 it is refused",
        ),
        Smallest(
            *("snntorch", "LIF with a loop of weight 0, tau = 0.2 ms, r = 2, dt 0.1 ms"),
            *(wired((1,), loop, *ends, *back), 1e-4),
            "the input is led into the loop's weights, not into the neurons",
        ),
        Smallest(
            *("spikingjelly", "IF, r = 1, v_threshold = 1, dt 1 s"),
            *(chain(weight, one(nir.IF, r=1.0, v_threshold=1.0, **reset)), 1.0),
            "fires at >=, NIR at > (what `to_nir` writes is the same for both)",
        ),
        Smallest(
            *("sinabs", "IF, r = 1, v_threshold = 0.8, dt 1 s"),
            *(chain(weight, one(nir.IF, r=1.0, v_threshold=0.8, **reset)), 1.0),
            "resets by subtraction, and fires more than once a step",
        ),
        Smallest(
            *("sinabs", "LIF, tau = 2 s, r = 2, v_threshold = 1.55, dt 1 s"),
            *(chain(weight, one(nir.LIF, tau=2.0, **{**leaky, "v_threshold": 1.55})), 1.0),
            "decays by exp(-1 / tau), tau in steps; a forward Euler step by 1 - dt / tau",
        ),
        Smallest(
            *("rockpool", "CubaLIF, tau_syn = tau_mem = 2 s, r = 1, w_in = 2, dt 1 s"),
            *(chain(weight, one(nir.CubaLIF, **synapse, **plain)), 1.0),
            "w_in is not read, decays are exponential with dt = tau_mem / (1 + r), reset subtracts",
        ),
    ]


def stepped(module: Any, x: Tensor) -> Tensor:
    """A module that takes one step and its state."""
    state, spikes = None, []
    for frame in x:
        y, state = module(frame, state)
        spikes.append(y[0] if isinstance(y, tuple) else y)
    return torch.stack(spikes).reshape(len(x), 1, -1)


def ours(graph: Any, dt: float, x: Tensor) -> Tensor:
    net = sl.from_nir(graph, dt=dt)
    for layer in net.modules():
        if isinstance(layer, sl.Neuron):
            layer.backend = "eager"
    with torch.no_grad():
        return net(x)


def norse(graph: Any, dt: float, x: Tensor) -> Tensor:
    return stepped(import_module("norse.torch").from_nir(graph, dt=dt), x)


def snntorch(graph: Any, dt: float, x: Tensor) -> Tensor:
    return stepped(import_module("snntorch.import_nir").import_from_nir(graph), x)


def spikingjelly(graph: Any, dt: float, x: Tensor) -> Tensor:
    exchange = import_module("spikingjelly.activation_based.nir_exchange")
    return stepped(exchange.import_from_nir(graph, dt=dt), x)


def sinabs(graph: Any, dt: float, x: Tensor) -> Tensor:
    module = import_module("sinabs.nir").from_nir(graph, batch_size=1)
    y = module(x.flatten(0, 1))
    return (y[0] if isinstance(y, tuple) else y).reshape(len(x), 1, -1)


def rockpool(graph: Any, dt: float, x: Tensor) -> Tensor:
    module = import_module("rockpool.nn.modules.torch.nir").from_nir(graph)
    return module(x.transpose(0, 1))[0].transpose(0, 1)


PEERS: dict[str, Callable[[Any, float, Tensor], Tensor]] = {
    "norse": norse,
    "snntorch": snntorch,
    "spikingjelly": spikingjelly,
    "sinabs": sinabs,
    "rockpool": rockpool,
}


def answer(peer: str, graph: Any, dt: float, x: Tensor) -> np.ndarray | str:
    """The spikes, or in a word why there is no answer."""
    try:
        with torch.no_grad(), redirect_stdout(StringIO()):
            return PEERS[peer](graph, dt, x).detach().numpy()
    except ImportError:
        return "not installed"
    except Exception as error:
        print(f"# {peer}: {type(error).__name__}: {str(error)[:150]}")
        return "refused"


def _shown(spikes: np.ndarray | str) -> str:
    return spikes if isinstance(spikes, str) else " ".join(f"{s:g}" for s in spikes.ravel())


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    arrays: dict[str, np.ndarray] = {}
    heads = []
    for peer in PEERS:
        try:
            heads.append(f"{peer} {version(peer)}")
        except PackageNotFoundError:
            heads.append(peer)
    rows = []
    for name in cases():
        row = [name]
        for peer in ("", *PEERS):  # a graph of its own for each: some importers change theirs
            case = cases()[name]
            if not peer:
                expected = ours(case.graph, case.dt, case.inputs()).numpy()
                row.append(str(int(expected.sum())))
                continue
            spikes = answer(peer, case.graph, case.dt, case.inputs())
            if isinstance(spikes, str):
                row.append(spikes)
                continue
            arrays[f"{peer}: {name}"] = spikes.astype(np.float32)
            equal = np.array_equal(spikes, expected)
            whole = (spikes == spikes.round()).all() and (spikes >= 0).all()
            row.append("equal" if equal else f"{spikes.sum():g}" if whole else "no spikes")
        rows.append(row)
    print("\n".join(f"| {' | '.join(row)} |" for row in [["Affine, then", "ours", *heads], *rows]))
    for at, case in enumerate(smallest()):
        x = torch.ones(6, 1, *case.shape)
        mine = _shown(ours(case.graph, case.dt, x).numpy())
        spikes = answer(case.peer, smallest()[at].graph, case.dt, x)
        print(f"| {case.peer} | {case.text} | {mine} | {_shown(spikes)} | {case.why} |")
    np.savez_compressed(FILE, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
