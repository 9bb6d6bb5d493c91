"""The registry of cases: what is measured, on which device, in which family.

A case is a neuron or a recipe, a shape `[T, B, ...]`, a dtype, a layout and a device. Who competes
in it (the backends of this library, `torch.compile`, peers) is for its family to say.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch

from spikeloom.analysis.agreement import DTYPES, NEURONS, Case, Layout

__all__ = ["DTYPES", "FAMILIES", "NEURONS", "Case", "Family", "Layout", "small"]

Family = Literal["neurons", "linear", "training"]

SHAPES: dict[str, tuple[int, ...]] = {
    "conv 32x32": (4, 16, 64, 32, 32),
    "conv 14x14": (8, 16, 128, 14, 14),
    "conv 7x7": (4, 32, 512, 7, 7),
    "fc, long": (100, 64, 256),
    "fc": (16, 256, 1024),
}
"""`[T, B, C, ...]` by name: the layers of the published networks, and a long sequence."""

SMALL_LAYER = (4, 8, 64)
"""So small that the call is what it costs."""

CUDA_SHAPES: dict[str, tuple[int, ...]] = {
    "conv 56x56, T=4": (4, 64, 128, 56, 56),
    "conv 28x28, T=16": (16, 64, 128, 28, 28),
    "fc, T=100": (100, 512, 2048),
    "fc, small": (16, 64, 256),
}
"""As `SHAPES`, beyond any GPU's cache; and one layer so small that its launch is what it costs."""

LINEAR_SIZES = (512, 4096, 16384)
LINEAR_STEPS = (4, 100, 500)
LINEAR_BATCH = 16
LINEAR_CPU_PRODUCTS = 5e9
"""Multiplications and additions of one pass above which a case is left to GPUs: nothing but the
matrix product would be measured, for minutes."""

TRAININGS: dict[str, int] = {
    "plif/mnist": 8,
    "plif/digits": 16,
    "glif/cifar10-resnet18-t2": 4,
    "glif/digits": 16,
    "dsr/cifar10-t5-lif": 4,
    "dsr/digits": 16,
    "ide/fashion-mnist-f400": 128,
    "ide/mnist-f64c5": 16,
}
"""Recipes whose training step is measured, each with its batch on a CPU."""

CUDA_TRAININGS: dict[str, int] = {
    "plif/mnist": 64,
    "plif/cifar10": 32,
    "glif/cifar10-resnet18-t2": 64,
    "dsr/cifar10-t5-lif": 64,
}


def neuron_cases(device: str = "cpu") -> Iterator[Case]:
    """Every neuron on every shape; half precision, channels-last and constant currents on one; the
    call of a layer that has next to nothing to do.
    """
    if torch.device(device).type == "cuda":
        for neuron in ("LIF", "PLIF", "PLIF per channel", "GLIF", "AdLIF"):
            for shape in CUDA_SHAPES.values():
                yield Case("neurons", neuron, shape, device=device)
        for shape in CUDA_SHAPES.values():
            yield Case("neurons", "LIF SuperSpike", shape, device=device)
            yield Case("neurons", "LIF", shape, "bfloat16", device=device)
            yield Case("neurons", "PLIF", shape, "bfloat16", device=device)
            yield Case("neurons", "GLIF", shape, "bfloat16", device=device)
        return
    for neuron in NEURONS:
        for shape in SHAPES.values():
            yield Case("neurons", neuron, shape)
    shape = SHAPES["conv 14x14"]
    yield Case("neurons", "PLIF", shape, "bfloat16")
    yield Case("neurons", "PLIF per channel", shape, layout="channels_last")
    yield Case("neurons", "PLIF", shape, layout="constant")
    yield Case("neurons", "PLIF", SMALL_LAYER)


def linear_cases(device: str = "cpu") -> Iterator[Case]:
    """`Linear(N, N)` and LIF for every N and T; on CUDA for one T also with the matrix product in
    TF32 and in bfloat16.
    """
    on_cuda = torch.device(device).type == "cuda"
    for size in LINEAR_SIZES:
        for steps in LINEAR_STEPS:
            shape = (steps, LINEAR_BATCH, size)
            if on_cuda or shape[0] * shape[1] * size**2 <= LINEAR_CPU_PRODUCTS:
                yield Case("linear", "LIF SuperSpike", shape, device=device)
            if on_cuda and steps == 100:
                yield Case("linear", "LIF SuperSpike", shape, "tf32", device=device)
                yield Case("linear", "LIF SuperSpike", shape, "bfloat16", device=device)


def training_cases(device: str = "cpu") -> Iterator[Case]:
    on_cuda = torch.device(device).type == "cuda"
    for recipe, batch in (CUDA_TRAININGS if on_cuda else TRAININGS).items():
        yield Case("training", recipe, (batch,), device=device)
        if on_cuda:
            yield Case("training", recipe, (batch,), "bfloat16", device=device)


FAMILIES: dict[Family, Callable[[str], Iterator[Case]]] = {
    "neurons": neuron_cases,
    "linear": linear_cases,
    "training": training_cases,
}


def small(cases: Iterable[Case]) -> list[Case]:
    """The cases on shapes that take no time, odd where they can be; each once."""
    most = {"neurons": (5, 3, 7, 5, 5), "linear": (5, 3, 33), "training": (2,)}
    shrunk = (case.with_shape(tuple(map(min, case.shape, most[case.family]))) for case in cases)
    return list(dict.fromkeys(shrunk))
