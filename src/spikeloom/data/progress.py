"""A progress line for work that may be long or nothing at all."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """Shows progress on a terminal from the first call of `show` on; nothing if it is never called.

    On what is no terminal there is one line at the beginning. Everything goes to standard error.
    """

    def __init__(self, title: str, *, unit: str = "") -> None:
        self.title, self.unit = title, unit
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._told = False

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the line as it is."""
        if self._progress is not None:
            self._progress.stop()

    def show(self, done: int, total: int | None) -> None:
        """`done` of `total` are there."""
        if not sys.stderr.isatty():
            if not self._told:
                print(self.title, file=sys.stderr)
                self._told = True
            return
        if self._progress is None or self._task is None:
            self._progress, self._task = self._start()
        self._progress.update(self._task, completed=done, total=total)

    def _start(self) -> "tuple[Progress, TaskID]":
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        amount = DownloadColumn() if self.unit == "bytes" else MofNCompleteColumn()
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            amount,
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        progress.start()
        return progress, progress.add_task(self.title, total=None)
