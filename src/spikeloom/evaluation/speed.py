"""How long one sample takes, measured: latency and throughput at batch 1, on this machine."""

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from spikeloom import files
from spikeloom.data.loader import Loader
from spikeloom.evaluation.evaluation import TrainedRun
from spikeloom.run.device import autocast, surroundings

NAME = "latency.json"
WARM = 5


@dataclass(frozen=True)
class Speed:
    """`median_ms` and `slowest_ms` (95 % are faster) of a sample by itself, from raw sample to
    scores; `per_second`: samples one after the other. Over `samples`, on `device` with `threads`.
    """

    median_ms: float
    slowest_ms: float
    per_second: float
    samples: int
    device: str
    threads: int

    def __str__(self) -> str:
        return (
            f"one sample at a time: median {self.median_ms:.2f} ms, 95 % below "
            f"{self.slowest_ms:.2f} ms, {self.per_second:,.0f} a second ({self.samples} samples, "
            f"{self.device}, {self.threads} thread{'s' * (self.threads != 1)})"
        )


@torch.no_grad()
def measure_speed(run: TrainedRun, samples: int = 200) -> Speed:
    """Times `samples` test samples one by one, after some that are not counted."""
    whole = run.test_loader()
    single = Loader(whole.split, 1, transform=whole.transform, device=run.device)
    times: list[float] = []
    with surroundings(run.recipe.training, run.device):
        threads = torch.get_num_threads()
        batches = single.epoch(0)
        with autocast(run.recipe.training.precision, run.device):
            for _ in range(samples + WARM):
                start = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                run.classifier(batch.inputs)
                if run.device.type == "cuda":
                    torch.cuda.synchronize(run.device)
                times.append(time.perf_counter() - start)
    counted = sorted(times[WARM:] or times)
    return Speed(
        median_ms=1000 * counted[len(counted) // 2],
        slowest_ms=1000 * counted[min(math.ceil(0.95 * len(counted)), len(counted) - 1)],
        per_second=len(counted) / sum(counted),
        samples=len(counted),
        device=str(run.device),
        threads=threads,
    )


def keep(folder: Path, speed: Speed) -> None:
    """Puts it beside the run's other figures, for comparisons and reports."""
    files.write(folder / NAME, json.dumps(asdict(speed), indent=2) + "\n")


def stored(folder: Path) -> Speed | None:
    """What `keep` wrote; None if nothing, or something else."""
    try:
        return Speed(**files.parse_json((folder / NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
