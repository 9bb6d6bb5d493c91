"""Tests that need a process of their own, with TRITON_INTERPRET=1 from its start: `make test` runs
them so."""

import pytest

from spikeloom.compiler.dispatch import interpreting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not interpreting():
        for item in items:
            if "interpreted" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="needs TRITON_INTERPRET=1: make test"))
