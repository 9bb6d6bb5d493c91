"""What is this machine's and not a recipe's: where data lies, and on which device to compute.

Read, in this order, from an environment variable and from the user's file
`$XDG_CONFIG_HOME/spikeloom/config.toml` (`~/.config/spikeloom/config.toml`):

    data = "/mnt/sets"       SPIKELOOM_DATA      folder below which data sets are looked for
    device = "cuda:1"        SPIKELOOM_DEVICE    what `training.device = "auto"` means here
"""

import os
import tomllib
from pathlib import Path

from spikeloom.errors import ConfigError

DATA, DEVICE = "SPIKELOOM_DATA", "SPIKELOOM_DEVICE"
_KEYS = ("data", "device")


def data_root() -> Path:
    """The folder below which data sets are looked for where nobody names one; `./data` at last."""
    return Path(os.environ.get(DATA) or _settings().get("data") or "data").expanduser()


def device() -> str:
    """The device of this machine's choice; "auto" if it has made none."""
    return os.environ.get(DEVICE) or _settings().get("device") or "auto"


def _settings() -> dict[str, str]:
    folder = os.environ.get("XDG_CONFIG_HOME")
    try:
        base = Path(folder) if folder else Path.home() / ".config"
    except RuntimeError:  # the user has no home
        return {}
    path = base / "spikeloom" / "config.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, ValueError) as error:  # which TOMLDecodeError and UnicodeDecodeError are
        raise ConfigError(f"{path}: cannot be read ({error}): mend it, or remove it") from error
    for key, value in values.items():
        if key not in _KEYS or not isinstance(value, str):
            raise ConfigError(f"{path}: {key} = {value!r}: it may hold {' and '.join(_KEYS)}, text")
    return values
