"""Settings for all tests."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=str,
        default=str(Path(__file__).parent / "golden"),
        help="folder searched (recursively) for arrays of the published implementations",
    )
