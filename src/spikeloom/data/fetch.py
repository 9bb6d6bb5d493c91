"""Downloads of the data sets whose publishers allow it, with pooch; the rest is fetched by hand.

A file appears under its own name when it is whole and its check sum is right. A broken connection
is tried again, with pauses; only http and https are followed, also where a server points elsewhere.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikeloom.data.api import Remote
from spikeloom.data.registry import source
from spikeloom.errors import DataError
from spikeloom.machine import data_root

ATTEMPTS = 4  # connections for a file; pooch waits 1, 2, 3 seconds between them
TIMEOUT = 60.0

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes there, bytes in all or None)."""


def get(name: str, root: Path | None = None, progress: Progress | None = None) -> tuple[Path, ...]:
    """Download the files of the data set `name` below `root` ($SPIKELOOM_DATA, ./data); where they
    are now.

    A file that is there is checked and not fetched again. Raises `DataError` if the publisher
    allows no download (the manual step is named), the connection fails for good, the disk is full,
    or a check sum differs.
    """
    entry = source(name)  # a wrong name is told with the nearest right one
    if not entry.remotes:
        step = f"get {entry.origin} by hand" if entry.origin else "it needs no files"
        tree = f"; expected below the data root: {entry.layout}" if entry.layout else ""
        raise DataError(f"{name} cannot be downloaded: {step}{tree}")
    base = (root or data_root()).expanduser()
    return tuple(download(remote, base / remote.path, progress) for remote in entry.remotes)


def download(remote: Remote, path: Path, progress: Progress | None = None) -> Path:
    """The publisher's file as `path`, checked."""
    import pooch
    import requests

    kind, _, digest = remote.digest.partition(":")
    if path.exists():
        if digest and (there := pooch.file_hash(path, kind)) != digest:
            raise DataError(
                f"{path} is there, but has {kind} {there}, expected {digest}; remove it and fetch "
                "it again"
            )
        return path
    if not remote.url.startswith(("http://", "https://")):
        raise DataError(f"{remote.url}: expected an http or https address")
    store = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: remote.digest or None},
        urls={path.name: remote.url},
        retry_if_failed=ATTEMPTS - 1,
    )
    bar: Any = _Told(path.name, progress) if progress else False
    downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 18, timeout=TIMEOUT)
    pooch.get_logger().setLevel("ERROR")
    try:
        # requests follows no redirect to another scheme than http and https
        store.fetch(path.name, downloader=downloader)
    except requests.RequestException as error:
        raise DataError(
            f"{remote.url}: cannot be fetched ({_line(error)}); try later, or get it by hand"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{remote.url}: {_line(error)}; what came is not what the publisher gives: try later, "
            "or get it by hand"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or give "
            "another root"
        ) from error
    return path


class _Told:
    """What pooch takes for a progress bar."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress
        self.total = 0
        self.have = 0

    def update(self, count: int) -> None:
        self.have += count
        self.progress(self.name, self.have, self.total or None)

    def reset(self) -> None:
        """pooch calls it before it tells the whole size again, to end a bar at its end."""
        self.have = 0

    def close(self) -> None:
        pass


def _line(error: BaseException) -> str:
    """An error's words in one line without control characters: some are the server's."""
    return "".join(c if c.isprintable() else " " for c in str(error))[:300]
