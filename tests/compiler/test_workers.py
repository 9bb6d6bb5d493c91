"""Compiled neurons in other processes and in several threads at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from processes import printed
from torch import Tensor
from zoo import POOL, random_values


@pytest.fixture(autouse=True)
def memory_full_of_nan() -> Iterator[None]:
    """Not here: this is about the scratch memory that threads really keep."""
    yield


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_run_kernels(method: str, start_program: Any) -> None:
    assert printed(start_program("loader_workers", method)) == "equal"


def test_four_threads_at_once() -> None:
    """Different neurons and sizes in each, scratch memory shared between calls of one thread."""
    jobs = []
    for index in range(32):
        name = ("lif", "plif per channel", "two states, learnable alpha")[index % 3]
        shape = (3 + index % 4, 2, 3, 40 + index)
        jobs.append((POOL[name].make(shape), random_values(shape, index).float()))

    def passes(job: tuple[torch.nn.Module, Tensor]) -> list[Tensor]:
        neuron, x = job
        x = x.clone().requires_grad_()
        spikes = neuron(x)
        leaves = [x, *(p for n, p in neuron.named_parameters() if n != "idle")]
        return [spikes.detach(), *torch.autograd.grad((spikes * x.detach()).sum(), leaves)]

    alone = [passes(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(passes, jobs * 3))
    for actual, expected in zip(together, alone * 3, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_threads_that_share_work_share_it_at_once() -> None:
    """Two Python threads, each spreading its kernel over PyTorch's number of threads."""
    torch.set_num_threads(2)
    shape = (4, 10, 60, 100)
    neuron, x = POOL["plif per channel"].make(shape), random_values(shape, 1).float()
    expected = neuron(x)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: neuron(x), range(8)))
    assert all(torch.equal(result, expected) for result in results)
