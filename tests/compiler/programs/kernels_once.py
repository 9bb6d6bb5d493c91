"""Runs one neuron forward and backward, in four threads at once, and prints what the kernel cache
did.

Arguments: `remove` deletes the cache folder between the forward and the backward pass.
"""

import hashlib
import json
import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import torch

from spikeloom.compiler import cache
from spikeloom.neurons import LIF


def once(remove: bool) -> str:
    x = torch.linspace(-1, 3, 600).reshape(5, 3, 40).requires_grad_()
    spikes = LIF(tau=2.5, backend="cpu")(x)
    if remove:
        shutil.rmtree(cache.folder().parent)
    (spikes * x.detach()).sum().backward()
    assert x.grad is not None
    return hashlib.sha256(spikes.detach().numpy().tobytes() + x.grad.numpy().tobytes()).hexdigest()


def main() -> None:
    torch.set_num_threads(1)
    remove = "remove" in sys.argv
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if remove:
            digests = {once(True)}
        else:
            with ThreadPoolExecutor(4) as pool:
                digests = set(pool.map(once, [False] * 4))
    assert len(digests) == 1, "threads disagree"
    kernels = [
        function
        for module in cache._loaded.values()
        for name, function in vars(module).items()
        if name.startswith("run_")
    ]
    print(
        json.dumps(
            {
                "digest": digests.pop(),
                "kernels": len(kernels),
                "hits": sum(sum(k.stats.cache_hits.values()) for k in kernels),
                "misses": sum(sum(k.stats.cache_misses.values()) for k in kernels),
                "warnings": [str(w.message) for w in seen],
            }
        )
    )


if __name__ == "__main__":
    main()
