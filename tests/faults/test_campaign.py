"""The fault campaign: real processes, killed; real disks, too small. `make test-faults` runs it.

FAULT_SEED repeats a campaign; without it every campaign is another one. What each part did and
found is appended to the file that FAULT_RECORD names, one JSON object a line; `python summary.py
FILE` adds them up.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LIMIT = 1500  # seconds


def run(program: str, *arguments: str | Path, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    """Runs a program of this folder, its output shown; the JSON that it printed last."""
    paths = [str(HERE.parent), *(path for path in sys.path if path)]
    lines = []
    with subprocess.Popen(
        [*prefix, sys.executable, str(HERE / program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    assert process.returncode == 0
    if record := os.environ.get("FAULT_RECORD"):
        with Path(record).open("a") as file:
            file.write(json.dumps({"program": program} | json.loads(lines[-1])) + "\n")
    return json.loads(lines[-1])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for a thousand small files, given back at once."""
    yield tmp_path / "campaign"
    shutil.rmtree(tmp_path / "campaign", ignore_errors=True)


def seed() -> str:
    return os.environ.get("FAULT_SEED", str(random.SystemRandom().randrange(10**6)))


def check(found: dict[str, Any], kills: int) -> None:
    assert found["failures"] == []
    assert found["kills"] >= kills and 0 < found["runs"] <= found["kills"]
    assert found["most_steps_lost"] <= found["interval"]


KILLS = {
    "plif/digits": 90,
    "plif/digits-events": 30,
    "glif/digits": 60,
    "dsr/digits": 60,
    "ide/digits": 60,
    "fs/digits-events": 60,
}
TWO_PROCESSES = {"plif/digits": 30, "dsr/digits": 15}


@pytest.mark.faults
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize(("recipe", "kills"), KILLS.items())
def test_every_killed_run_becomes_the_one_that_nobody_disturbed(place, recipe, kills):
    found = run("campaign.py", place, "--recipe", recipe, "--kills", kills, "--seed", seed())
    check(found, kills)
    assert len(found["by_phase"]) >= 6


@pytest.mark.faults
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize(("recipe", "kills"), TWO_PROCESSES.items())
def test_every_killed_launch_of_two_processes_ends_the_same(place, recipe, kills):
    found = run("elastic.py", place, "--recipe", recipe, "--kills", kills, "--seed", seed())
    assert found["failures"] == [] and found["kills"] >= kills


def test_one_killed_run_of_every_campaign(place):
    check(run("campaign.py", place, "--kills", "1", "--seed", "5"), 1)


@pytest.mark.faults
@pytest.mark.timeout(LIMIT)
def test_disks_that_are_full_or_read_only(place):
    prefix = ("unshare", "--map-root-user", "--mount")
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("no disk can be mounted here without rights")
    found = run("storage.py", place, prefix=prefix)
    assert found["full_disks"] > 10 and found["read_only"] == 2
    assert found["told"]["checkpoint"] > 5
