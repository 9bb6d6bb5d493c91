"""Runs scenarios, each on two processes that train together over gloo.

    python pairs.py FOLDER NAME...      each writes what it finds into FOLDER

Processes are forked from this one, which has loaded torch and started no thread: a pair costs
milliseconds. They find each other as under torchrun, through the environment.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # what an optimizer imports, seconds long: once, before there are pairs
from rich.console import Console

WORLD = 2
PATIENCE = 60.0  # seconds after which a process that should have ended counts as hanging

Scenario = Callable[[Path], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(action: Scenario) -> Scenario:
    """Registers `action(folder)` under its name; it starts its own processes."""
    SCENARIOS[action.__name__] = action
    return action


def pair(folder: Path, name: str, action: Callable[[], object]) -> list[int]:
    """`action` on two processes; exit codes, negative for a signal. What it prints or raises is in
    `folder/NAME.RANK.txt`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(WORLD):
        child = os.fork()
        if child == 0:
            _run(folder / f"{name}.{rank}.txt", rank, port, action)
        children.append(child)
    return [_wait(child) for child in children]


def alone(folder: Path, name: str, action: Callable[[], object]) -> int:
    """`action` on one process."""
    child = os.fork()
    if child == 0:
        _run(folder / f"{name}.txt", None, 0, action)
    return _wait(child)


def console() -> Console:
    return Console(file=sys.stdout, width=200)


def _run(output: Path, rank: int | None, port: int, action: Callable[[], object]) -> None:
    if rank is not None:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(WORLD),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    torch.set_num_threads(1)
    code = 0
    with open(output, "w", buffering=1) as file:
        sys.stdout = sys.stderr = file
        try:
            action()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
            code = 2
    os._exit(code)


def _wait(child: int) -> int:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise SystemExit(f"process {child} hangs: it has not ended after {PATIENCE} s")


if __name__ == "__main__":
    import scenarios  # noqa: F401 - fills SCENARIOS of the module that it imports
    from pairs import SCENARIOS as registered

    for chosen in sys.argv[2:]:
        began = time.monotonic()
        registered[chosen](Path(sys.argv[1]))
        print(f"{chosen}: {time.monotonic() - began:.1f} s", flush=True)
