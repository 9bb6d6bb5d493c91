"""The model of many GPUs says what its formulas say, and counts what the networks are made of."""

import math
from dataclasses import replace

import pytest

from spikeloom.bench import input as input_bench
from spikeloom.bench import scaling
from spikeloom.data.spec import DataSpec
from spikeloom.errors import DataError
from spikeloom.methods.catalog import load_recipe

WORK = scaling.Work(
    multiplies=10**10, neuron_values=10**7, norm_values=10**7, parameters=25 * 10**6, norms=20
)
NODE = scaling.assumed_node(decode=400)


def predict(processes: int, **changes: object) -> scaling.Prediction:
    hardware = replace(NODE, **changes)  # type: ignore[arg-type]
    return scaling.predict(WORK, hardware, processes, 50, sync=True, value_bytes=2)


def test_one_process_reduces_nothing() -> None:
    one = predict(1)
    assert one.reduce == one.exposed == one.sync == 0
    arithmetic = 50 * 6 * 10**10 / (312e12 * 0.35)
    traffic = 50 * 2 * (5 + 8) * 10**7 / 1.6e12
    assert one.compute == pytest.approx(arithmetic + traffic)
    assert one.step == one.compute and one.bound == "compute"


def test_within_a_node_and_between_nodes() -> None:
    inside, outside = predict(8), predict(64)
    assert inside.reduce == pytest.approx(2 * 7 / 8 * 1e8 / 230e9 + 4 * 20e-6)
    assert outside.reduce == pytest.approx(
        2 * 7 / 8 * 1e8 / 230e9 + 2 * 7 / 8 * 1e8 / 80e9 + 4 * 50e-6
    )
    assert outside.sync == pytest.approx((3 + 2 * 20) * 50e-6)
    # Hidden behind the backward pass but for the last of four buckets.
    assert outside.exposed == pytest.approx(outside.reduce / 4)
    assert inside.compute == outside.compute == predict(1).compute


def test_a_slow_network_is_not_hidden() -> None:
    slow = predict(64, outside=1e9)
    assert slow.exposed == pytest.approx(slow.reduce - 2 / 3 * slow.compute * 3 / 4)
    assert slow.step == pytest.approx(slow.compute + slow.exposed + slow.sync)


def test_few_cores_bound_the_step_by_its_input() -> None:
    starved = predict(8, cores=8)
    assert starved.bound == "input"
    assert starved.images_per_second == pytest.approx(8 * 400)
    assert predict(64, cores=8).images_per_second == pytest.approx(8 * 8 * 400)


def test_rows_compare_with_one_process() -> None:
    recipe = load_recipe("glif/imagenet-resnet18ms")
    rows = scaling.table(recipe, WORK, NODE, (1, 8, 64))
    assert [row["batch"] for row in rows] == [50, 400, 3200]
    efficiencies = [float(str(row["efficiency"])) for row in rows]
    assert efficiencies[0] == 1 > efficiencies[1] > efficiencies[2] > 0.9


def test_what_a_network_is_made_of_is_counted() -> None:
    recipe = load_recipe("dsr/digits", ["channels=4", "T=3"])
    work = scaling.count(recipe, DataSpec("digits", (1, 8, 8), tuple("0123456789")))
    stem = 4 * 8 * 8 * 9  # the image is the same at each step: computed once
    first = 2 * (4 * 8 * 8 * 9 * 4)
    second = 8 * 4 * 4 * 9 * 4 + 8 * 4 * 4 * 9 * 8 + 8 * 4 * 4 * 4
    head = 10 * 8
    assert work.multiplies == stem + 3 * (first + second + head)
    assert work.norms == 6 and work.parameters > 1000
    assert work.gradient_bytes == 4 * work.parameters
    assert math.isfinite(predict(8).step)


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
