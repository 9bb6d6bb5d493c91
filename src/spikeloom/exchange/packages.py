"""What the extra `export` brings."""

from importlib import import_module
from typing import Any

from spikeloom.errors import ExportError


def needed(package: str) -> Any:
    """A package of the extra `export`; `ExportError` where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ExportError(f"{package} is not installed: pip install 'spikeloom[export]'") from error
