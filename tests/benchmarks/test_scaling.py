"""What several processes cost and what the input gives is measured."""

import pytest

from benchmarks import input as input_bench
from benchmarks import scaling
from spikeloom.errors import DataError


def test_every_source_is_measured() -> None:
    rows = input_bench.measure(images=4, batch=2, workers=0, size=16, rounds=1)
    assert [(row["part"], row["source"]) for row in rows] == [
        (part, source)
        for part in ("bytes", "pixels", "batches")
        for source in ("folder", "shards", "synthetic")
    ]
    assert all(float(str(row["images_per_second"])) > 1 for row in rows)
    with pytest.raises(DataError, match="give two batches or more"):
        input_bench.measure(images=3, batch=2, workers=0, size=16, rounds=1)


@pytest.mark.distributed
@pytest.mark.slow
def test_one_and_two_processes_are_measured() -> None:
    tiny = ("channels=4", "hidden=16", "backend=eager")
    rows = scaling.measure("plif/digits", tiny, steps=3, rounds=1)
    assert [row["processes"] for row in rows] == [1, 2, 2, 2]
    assert all(float(str(row["steps_per_second"])) > 0 for row in rows)
