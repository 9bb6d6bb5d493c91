"""Processes that prepare frames: each runs this module and is fed with pickles through its pipes.

They are plain child processes and not `multiprocessing` ones, which would run the caller's main
script again: a user's program needs no `if __name__ == "__main__"`. They import neither torch nor
the command line. When the parent dies, its pipe closes and they end.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from spikeloom.data.events.frames import Framing
from spikeloom.data.events.parts import write_part
from spikeloom.data.events.recordings import Recordings
from spikeloom.errors import DataError

Progress = Callable[[int, int], None]
"""Called with (recordings done, recordings in all)."""


def write_parts(
    folder: Path,
    per_part: int,
    recordings: Recordings,
    framing: Framing,
    workers: int | None,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Write every part with `write_part`, on `workers` processes (None: one for each usable
    core).
    """
    count = len(recordings.labels)
    indices = range(-(-count // per_part))
    wanted = min(workers or usable_cores(), len(indices))
    done = _Counter(count, progress)
    job = (folder, per_part, recordings, framing)
    if wanted <= 1 or not _can_travel(recordings):
        return [done(write_part(folder, index, per_part, recordings, framing)) for index in indices]
    crew = _Crew(job)
    with ThreadPoolExecutor(wanted) as threads:
        futures = [threads.submit(lambda index: done(crew.run(index)), index) for index in indices]
        try:
            return [future.result() for future in futures]
        finally:
            threads.shutdown(cancel_futures=True, wait=False)
            crew.dismiss()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Counter:
    """Tells `progress` how many recordings are done, from any thread."""

    def __init__(self, count: int, progress: Progress | None) -> None:
        self.count, self.progress, self.done = count, progress, 0
        self.lock = threading.Lock()

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.done += part["rows"]
            if self.progress:
                self.progress(self.done, self.count)
        return part


class _Crew:
    """One child process per thread that asks."""

    def __init__(self, job: tuple[Any, ...]) -> None:
        self.job = pickle.dumps(job)
        self.children: list[subprocess.Popen[bytes]] = []
        self.mine = threading.local()

    def run(self, index: int) -> dict[str, Any]:
        child: subprocess.Popen[bytes] | None = getattr(self.mine, "child", None)
        if child is None:
            child = self.mine.child = self._start()
        assert child.stdin and child.stdout
        try:
            pickle.dump(index, child.stdin)
            child.stdin.flush()
            answer = pickle.load(child.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise DataError(
                f"a process that prepares frames ended with code {child.wait()}; "
                "was it killed, or is the memory full?"
            ) from error
        if isinstance(answer, str):
            raise DataError(answer)
        return answer

    def dismiss(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()

    def _start(self) -> "subprocess.Popen[bytes]":
        paths = os.pathsep.join(path for path in sys.path if path)
        child = subprocess.Popen(
            [sys.executable, "-m", "spikeloom.data.events.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        self.children.append(child)
        assert child.stdin
        child.stdin.write(self.job)
        return child


def _can_travel(recordings: Recordings) -> bool:
    """Whether another process could load them: not what a user's own main script defines."""
    try:
        return b"__main__" not in pickle.dumps(recordings)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer part numbers until the parent closes the pipe."""
    folder, per_part, recordings, framing = pickle.load(source)
    while True:
        try:
            index = pickle.load(source)
        except EOFError:
            return
        try:
            answer: object = write_part(folder, index, per_part, recordings, framing)
        except DataError as error:
            answer = str(error)
        try:
            pickle.dump(answer, sink)
            sink.flush()
        except BrokenPipeError:  # the parent was killed
            return


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # without flushing into a pipe that nobody reads
