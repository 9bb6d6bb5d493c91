"""What a launcher such as torchrun says in the environment; read before torch is loaded."""

import os

from spikeloom.errors import ConfigError


def number(name: str, default: int) -> int:
    """The number from 0 under `name`, such as RANK.

    Raises:
        ConfigError: it is something else.
    """
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ConfigError(
            f"{name}={text} in the environment: expected a number from 0, as torchrun sets it; "
            f"without {name} one process trains alone"
        )
    return int(text)
