"""What a process pays before its first result: imports, the command line, the first call.

Every figure is of processes of its own, from their start to their end or, for a first call, of the
call inside them. A first call is a forward and backward pass of a small layer, checked against the
eager neuron: with an empty kernel cache it traces and compiles, with a filled one it loads.

On a CPU a second is one of processor time, of the process and those that it starts: what an idle
core would take. On CUDA a call is timed by the clock on the wall, and waited for.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.runner import Row
from spikeloom.errors import SpikeloomError

SHAPE = (8, 4, 16, 8, 8)
KINDS = ("PLIF", "GLIF")

IMPORTS = {
    "python, nothing imported": "pass",
    "import torch": "import torch",
    "import spikeloom": "import spikeloom",
    "import spikeloom, a neuron": "import spikeloom; spikeloom.PLIF()",
    "spikeloom --help": "from spikeloom.cli import main; main(['--help'])",
}
"""Programs by what they show."""

_FIRST_CALL = """
import copy, json, os, sys, time
import torch
import spikeloom as sl

kind, backend, device, shape = json.loads(sys.argv[1])
torch.manual_seed(0)
neuron = sl.GLIF(shape[2]) if kind == "GLIF" else sl.PLIF()
neuron = neuron.to(device)
eager = copy.deepcopy(neuron)
eager.backend = "eager"
network = neuron
if backend == "torch.compile":
    neuron.backend = "eager"
    network = torch.compile(neuron, dynamic=False)
else:
    neuron.backend = backend
x = torch.randn(shape, device=device)

def run(network):
    leaf = x.clone().requires_grad_()
    spikes = network(leaf)
    spikes.sum().backward()
    return spikes.sum().item(), leaf.grad.abs().sum().item()

def now():
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        return time.perf_counter()
    return sum(os.times()[:4])  # with the children's, who may be compilers

def times(calls):
    begin = now()
    for _ in range(calls):
        got = run(network)
    return got, (now() - begin) / calls

wanted = run(eager)
got, first = times(1)
agrees = got[0] == wanted[0] and abs(got[1] - wanted[1]) <= 1e-4 * abs(wanted[1])
_, later = times(100)
print(json.dumps([first, later, agrees]))
"""


def measure(
    rounds: int, device: str = "cpu", backend: str = "auto", compile_eager: bool = False
) -> list[Row]:
    """A row per program, then per first call: seconds of the fastest and the middle process."""
    rows = [
        _row(what, [_process(code)[0] for _ in range(rounds)]) for what, code in IMPORTS.items()
    ]
    for kind in KINDS:
        rows += _first_calls(kind, backend, device, rounds)
    if compile_eager:
        rows += _first_calls("PLIF", "torch.compile", device, rounds)
    return rows


def _row(what: str, seconds: list[float], contender: str = "spikeloom", digits: int = 3) -> Row:
    return {
        "family": "startup",
        "what": what,
        "contender": contender,
        "seconds": round(min(seconds), digits),
        "median_seconds": round(statistics.median(seconds), digits),
        "processes": len(seconds),
        "note": "",
    }


def _first_calls(kind: str, backend: str, device: str, rounds: int) -> list[Row]:
    """First call with an empty cache and with a filled one, and a later one (mean of 100)."""
    contender = "torch.compile" if backend == "torch.compile" else "spikeloom"
    name = f"{kind} [{'x'.join(map(str, SHAPE))}]"
    arguments = json.dumps([kind, backend, device, SHAPE])
    empty, filled, later = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for found in (empty, filled):
                answer = json.loads(_process(_FIRST_CALL, arguments, Path(folder))[1])
                if not answer[2]:
                    note = "not timed: it disagrees with the eager neuron"
                    what = f"first call, {name}"
                    return [
                        {"family": "startup", "what": what, "contender": contender, "note": note}
                    ]
                found.append(answer[0])
                later.append(answer[1])
    return [
        _row(f"first call, {name}, no cache", empty, contender),
        _row(f"first call, {name}, cached", filled, contender),
        _row(f"later call, {name}", later, contender, digits=5),
    ]


def _process(code: str, argument: str = "", caches: Path | None = None) -> tuple[float, str]:
    """Processor seconds of a Python process that runs `code`, and what it printed."""
    environment = dict(os.environ)
    if caches is not None:
        environment |= {
            "SPIKELOOM_CACHE": str(caches / "spikeloom"),
            "TRITON_CACHE_DIR": str(caches / "triton"),
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        }
    begin = _children()
    done = subprocess.run(
        [sys.executable, "-c", code, argument],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = _children() - begin
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        raise SpikeloomError(f"a measured process failed with code {done.returncode}: {last}")
    return seconds, done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def _children() -> float:
    """Seconds of processor time of all processes that were started and have ended."""
    used = os.times()
    return used.children_user + used.children_system
