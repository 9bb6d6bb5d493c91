"""Where everything is kept that can be made again: compiled kernels, prepared frames."""

import os
import stat
import tempfile
from pathlib import Path

from spikeloom.errors import DataError


def cache_root() -> Path:
    """`$SPIKELOOM_CACHE`, else `spikeloom` in the user's cache folder (`$XDG_CACHE_HOME`,
    `~/.cache`).

    It need not exist. Where the user has no home, it is in the system's temporary folder.
    """
    chosen = os.environ.get("SPIKELOOM_CACHE")
    if chosen:
        return Path(chosen)
    try:
        usual = Path.home() / ".cache"
    except RuntimeError:
        usual = Path(tempfile.gettempdir())
    return Path(os.environ.get("XDG_CACHE_HOME") or usual) / "spikeloom"


def distrust(path: Path) -> str | None:
    """Why what is found in the folder `path` may be somebody else's work, or None."""
    info = path.stat()
    if hasattr(os, "getuid") and info.st_uid not in (os.getuid(), 0):
        return "it belongs to another user"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write to it"
    return None


def check_trust(*folders: Path) -> None:
    """Refuses prepared data in folders that others may change; one that is not there is fine.

    Raises:
        DataError: the text names the folder, and what to do.
    """
    for folder in folders:
        problem = distrust(folder) if folder.is_dir() else None
        if problem is not None:
            raise DataError(
                f"{folder}: data prepared there is not used, {problem}: make it yours alone "
                "(chmod go-w), or name another folder with $SPIKELOOM_CACHE"
            )


def make_own(folder: Path) -> None:
    """Makes `folder`, and the cache folder around it, for this user alone."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)
