"""Steps a second on one process and on two.

Measured here, one thread each: a training step alone; two at the same time that know nothing of
each other (what the machine's caches and memory cost); two that train together; and the all-reduce
of a buffer as large as the gradients. The row of a prediction adds to the second what training
together adds by the model of docs/scaling.md:

    t_exposed = max(t_reduce - (2/3) t_compute (1 - 1/buckets), t_reduce / buckets)
    t_sync    = 3 t_agree                      small collectives: the agreement before a step, the
                                               buffers, which parameters were used
"""

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch

from spikeloom.methods import catalog

BUCKET = 25 << 20
"""Bytes of gradients that are reduced at once."""

_SMALL = 3  # small collectives of a step


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
                [sys.executable, "-m", "benchmarks.scaling", *given],
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

    from spikeloom.processes import distributed
    from spikeloom.processes.launch import processes
    from spikeloom.run.device import surroundings
    from spikeloom.training.trainer import Trainer

    recipe = catalog.load_recipe(name, ["threads=1", "training.device=cpu", *overrides])
    device = torch.device("cpu")
    with processes(), surroundings(recipe.training, device):
        trainer = Trainer(recipe, device, Console(file=sys.stderr))
        trainer.enter()
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
            trainer.position.epoch += 1
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
