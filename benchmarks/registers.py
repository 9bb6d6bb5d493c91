"""What the GPU kernels need of a GPU: registers and spills, from Triton's own compiler and ptxas.

No card is needed, and nothing is timed: a kernel that spills, or that leaves room for few warps,
shows here before anybody runs it.
"""

import math

import torch

from benchmarks.cases import NEURONS
from benchmarks.gpu_code import launches, needs
from benchmarks.runner import Row
from spikeloom.compiler.gpu.plan import Machine

CAPABILITIES = (80, 90)
"""Of an A100, and of an H100 or H200."""

MACHINE = Machine(processors=132, cache_bytes=50 << 20)
"""An H200."""

SHAPES: dict[str, tuple[int, ...]] = {
    "T = 4": (4, 16, 64, 32, 32),
    "T = 16": (16, 16, 64, 32, 32),
    "T = 100, rows of 16": (100, 16, 64, 4, 4),
}
"""All of time in registers; segments of four steps; vectors along short rows."""


def measure() -> list[Row]:
    """A row for each neuron, shape, kernel and capability."""
    rows: list[Row] = []
    for name, make in NEURONS.items():
        for what, shape in SHAPES.items():
            neuron = make(shape[2])
            rest = [neuron.rest().get(state, 0.0) for state in neuron.states]
            coefs = [coef.detach() for coef in neuron.coefs().values()]
            x = torch.empty(shape, dtype=torch.bfloat16)
            pair = launches(neuron._step(), coefs, rest, x, MACHINE)
            for kernel, started in zip(("forward", "backward"), pair, strict=True):
                tile, sizes = started.launch.fixed, ("BLOCK", "ROWS", "COLS")
                for capability in CAPABILITIES:
                    found = needs(started, capability)
                    rows.append(
                        {
                            "subject": name,
                            "shape": "x".join(map(str, shape)),
                            "case": what,
                            "kernel": kernel,
                            "capability": capability,
                            "registers": found.registers,
                            "spilled_bytes": found.spilled,
                            "shared_bytes": found.shared,
                            "warps": started.launch.warps,
                            "neurons": math.prod(tile.get(size, 1) for size in sizes),
                        }
                    )
    return rows
