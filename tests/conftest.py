"""Settings for all tests."""

import os
import sys
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=str,
        default=str(Path(__file__).parent / "golden"),
        help="folder searched (recursively) for arrays of the published implementations",
    )


@pytest.fixture(autouse=True)
def forget_compiled_variants() -> None:
    """A session compiles a kind of neuron with more constants than a user ever would: no
    warning."""
    # not imported here: the command line's tests watch what is loaded
    dispatch = sys.modules.get("spikeloom.compiler.dispatch")
    if dispatch is not None:
        dispatch._variants.clear()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where every step runs as it is written, a test about kernels has nothing to look at."""
    if item.get_closest_marker("kernels") and os.environ.get("SPIKELOOM_BACKEND") == "eager":
        pytest.skip("SPIKELOOM_BACKEND=eager: no kernel runs")
