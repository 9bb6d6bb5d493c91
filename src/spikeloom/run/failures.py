"""What stops a run from outside, in one line: too little memory, a reading process that died."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spikeloom.config.schema import Recipe
from spikeloom.data.loader import dead_worker
from spikeloom.errors import DataError, OutOfMemoryError

_SHORTAGES = (
    *("can't allocate memory", "out of memory", "ALLOC_FAILED", "Cannot allocate memory"),
    *("multiplication overflow", "size calculation overflow"),  # more bytes than 64 bits count
)
_WORKER = "DataLoader worker"


@contextmanager
def explained(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Turns such an end into the library's own error.

    Raises:
        OutOfMemoryError: memory ran out; the text names the keys to lower, with their values.
        DataError: a process that reads samples ahead ended.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if _WORKER in text:
            raise DataError(dead_worker(error, recipe.data.workers)) from error
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not short and not any(phrase in text for phrase in _SHORTAGES):
            raise
        raise OutOfMemoryError(
            f"out of memory on {device}{_amount(text)}: lower {_advice(recipe)}; "
            "`spikeloom train RECIPE --dry-run` estimates what a recipe needs"
        ) from error


def _amount(text: str) -> str:
    amount = re.search(r"[Tt]ried to allocate ([\d.]+ (?:bytes|[KMGT]iB))", text)
    return f" (tried to allocate {amount[1]})" if amount else ""


def _advice(recipe: Recipe) -> str:
    """The keys that decide how much memory a step takes, with their values."""
    data, training = recipe.data, recipe.training
    keys = [f"data.batch_size ({data.batch_size} now; training.accumulate adds up several batches)"]
    if data.eval_batch_size is not None and data.eval_batch_size > data.batch_size:
        keys.append(f"data.eval_batch_size ({data.eval_batch_size})")
    steps = getattr(recipe.network, "T", 1)
    if isinstance(steps, int) and steps > 1:
        keys.append(f"network.T ({steps})")
    if training.precision == "float32":
        keys.append('training.precision (float32; "bfloat16" stores half)')
    return f"{', '.join(keys[:-1])}, or {keys[-1]}" if len(keys) > 1 else keys[0]
