"""Rank, world size, and sums over processes; with one process they cost nothing.

The trainer asks only these questions, so that the same loop runs on one process and, once
`torch.distributed` is initialised by its caller, on several.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _running() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if _running() else 1


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Waits for all processes."""
    if _running():
        dist.barrier()


@torch.no_grad()
def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all processes, in place."""
    if _running():
        dist.all_reduce(tensor)
    return tensor


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()
