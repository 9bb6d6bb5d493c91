"""Steps a second on one process and on two, and a model of many GPUs.

Measured here, one thread each: a training step alone; two at the same time that know nothing of
each other (what the machine's caches and memory cost); two that train together; and the all-reduce
of a buffer as large as the gradients. The model adds what training together adds.

The model, for n processes on nodes of g GPUs, m = n / g nodes, a batch of B on each:

    t_compute = B (6 M / (F u) + b E / W)      M multiply-accumulates, E values read and written
    t_reduce  = 2 (k - 1) / k G / W_in + 2 (m - 1) / m G / W_out + buckets latency,   k = min(n, g)
    t_exposed = max(t_reduce - (2/3) t_compute (1 - 1/buckets), t_reduce / buckets)
    t_sync    = (3 + 2 L) latency              small collectives: the agreement before a step, the
                                               buffers, which parameters were used; and, with
                                               BatchNorm over all processes, L layers, both ways
    t_input   = k B / (cores r)                on each node, by its cores, beside the step
    t_step    = max(t_compute + t_exposed + t_sync, t_input)

G is 4 bytes a parameter, in buckets of 25 MB that are reduced while the backward pass (two thirds
of the arithmetic) goes on; only the last one cannot be hidden.
"""

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikeloom.config.schema import Recipe
from spikeloom.data.spec import DataSpec
from spikeloom.methods import catalog
from spikeloom.neurons import Neuron
from spikeloom.nn import BatchNorm, TdBatchNorm
from spikeloom.seeding import stream

BUCKET = 25 << 20
NEURON_PASSES = 5  # forward: read, write; backward: read the input and the gradient, write
_SMALL = 3  # small collectives of a step
NORM_PASSES = 8  # forward: read twice, write; backward: read two tensors twice, write


@dataclass(frozen=True)
class Hardware:
    """What the model assumes of a machine; seconds, bytes, operations a second.

    `peak` in the arithmetic of the training, of which `utilisation` is reached in convolutions;
    `memory`: bytes a second; `inside`, `outside`: bandwidth of an all-reduce between the GPUs of a
    node, and between nodes for the whole node; `latency`: of a collective inside and between nodes;
    `decode`: images a second and core.
    """

    name: str
    gpus: int
    peak: float
    utilisation: float
    memory: float
    inside: float
    outside: float
    latency: tuple[float, float]
    cores: int
    decode: float


def assumed_node(decode: float) -> Hardware:
    """Eight A100 GPUs (80 GB, NVLink), 128 cores, four InfiniBand ports of 200 Gb/s.

    312 TFLOP/s and 2.0 TB/s are the maker's; the parts of them that are reached, 35 % and 80 %, the
    230 GB/s inside and 80 GB/s between nodes, and the latencies are assumptions.
    """
    return Hardware(
        name="nodes of 8 A100",
        gpus=8,
        peak=312e12,
        utilisation=0.35,
        memory=0.8 * 2.0e12,
        inside=230e9,
        outside=80e9,
        latency=(20e-6, 50e-6),
        cores=128,
        decode=decode,
    )


@dataclass(frozen=True)
class Work:
    """What one sample costs: multiply-accumulates, values that neurons and norms go over; and of
    the network: parameters and norm layers."""

    multiplies: int
    neuron_values: int
    norm_values: int
    parameters: int
    norms: int

    @property
    def gradient_bytes(self) -> int:
        return 4 * self.parameters


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step of `processes`, by what they are spent on."""

    processes: int
    batch: int
    compute: float
    reduce: float
    exposed: float
    sync: float
    input: float

    @property
    def step(self) -> float:
        return max(self.compute + self.exposed + self.sync, self.input)

    @property
    def images_per_second(self) -> float:
        return self.processes * self.batch / self.step

    @property
    def bound(self) -> str:
        return "input" if self.input == self.step else "compute"


def predict(
    work: Work, hardware: Hardware, processes: int, batch: int, *, sync: bool, value_bytes: int
) -> Prediction:
    """The model in this module's docstring; `value_bytes`: of an activation."""
    local = min(processes, hardware.gpus)
    nodes = math.ceil(processes / hardware.gpus)
    latency = hardware.latency[nodes > 1] if processes > 1 else 0.0
    traffic = NEURON_PASSES * work.neuron_values + NORM_PASSES * work.norm_values
    compute = batch * (
        6 * work.multiplies / (hardware.peak * hardware.utilisation)
        + value_bytes * traffic / hardware.memory
    )
    buckets = math.ceil(work.gradient_bytes / BUCKET)
    reduce = exposed = 0.0
    if processes > 1:
        reduce = (
            2 * (local - 1) / local * work.gradient_bytes / hardware.inside
            + 2 * (nodes - 1) / nodes * work.gradient_bytes / hardware.outside
            + buckets * latency
        )
        exposed = max(reduce - 2 / 3 * compute * (1 - 1 / buckets), reduce / buckets)
    return Prediction(
        processes=processes,
        batch=batch,
        compute=compute,
        reduce=reduce,
        exposed=exposed,
        sync=(_SMALL + 2 * work.norms * sync) * latency,
        input=local * batch / (hardware.cores * hardware.decode),
    )


@torch.no_grad()
def count(recipe: Recipe, data: DataSpec) -> Work:
    """What one sample of `data` costs, seen in a forward pass of the recipe's network."""
    torch.manual_seed(stream(recipe.seed, "init"))
    network = catalog.method_of(recipe).build(recipe.network, data).eval()
    found = {"multiplies": 0, "neuron_values": 0, "norm_values": 0, "norms": 0}

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            found["multiplies"] += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            found["multiplies"] += output.numel() * module.in_features
        elif isinstance(module, Neuron):
            found["neuron_values"] += inputs[0].numel()
        else:
            found["norm_values"] += inputs[0].numel()
            found["norms"] += 1

    kinds = (nn.Conv2d, nn.Linear, Neuron, BatchNorm, TdBatchNorm, nn.BatchNorm2d)
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(look)
    steps = int(getattr(recipe.network, "T", 1))
    shape = (1, *data.shape) if data.kind == "static" else (steps, 1, *data.shape)
    network(torch.zeros(shape))
    return Work(parameters=sum(p.numel() for p in network.parameters()), **found)


def table(
    recipe: Recipe, work: Work, hardware: Hardware, processes: Sequence[int]
) -> list[dict[str, object]]:
    """A row of the prediction for each number of processes, against one process."""
    config = recipe.training
    value_bytes = 4 if config.precision == "float32" else 2
    sync, batch = config.sync_batchnorm, recipe.data.batch_size
    made = [
        predict(work, hardware, n, batch, sync=sync, value_bytes=value_bytes) for n in processes
    ]
    alone = predict(work, hardware, 1, batch, sync=False, value_bytes=value_bytes)
    return [
        {
            "what": f"predicted, {hardware.name}",
            "recipe": recipe.origin,
            "processes": one.processes,
            "batch": one.processes * one.batch,
            "compute_ms": _ms(one.compute),
            "reduce_ms": _ms(one.reduce),
            "exposed_ms": _ms(one.exposed),
            "sync_ms": _ms(one.sync),
            "input_ms": _ms(one.input),
            "step_ms": _ms(one.step),
            "images_per_second": round(one.images_per_second),
            "efficiency": round(one.images_per_second / alone.images_per_second / one.processes, 3),
            "bound": one.bound,
        }
        for one in made
    ]


def measure(
    name: str, overrides: Sequence[str], steps: int, rounds: int
) -> list[dict[str, object]]:
    """Seconds of a step, the best of `rounds`: one process, two that know nothing of each other,
    two that train together; and what the model makes of the second.

    Others may use the machine too. So there are two clocks: the wall's, on which the fastest tenth
    of the `steps` of a run counts, and the slower process's own time, what an idle core would take;
    the model starts from the latter.
    """
    given = [name, str(steps), *overrides]
    kinds = {"one process": (1, False), "two, apart": (2, False), "two, together": (2, True)}
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, (processes, joined) in kinds.items():
            runs[kind].append(_run(given, processes, joined))
    best = {
        kind: {key: min(run[key] for run in found) for key in found[0]}
        for kind, found in runs.items()
    }
    apart, together = best["two, apart"]["cpu"], best["two, together"]
    reduce, buckets = together["reduce"], together["buckets"]
    exposed = max(reduce - 2 / 3 * apart * (1 - 1 / buckets), reduce / buckets)
    expected = apart + exposed + _SMALL * together["agree"]
    rows: list[dict[str, object]] = [
        {
            "what": f"measured: {kind}",
            "recipe": name,
            "processes": kinds[kind][0],
            "step_ms": _ms(found["step"]),
            "cpu_ms": _ms(found["cpu"]),
            "steps_per_second": round(1 / found["step"], 1),
        }
        for kind, found in best.items()
    ]
    rows[-1] |= {"reduce_ms": _ms(reduce), "exposed_ms": _ms(exposed)}
    predicted: dict[str, object] = {
        "what": "predicted: two, together",
        "recipe": name,
        "processes": 2,
        "step_ms": _ms(expected),
        "steps_per_second": round(1 / expected, 1),
    }
    return [*rows, predicted]


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


def _run(given: Sequence[str], processes: int, together: bool) -> dict[str, float]:
    """Starts workers and answers the figures of the slowest."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        if together:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "spikeloom.bench.scaling", *given],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    answers = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise RuntimeError("a process of the measurement failed; what it said is above")
    found = [json.loads(answer.splitlines()[-1]) for answer in answers]
    return {key: max(one[key] for one in found) for key in found[0]}


def _work(name: str, steps: int, overrides: Sequence[str]) -> dict[str, float]:
    """In a worker: the time of a training step, and of an all-reduce."""
    from rich.console import Console

    from spikeloom.training import distributed, processes
    from spikeloom.training.device import surroundings
    from spikeloom.training.trainer import Trainer

    recipe = catalog.load_recipe(name, ["threads=1", "training.device=cpu", *overrides])
    device = torch.device("cpu")
    with processes(), surroundings(recipe.training, device):
        trainer = Trainer(recipe, device, Console(file=sys.stderr))
        trainer.classifier.train()
        trainer.set_learning_rate()
        seconds: list[float] = []
        own: list[float] = []
        while len(seconds) < steps + 3:
            batches = trainer.batches()
            begin = time.perf_counter(), time.process_time()
            for group in batches:
                trainer.train_step(group)
                now = time.perf_counter(), time.process_time()
                seconds.append(now[0] - begin[0])
                own.append(now[1] - begin[1])
                begin = now
                if len(seconds) == steps + 3:
                    break
            trainer.epoch += 1
        gradients = torch.zeros(sum(p.numel() for p in trainer.classifier.parameters()))
        reduce = _seconds(lambda: distributed.sum_over_ranks(gradients))
        agree = _seconds(lambda: distributed.any_of(False))
    return {
        "step": _fast(seconds[3:]),  # the first three compile and warm up
        "cpu": _fast(own[3:]),
        "reduce": reduce,
        "agree": agree,
        "buckets": float(math.ceil(gradients.nbytes / BUCKET)),
    }


def _seconds(action: Callable[[], object], times: int = 30) -> float:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        found.append(time.perf_counter() - begin)
    return _fast(found)


def _fast(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) // 10]


if __name__ == "__main__":
    print(json.dumps(_work(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
