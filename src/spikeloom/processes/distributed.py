"""Rank, world size, and what processes that train together agree on; with one they cost nothing.

The trainer asks only these questions, so that the same loop runs on one process and, once
`torch.distributed` is initialised (`launch.processes`), on several. Agreements are on tensors of
the CPU: they never wait for a GPU.

An error that one process raises in what is decorated with `together`, inside `from_main`, or
`lockstep` is raised by all of them, in its own words: none is left waiting for another that will
not come.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from spikeloom import errors
from spikeloom.errors import SpikeloomError
from spikeloom.processes import environment

T = TypeVar("T")
P = ParamSpec("P")
E = TypeVar("E", bound=SpikeloomError)


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def local_rank() -> int:
    """This process's number on its machine, from 0: the number of its GPU."""
    return environment.number("LOCAL_RANK", rank()) if world_size() > 1 else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


@torch.no_grad()
def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather(tensor: Tensor) -> Tensor:
    """The `tensor` of every process in the order of ranks, `[world_size, ...]`."""
    if world_size() == 1:
        return tensor.unsqueeze(0)
    rows = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(rows, tensor.contiguous())
    return torch.stack(rows)


def any_of(flag: bool) -> bool:
    """Whether `flag` is true in any process."""
    if world_size() == 1:
        return flag
    return bool(_largest(int(flag))[0])


def together(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator of what all processes call at once: a SpikeloomError of any is raised in all."""

    @functools.wraps(function)
    def agreed(*args: P.args, **options: P.kwargs) -> T:
        if world_size() == 1:
            return function(*args, **options)
        answer, error = _attempt(lambda: function(*args, **options))
        _raise_shared(error, any_of(error is not None))
        return answer  # type: ignore[return-value] - there was no error

    return agreed


def one_by_machine_first(action: Callable[[], T]) -> T:
    """As `together`; the first process of each machine before the others there, which then find
    what it has prepared on the disk."""
    if world_size() == 1:
        return action()
    first = local_rank() == 0
    answer = together(lambda: action() if first else None)()
    return together(lambda: answer if first else action())()  # type: ignore[return-value]


def from_main(action: Callable[[], T]) -> T:
    """What `action` answers in the main process, the only one to call it; its errors too."""
    if world_size() == 1:
        return action()
    answer, error = _attempt(action) if is_main() else (None, None)
    _raise_shared(error, any_of(error is not None))
    box = [answer]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]  # type: ignore[return-value]


@contextmanager
def entered_by_main(context: AbstractContextManager[object]) -> Iterator[None]:
    """`context`, entered by the main process only; an error on entering is raised in all."""
    with ExitStack() as stack:
        from_main(lambda: stack.enter_context(context) and None)
        yield


def lockstep(
    items: Iterator[T], signal: Callable[[], int], leave: Callable[[int], None]
) -> Iterator[T]:
    """`items`, one on every process before the next on any; those that have fewer wait.

    Before each item the processes agree: an error in reading one is raised in all; and if
    `signal()` is not 0 in any of them, all call `leave` with the largest before the item is given.
    """
    while True:
        item, error = _attempt(lambda: next(items, _END))
        failed, number, more = _largest(int(error is not None), signal(), int(item is not _END))
        _raise_shared(error, bool(failed))
        if number:
            leave(number)
        if not more:
            return
        if item is not _END:
            yield item  # type: ignore[misc]


def common(error: E, is_source: bool = True) -> E:
    """The error to raise in all processes, where each has one that says what it knows.

    `is_source`: this process has found the fault in what it computed; others only hear of it.
    """
    if world_size() == 1:
        return error
    # Through BatchNorm over all processes one infects all: those it came from can say where.
    reports = _gather_objects((not is_source, "loss function" in str(error), str(error)))
    return _shared(type(error)(min(reports, key=lambda report: report[:2])[2]))


_END = object()


def _attempt(action: Callable[[], Any]) -> tuple[Any, SpikeloomError | None]:
    try:
        return action(), None
    except SpikeloomError as error:
        if world_size() == 1:
            raise
        return None, error


def _largest(*values: int) -> list[int]:
    """The largest of each of `values` over all processes."""
    if world_size() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.int32)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.tolist()


def _raise_shared(error: SpikeloomError | None, failed: bool) -> None:
    """Raises the error of the first process that has one, everywhere."""
    if not failed:
        return
    by_rank = _gather_objects(None if error is None else (type(error).__name__, str(error)))
    number, (name, text) = next((i, entry) for i, entry in enumerate(by_rank) if entry is not None)
    where = f" (process {number} of {len(by_rank)})" if None in by_rank and number else ""
    raise _shared(getattr(errors, name)(text + where)) from error


def _shared(error: E) -> E:
    error.shared = True
    return error


def _gather_objects(value: object) -> list[Any]:
    objects: list[Any] = [None] * world_size()
    dist.all_gather_object(objects, value)
    return objects
