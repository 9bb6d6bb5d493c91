"""The two measurements behind constants of the CPU kernels: `python -m benchmarks.tuning`.

Copies of the input that a forward and backward pass of a neuron layer costs (one thread, float32,
fastest of the rounds, contenders in turn): which nest for rows of a length (`geometry.SHORT_ROW`),
and how much scratch for a block (`tiles.block_elements`).
"""

import sys
from collections.abc import Callable

import torch

import spikeloom as sl
from benchmarks.timing import best_of
from spikeloom.compiler import function
from spikeloom.compiler.cpu import plan as tiles
from spikeloom.compiler.plan import geometry


def training(shape: tuple[int, ...], neuron: sl.Neuron, prepare: Callable[[], None]):
    """A forward and backward pass, with the constants that `prepare` sets: its kernels are bound
    while they hold, and kept by the neuron."""
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(7)) * 1.5).requires_grad_()
    gradient = torch.ones(shape)

    def run() -> None:
        x.grad = None
        neuron(x).backward(gradient)

    prepare()
    function.forget_bound()
    run()
    return run


def copies(shape: tuple[int, ...], contenders: list[Callable[[], None]], rounds: int) -> list[str]:
    source, target = torch.randn(shape), torch.empty(shape)
    unit, *seconds = best_of([lambda: target.copy_(source), *contenders], rounds)
    return [f"{value / unit:.1f}" for value in seconds]


def nests(rounds: int) -> None:
    print("row length   row nest   vec nest")
    for length in (8, 16, 32, 64, 196):
        shape = (4, 4096 // length, 64, length)  # a million elements each

        def use(limit: int) -> Callable[[], None]:
            return lambda: setattr(geometry, "SHORT_ROW", limit)

        row, vec = (
            training(shape, sl.PLIF(shape=(64,), backend="cpu"), use(limit)) for limit in (0, 10**9)
        )
        print("{:>10}   {:>8}   {:>8}".format(length, *copies(shape, [row, vec], rounds)))


def blocks(rounds: int) -> None:
    budgets = (25_000, 100_000, 500_000, 2_000_000)
    print("T     " + "   ".join(f"{budget:>9,}" for budget in budgets))

    def use(budget: int) -> Callable[[], None]:
        def elements(states: int, time_steps: int) -> int:
            fitting = budget // (states * max(1, time_steps))
            return max(256, min(32768, 1 << max(0, fitting.bit_length() - 1)))

        return lambda: setattr(tiles, "block_elements", elements)

    for shape in ((4, 16, 64, 256), (16, 16, 64, 64), (100, 40, 256), (400, 10, 256)):
        runs = [training(shape, sl.PLIF(backend="cpu"), use(budget)) for budget in budgets]
        cells = copies(shape, runs, rounds)
        print(f"{shape[0]:<5} " + "   ".join(f"{cell:>9}" for cell in cells))


if __name__ == "__main__":
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    nests(count)
    blocks(count)
