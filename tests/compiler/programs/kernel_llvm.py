"""Compiles kernels anew and prints, for each of their loops, what LLVM made of it.

Run with an empty SPIKELOOM_CACHE: machine code that comes from the cache has no text.
"""

import json
import re

import torch

from spikeloom.compiler import cache
from spikeloom.neurons import PLIF, Gaussian

ARITHMETIC = r"= (?:\w+ )*f(?:add|sub|mul|div|neg)\b[\w ]* "


def widest(text: str) -> int:
    """Elements in the widest vector of float32 that is computed with."""
    return max((int(n) for n in re.findall(ARITHMETIC + r"<(\d+) x float>", text)), default=1)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for nest, shape in (("row", (4, 3, 5, 64)), ("vec", (4, 3, 64))):
        before = set(cache._loaded)
        neuron = PLIF(shape=shape[2:3], backend="cpu", surrogate=Gaussian())
        neuron(torch.zeros(shape, requires_grad=True)).sum().backward()
        modules = [module for name, module in cache._loaded.items() if name not in before]
        for name, loop in [pair for module in modules for pair in vars(module).items()]:
            if not name.endswith("_segment"):
                continue
            text = "\n".join(loop.inspect_llvm().values())
            rows.append(
                {
                    "nest": nest,
                    "loop": name,
                    "width": widest(text),
                    "noalias": "noalias" in text,
                    "double": len(re.findall(ARITHMETIC + r"(?:<\d+ x )?double", text)),
                }
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
