"""What `make fuzz` gives to every reader, for a second; and what it found, for good."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import TARGETS

from damage import damaged

FOUND = sorted((Path(__file__).parent / "found").iterdir())
# HDF5's own library reads these; where it hangs no test can go on.
IN_PROCESS = sorted(name for name in TARGETS if not name.endswith("-h5"))


@pytest.mark.parametrize("name", TARGETS)
def test_good_examples_are_parsed(name: str) -> None:
    target = TARGETS[name]
    assert target(target.seeds()[0])


@pytest.mark.parametrize("name", IN_PROCESS)
def test_damaged_examples_are_parsed_or_refused(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @given(st.sampled_from(seeds).flatmap(damaged))
    @settings(max_examples=10, deadline=None, database=None)
    def read(data: bytes) -> None:
        target(data)

    read()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("path", FOUND, ids=[path.name for path in FOUND])
def test_what_fuzzing_found_is_refused(path: Path) -> None:
    name = max((name for name in TARGETS if path.name.startswith(name)), key=len)
    TARGETS[name](path.read_bytes())
