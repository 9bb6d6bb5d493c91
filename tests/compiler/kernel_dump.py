"""Every generated kernel of the library's neurons: one hash each, kept in `kernels.txt`.

`python tests/compiler/kernel_dump.py FOLDER` writes the texts themselves, one file a kernel: run it
before and after a change and compare the folders. `--keep` makes today's hashes the kept ones.
"""

import hashlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from spikeloom import neurons
from spikeloom.compiler.cpu.backward import backward_source as cpu_backward
from spikeloom.compiler.cpu.forward import forward_source as cpu_forward
from spikeloom.compiler.cpu.writer import Variant
from spikeloom.compiler.front.trace import Trace, trace
from spikeloom.compiler.gpu.backward import backward_source
from spikeloom.compiler.gpu.forward import forward_source
from spikeloom.compiler.gpu.writer import Variant as GpuVariant
from spikeloom.neurons import Neuron

KEPT = Path(__file__).parent / "kernels.txt"


def library() -> Iterator[tuple[str, Neuron]]:
    """The neurons that the package exports, each with its defaults; sizes where it needs them."""
    for name in sorted(neurons.__all__):
        kind = getattr(neurons, name)
        if isinstance(kind, type) and issubclass(kind, Neuron) and kind.step is not Neuron.step:
            sizes = {"channels": 4, "time_steps": 3, "tau_m": 5.0, "tau_s": 3.0}
            wanted = inspect.signature(kind).parameters
            yield name, kind(**{size: n for size, n in sizes.items() if size in wanted})


def texts() -> Iterator[tuple[str, str]]:
    """A name and the text of every kernel, both directions, in the shapes that differ."""
    for name, neuron in library():
        step = neuron._step()
        for double in (False, True):
            traced = trace(step, torch.float64 if double else torch.float32)
            for variant, text in _variants(traced, double):
                yield f"{name} {variant}", text


def _variants(traced: Trace, double: bool) -> Iterator[tuple[str, str]]:
    step = traced.signature
    leaves = frozenset(("x", *step.coefs))
    whole = frozenset(step.coefs)
    storages = ("f8",) if double else ("f4", "bf16", "f16")
    for storage in storages:
        row = Variant(storage, "row")
        yield f"cpu row {storage} forward", cpu_forward(traced, row)
        row = Variant(storage, "row", gradients=leaves)
        yield f"cpu row {storage} backward", cpu_backward(traced, row)
    vec = Variant(storages[0], "vec", vectors=whole, static=True, record=step.observed)
    yield f"cpu vec static {storages[0]} forward", cpu_forward(traced, vec)
    vec = Variant(storages[0], "vec", vectors=whole, static=True, gradients=leaves)
    yield f"cpu vec static {storages[0]} backward", cpu_backward(traced, vec)
    rest = (0.0,) * len(step.states)
    precision = "f8" if double else "f4"
    yield (
        f"gpu row {precision} forward",
        forward_source(traced, GpuVariant("row", rest, flat=True)),
    )
    yield (
        f"gpu row {precision} backward",
        backward_source(
            traced,
            GpuVariant("row", rest, gradients=leaves, K=4, ragged=True),
        ),
    )
    common = {"nest": "vec", "rest": rest, "vectors": whole, "static": True}
    yield (
        f"gpu vec static {precision} forward",
        forward_source(traced, GpuVariant(**common, finals=True, record=step.observed)),
    )
    yield (
        f"gpu vec static {precision} backward",
        backward_source(
            traced,
            GpuVariant(**common, starts=True, gradients=leaves, grad_finals=True, K=3),
        ),
    )


def hashes() -> dict[str, str]:
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts()}


def kept() -> dict[str, str]:
    lines = KEPT.read_text().splitlines()
    return {name: value for value, _, name in (line.partition(" ") for line in lines)}


if __name__ == "__main__":
    if sys.argv[1:] == ["--keep"]:
        KEPT.write_text("".join(f"{value} {name}\n" for name, value in hashes().items()))
    else:
        folder = Path(sys.argv[1])
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts():
            (folder / f"{name.replace(' ', '-')}.py").write_text(text)
