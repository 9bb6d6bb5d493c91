"""Large results lie in memory that is used again, and only when nothing refers to it any more."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from spikeloom.compiler import memory
from spikeloom.neurons import LIF

SHAPE = (8, 16, 4096)


@pytest.fixture(autouse=True)
def memory_full_of_nan() -> Iterator[None]:
    """Not here: this is about memory that is not fresh."""
    yield


def test_freed_memory_is_used_again_and_memory_in_use_is_not() -> None:
    neuron, x = LIF(backend="cpu"), torch.rand(SHAPE) * 3
    first = neuron(x)
    place, spikes = first.data_ptr(), first.clone()
    part = first.view(-1)[7:]
    del first
    assert neuron(x).data_ptr() != place, "a view of the first result is still there"
    assert torch.equal(part, spikes.view(-1)[7:])
    del part
    again = neuron(x)
    assert torch.equal(again, spikes)
    del again
    assert memory._used >= 0
    assert memory._used + memory._idle <= memory._most


@pytest.mark.kernels
def test_memory_of_another_size_makes_room() -> None:
    neuron = LIF(backend="cpu")
    for batch in (16, 20, 17):  # as the shapes of a benchmark, or of training and evaluation
        x = torch.rand(8, batch, 4096)
        places = set()
        for _ in range(4):
            first, second = neuron(x), neuron(x)
            places |= {first.data_ptr(), second.data_ptr()}
            del first, second
        assert len(places) == 2
    assert memory._used + memory._idle <= memory._most


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_are_ordinary_tensors(dtype: torch.dtype) -> None:
    neuron, x = LIF(backend="cpu"), (torch.rand(SHAPE) * 3).to(dtype).requires_grad_()
    spikes = neuron(x)
    spikes.sum().backward()
    for tensor in (spikes, x.grad):
        assert tensor is not None and tensor.dtype == dtype and tensor.is_contiguous()
        assert tensor._base is None
    eager = LIF(backend="eager")(x.detach())
    assert torch.equal(spikes, eager)


@pytest.mark.kernels
def test_a_variable_turns_it_off() -> None:
    code = (
        "import torch, spikeloom as sl; from spikeloom.compiler import memory;"
        f"sl.LIF()(torch.rand({SHAPE})); print(memory._most)"
    )
    for value, used in (("0", False), ("1", True)):
        environment = os.environ | {"SPIKELOOM_KEEP_MEMORY": value}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (int(done.stdout) > 0) is used


def test_a_variable_takes_the_reference_path() -> None:
    code = "import spikeloom as sl; print(sl.explain(sl.LIF()).rows[0][2:])"
    environment = os.environ | {"SPIKELOOM_BACKEND": "eager"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "('eager', 'SPIKELOOM_BACKEND=eager')"
