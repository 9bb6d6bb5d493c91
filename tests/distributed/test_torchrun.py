"""The command line under torchrun, as a user types it."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist

from run_folders import assert_same_run
from spikeloom.processes import launch

pytestmark = pytest.mark.distributed

TINY = ("epochs=2", "T=2", "channels=4", "hidden=16", "batch_size=200", "backend=eager")
OFTEN = ("tensorboard=false", "checkpoint.every_steps=1", "seed=3")

# Put in the way of every process: the second one of the first start dies in its fifth step.
KILLER = """
import os, signal
if os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
    from spikeloom.training.trainer import Trainer
    original, calls = Trainer.add_gradients, 0
    def killing(self, *given):
        global calls
        calls += 1
        if calls == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *given)
    Trainer.add_gradients = killing
"""


def torchrun(folder: Path, *arguments: str, options: tuple[str, ...] = ()) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "path")}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    answer = subprocess.run(
        [*command, "--nproc-per-node=2", *options, "-m", "spikeloom", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_what_torchrun_starts_again_goes_on_in_its_folder(tmp_path: Path) -> None:
    said = torchrun(tmp_path, "train", "plif/digits", *TINY, *OFTEN)
    assert said.count("run folder runs/plif-digits/1\n") == said.count("report runs/") == 1
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(KILLER)
    said = torchrun(tmp_path, "train", "plif/digits", *TINY, *OFTEN, options=("--max-restarts=1",))
    assert "run folder runs/plif-digits/2\n" in said
    assert "run folder runs/plif-digits/2, which this launch began before" in said
    assert "going on from last.pt: epoch 1, step 1 of 3" in said
    runs = tmp_path / "runs" / "plif-digits"
    assert sorted(path.name for path in runs.iterdir()) == ["1", "2"]
    assert_same_run(runs / "1", runs / "2")


def test_a_start_reads_nothing_of_the_starts_before_it() -> None:
    """Three processes join through one store again and again, the first of them first or last."""
    store, names = dist.HashStore(), set()
    for again in range(4):
        late = 0 if again % 2 else 2

        def join(rank: int, late: int = late) -> dist.Store:
            time.sleep(0.2 * (rank == late))
            return launch._of_this_start(store, rank, 3)

        with ThreadPoolExecutor(3) as pool:
            stores = list(pool.map(join, range(3)))
        assert all(not each.check(["address"]) for each in stores)
        stores[0].set("address", f"{again}")
        assert {each.get("address") for each in stores} == {f"{again}".encode()}
        names.add(store.get(launch._START))
    assert len(names) == 4
