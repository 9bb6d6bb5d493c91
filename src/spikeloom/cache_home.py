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
    if chosen := os.environ.get("SPIKELOOM_CACHE"):
        return Path(chosen).absolute()
    try:
        usual = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"spikeloom-{os.getuid()}"
    return Path(usual).absolute() / "spikeloom"


def distrust(path: Path) -> str | None:
    """Why what is found in the folder `path` may be somebody else's work, or None.

    It belongs to this user or root, nobody else may write to it, and nobody else can put another
    folder in its place, through a folder or a link on the way to it. On the way, a sticky folder
    (`/tmp`) and a group of this user alone are fine.

    Raises:
        OSError: there is no such folder.
    """
    path = path.absolute()
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to {path}"
    return _replaceable(path, links=40)


def _replaceable(path: Path, links: int) -> str | None:
    """Who could put something else in the place of `path`, or None."""
    for place in (*reversed(path.parents), path):
        info = place.lstat()
        if info.st_uid not in trusted_users():
            return f"{place} belongs to another user"
        if stat.S_ISLNK(info.st_mode):
            problem = _replaceable(place.parent / place.readlink(), links - 1) if links else ""
            if problem is not None:
                return problem or f"{place} leads in a circle"
        elif not info.st_mode & stat.S_ISVTX and (
            info.st_mode & stat.S_IWOTH
            or (info.st_mode & stat.S_IWGRP and info.st_gid != os.getuid())
        ):
            return f"others may write to {place}"
    return None


def trusted_users() -> tuple[int, int]:
    """This user, and root, who in a container may have another number than 0."""
    return os.getuid(), os.stat("/").st_uid


def check_trust(*folders: Path) -> None:
    """Refuses prepared data in folders that others may change; one that is not there is fine.

    Raises:
        DataError: the text names the folder, and what to do.
    """
    for folder in folders:
        problem = distrust(folder) if folder.is_dir() else None
        if problem is not None:
            raise DataError(
                f"data prepared in {folder} is not used, {problem}: make it yours alone "
                "(chmod go-w), or name another folder with $SPIKELOOM_CACHE"
            )


def make_own(folder: Path) -> None:
    """Makes `folder`, and the cache folder around it, for this user alone."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)


def keep_compiled_code() -> None:
    """Has `torch.compile` keep its code in the cache folder, unless told otherwise.

    Its own choice is a name in the temporary folder that anybody could have made first, and
    it runs what it finds there. Where the cache folder is no better, a new folder takes its place.
    """
    folder = cache_root() / "inductor"
    try:
        make_own(folder)
        trusted = distrust(folder) is None
    except OSError:
        trusted = False
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        chosen = str(folder) if trusted else tempfile.mkdtemp(prefix="spikeloom-inductor-")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = chosen
