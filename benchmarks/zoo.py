"""Makes a network of the zoo out of a run: its weights in half precision, and their card.

    python -m benchmarks zoo RUN NAME

Matrices and kernels are rounded to float16; all else, of which there is little, stays float32:
running statistics, biases, and constants, which neurons compare with their own. The card's figures
are measured with the file itself, on the whole test set.
"""

import hashlib
import math
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from benchmarks.records import command_of
from spikeloom import files, zoo
from spikeloom.errors import RunError
from spikeloom.evaluation import evaluation
from spikeloom.run import reading


def add(run: Path, name: str) -> zoo.Card:
    """Writes `NAME.safetensors` and `NAME.json` into the package."""
    record = reading.read(run)
    if record.end is None or record.end.seconds is None or record.protocol != "B":
        raise RunError(f"{run}: give a finished run of protocol B: its accuracy chose nothing")
    with safetensors.safe_open(run / "weights.safetensors", "pt") as file:
        about = file.metadata()
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    small = {key: value.half() if _is_matrix(value) else value for key, value in weights.items()}
    path = zoo.FOLDER / f"{name}.safetensors"
    files.write(path, safetensors.torch.save(small, about))
    found = evaluation.evaluate(path)
    facts = record.environment
    card = zoo.Card(
        name=name,
        title=record.title,
        method=str(record.setting("method")),
        data=str(record.setting("data.name")),
        recipe=record.origin,
        command=command_of(record),
        seed=int(record.setting("seed")),
        epochs=len(record.epochs),
        protocol=record.protocol,
        accuracy_a=max(e.test.accuracy for e in record.epochs if e.test is not None),
        accuracy_b=found.accuracy,
        samples=found.samples,
        parameters=record.start.parameters or 0,
        dtype="float16 matrices, the rest float32",
        time_steps=record.time_steps,
        firing_rates={layer: round(rate, 5) for layer, rate in found.firing_rates.items()},
        spikes_per_neuron=round(found.spikes_per_neuron, 5),
        picojoule=round(found.operations.picojoule, 1),
        dense_picojoule=round(found.operations.dense_picojoule, 1),
        training_seconds=round(record.end.seconds, 1),
        machine=f"{facts['processor']}, {facts['threads']} thread",
        versions=f"torch {facts['torch']}, numpy {facts['numpy']}, numba {facts['numba']}",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    files.write(zoo.FOLDER / f"{name}.json", card.model_dump_json(indent=2) + "\n")
    return card


def _is_matrix(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.dim() > 1 and math.prod(value.shape) >= 64
