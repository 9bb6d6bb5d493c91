"""TOML as a recipe may hold it: of a depth and of numbers that everything behind it can take."""

import re
import tomllib
from typing import Any

from spikeloom.errors import ConfigError

DEPTH = 16
"""Tables and lists within each other; a recipe has four."""


def parse(text: str) -> dict[str, Any]:
    """The tables of `text`.

    Raises:
        ConfigError: it is not TOML, with the line; or nested too deeply, or a number is too large.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", reason)
        if found:
            reason, line = reason[: found.start()], int(found[1])
        else:
            reason, line = reason.removesuffix(" (at end of document)"), text.count("\n") + 1
        raise ConfigError(f"line {line}: not valid TOML: {reason}") from None
    except RecursionError:
        raise ConfigError(f"nested more than {DEPTH} deep") from None
    except ValueError:  # of int: thousands of digits
        raise ConfigError("an integer has more than 64 bits") from None
    _check(values, DEPTH)
    return values


def _check(value: object, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth == 0:
            raise ConfigError(f"nested more than {DEPTH} deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError("an integer has more than 64 bits")
