"""A progress line for work that may be long or nothing at all."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Bar:
    """Shows progress on a terminal from the first call of `show` on; nothing if it is never called.

    On what is no terminal there is one line at the beginning. Everything goes to standard error,
    or to `console`. A `transient` line is gone when it is closed.
    """

    def __init__(
        self,
        title: str,
        *,
        unit: str = "",
        console: "Console | None" = None,
        transient: bool = False,
    ) -> None:
        self.title, self.unit = title, unit
        self._console, self._transient = console, transient
        self._progress: Progress | None = None
        self._printed = False

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the line as it is, or take it away."""
        if self._progress is not None:
            self._progress.stop()

    def show(self, done: int, total: int | None) -> None:
        """`done` of `total` are there."""
        terminal = sys.stderr.isatty() if self._console is None else self._console.is_terminal
        if not terminal:
            if not self._printed:
                print(self.title, file=sys.stderr)
                self._printed = True
            return
        if self._progress is None:
            self._progress = self._start()
        self._progress.update(self._progress.task_ids[0], completed=done, total=total, refresh=True)

    def _start(self) -> "Progress":
        from rich import progress
        from rich.console import Console
        from rich.text import Text

        class Speed(progress.ProgressColumn):
            def render(self, task: progress.Task) -> Text:
                return Text(f"{task.speed:.1f}/s" if task.speed else "")

        in_bytes = self.unit == "bytes"
        shown = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn() if in_bytes else progress.MofNCompleteColumn(),
            progress.TransferSpeedColumn() if in_bytes else Speed(),
            progress.TimeRemainingColumn(),
            console=self._console or Console(stderr=True),
            transient=self._transient,
            auto_refresh=False,
        )
        shown.start()
        shown.add_task(self.title, total=None)
        return shown
