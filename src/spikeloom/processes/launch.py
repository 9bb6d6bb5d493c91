"""Beginning as one of several processes, and ending as one of them.

A launcher such as `torchrun` starts the same command several times and numbers the processes in
their environment: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT. After a failure torchrun
may start all of them again; TORCHELASTIC_RESTART_COUNT then says how often it has.
"""

import gc
import os
import secrets
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from spikeloom.errors import ConfigError, RunError, SpikeloomError
from spikeloom.processes import distributed, environment


class UsesGroup(Protocol):
    """What holds the process group, and must let go of it before it ends."""

    def close(self) -> None: ...


def let_go_at_end(user: UsesGroup) -> None:
    """Has `user.close()` called before the process group ends, if `user` still lives then.

    If the last to let go of it were a `DistributedDataParallel` that Python removes, the group
    would wait for its threads, and they for Python: for ever.
    """
    _users.add(user)


_users: "weakref.WeakSet[UsesGroup]" = weakref.WeakSet()
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_START = "spikeloom/start"
_JOIN_SECONDS = 600  # torchrun ends a start sooner if one of its processes does


@contextmanager
def processes() -> Iterator[None]:
    """Joins the processes that were launched with this one, for the time of the `with` block.

    Collectives run over nccl for tensors on GPUs and over gloo for others. Nothing happens where
    one process was launched, or the program has initialised `torch.distributed` itself.

    Raises:
        ConfigError: the processes cannot reach each other.
        RunError: another process ended without a word; instead of the collective's own error.
    """
    launched = all(name in os.environ for name in _NEEDED) and environment.number("WORLD_SIZE", 1)
    if launched < 2 or dist.is_initialized():
        yield
        return
    _join("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    orderly = False
    try:
        yield
        orderly = True
    except SystemExit as stop:
        orderly = not stop.code  # all stop at the same step
        raise
    except SpikeloomError:
        raise
    except RuntimeError as error:
        if not _lost_contact(error):
            raise
        lost = RunError(
            f"process {distributed.rank()} lost the others: one of them ended, and says why in its "
            "own output, or was killed; the run goes on from its last checkpoint with "
            "`spikeloom resume`, or by itself under `torchrun --max-restarts`"
        )
        lost.shared = True
        raise lost from error
    finally:
        # After a failure the traceback still holds what uses the group, and nccl would wait for
        # processes that are gone: the end of this process will do.
        if orderly:
            for user in list(_users):
                user.close()
            gc.collect()  # one may be part of a cycle, and would be removed at any later time
            dist.destroy_process_group()


def _join(backend: str) -> None:
    rank, size = environment.number("RANK", 0), environment.number("WORLD_SIZE", 1)
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
            store = _of_this_start(next(rendezvous("env://"))[0], rank, size)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        else:
            dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        where = ", ".join(f"{name}={os.environ[name]}" for name in _NEEDED)
        raise ConfigError(
            f"the processes of this run cannot reach each other ({where}): "
            f"{str(error).splitlines()[0]}"
        ) from error


def _of_this_start(store: Store, rank: int, size: int) -> Store:
    """A part of torchrun's store that no process of an earlier start has written into.

    The store lives as long as torchrun, and this PyTorch keeps the addresses of processes that are
    gone under the keys of those that follow. How often torchrun has restarted is no name for a
    start: with several machines each counts for itself. So the first process makes up a name, and
    goes on once all others have answered under it; each of them waits to read its own answer back,
    and follows where the name changes under it.
    """
    mine, deadline = secrets.token_hex(8), time.monotonic() + _JOIN_SECONDS
    others = [f"{number}" for number in range(1, size)]
    if rank == 0:
        start = PrefixStore(mine, store)
        store.set(_START, mine)
        start.wait(others, timedelta(seconds=_JOIN_SECONDS))
        start.set("all", " ".join(start.get(number).decode() for number in others))
        return start
    while time.monotonic() < deadline:
        if store.check([_START]):
            start = PrefixStore(store.get(_START).decode(), store)
            if not start.check(["all"]):
                start.set(f"{rank}", mine)
            elif mine in start.get("all").decode().split():
                return start
        time.sleep(0.05)
    raise RuntimeError(f"the first of them was not there for {_JOIN_SECONDS} s")


def _lost_contact(error: RuntimeError) -> bool:
    signs = ("gloo", "Connection closed", "Connection reset", "Broken pipe", "NCCL")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


def launch_id() -> str | None:
    """What names this launch by torchrun and stays the same over its restarts; None without it."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    if name != "none":
        return name
    # Without an id of its own it is told by the agent process that starts and restarts this one.
    agent = os.getppid()
    stat = Path(f"/proc/{agent}/stat")
    # The name in parentheses may hold blanks; field 22, counted from 1, is the time of its start.
    began = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else ""
    return f"{socket.gethostname()}:{agent}:{began}"
