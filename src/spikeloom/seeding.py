"""Every random stream is a function of (seed, epoch, step, rank, purpose).

Nothing about random generators has to be stored in a checkpoint: a run that stops after any
optimizer step draws the same numbers when it goes on.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream(seed: int, *names: int | str) -> int:
    """A 63-bit seed for the stream called `names` of the run with `seed`.

    Integers and strings are told apart, so `stream(0, 1)` and `stream(0, "1")` differ. The value is
    the same on every machine and in every process (Python's own `hash` of strings is not).
    """
    text = repr((seed, *names)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(
    seed: int, *names: int | str, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """A torch generator at the start of the stream called `names`."""
    import torch

    return torch.Generator(device=device).manual_seed(stream(seed, *names))


def seed_global(seed: int, device: "torch.device") -> None:
    """Puts the global generators of the CPU and of `device` at the start of stream `seed`.

    torch.manual_seed does so for every kind of device there is and formats a stack trace for each
    that is not in use: 340 us a call or more on a machine without a GPU, against 1.4 us.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
