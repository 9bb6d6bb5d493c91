"""Where everything is kept that can be made again: compiled kernels, prepared frames."""

import os
import tempfile
from pathlib import Path


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
