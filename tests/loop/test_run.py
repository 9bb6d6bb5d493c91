"""`sl.Run`: a loop of one's own is saved, resumed and reported as the trainer's runs are."""

import io
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn.functional import cross_entropy, mse_loss
from typer.testing import CliRunner

import spikeloom as sl
from spikeloom.cli.app import app
from spikeloom.errors import CheckpointError, ConfigError, NonFiniteError
from spikeloom.run import checkpoint
from spikeloom.run.reading import read, read_events

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_loop.py"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Stopped(Exception):
    pass


def samples(count: int = 48) -> torch.utils.data.TensorDataset:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % 3
    x = torch.rand(count, 6, generator=generator) + torch.eye(6)[labels * 2]
    return torch.utils.data.TensorDataset(x, labels)


def train(folder: Path, *, epochs: int = 3, stop_at: int = -1, screen: io.StringIO, **given):
    """A loop with everything that draws: shuffling, dropout, numpy and Python in the loop."""
    torch.manual_seed(0)
    net = sl.nn.Sequential(
        *(torch.nn.Linear(6, 16), sl.PLIF(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 3)),
        sl.LIF(),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    schedules = {
        "schedule": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]),
        "keep": {"plateau": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)},
    }
    loader = torch.utils.data.DataLoader(samples(), 8, shuffle=True)

    def answer(x: torch.Tensor) -> torch.Tensor:
        return net(3 * x.expand(4, *x.shape))

    run = sl.Run(
        folder, net, optimizer, **schedules, every_steps=4, console=Console(file=screen), **given
    )
    with run:
        for _ in run.epochs(epochs):
            for x, y in run.batches(loader):
                noise = np.random.rand() + random.random()  # noqa: NPY002
                output = answer(x + 0.1 * noise)
                loss = cross_entropy(4 * output.mean(0), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log(loss, output, y, noise=noise)
                if run.position.global_step == stop_at:
                    raise Stopped
            schedules["schedule"].step()
            schedules["keep"]["plateau"].step(loss.item())
            run.evaluate(answer, loader)
    return net


def kept(folder: Path) -> dict:
    state = checkpoint.read(folder / "checkpoints" / "last.pt")
    return {k: v for k, v in state.items() if not k.endswith(("_seconds", "_bytes"))}


def told(folder: Path) -> list:
    """The record, without what the wall clock says."""
    events = read_events(folder / "metrics.jsonl")
    return [
        {k: v for k, v in e.items() if k not in ("seconds", "cpu_seconds", "peak_memory_mb")}
        for e in events
    ]


def test_stopped_inside_an_epoch_it_ends_with_the_same_bits(tmp_path: Path):
    screen = io.StringIO()
    whole = train(tmp_path / "whole", screen=screen)
    with pytest.raises(Stopped):
        train(tmp_path / "cut", screen=screen, stop_at=10)  # the last checkpoint is of step 8
    cut = train(tmp_path / "cut", screen=screen)
    assert "going on from last.pt: epoch 1, step 2" in screen.getvalue()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, cut.state_dict()[name]), name
    one, other = kept(tmp_path / "whole"), kept(tmp_path / "cut")
    assert one.keys() == other.keys()
    assert one["callbacks"] == other["callbacks"] and one["recipe"] == other["recipe"].replace(
        '"cut"', '"whole"'
    )
    differing = [
        (a, b)
        for a, b in zip(told(tmp_path / "whole"), told(tmp_path / "cut"), strict=True)
        if {**a, "recipe": ""} != {**b, "recipe": ""}
    ]
    assert differing == []


def test_more_epochs_go_on_and_other_settings_are_refused(tmp_path: Path):
    screen = io.StringIO()
    train(tmp_path / "run", epochs=1, screen=screen, settings={"T": 4})
    train(tmp_path / "run", epochs=2, screen=screen, settings={"T": 4})
    assert len(read(tmp_path / "run").epochs) == 2
    with pytest.raises(CheckpointError, match=r"settings.T = 4 there, 5 here"):
        train(tmp_path / "run", epochs=2, screen=screen, settings={"T": 5})


def test_the_command_line_reads_it(tmp_path: Path):
    folder = tmp_path / "run"
    train(folder, epochs=2, screen=io.StringIO())
    page = (folder / "report.html").read_text()
    assert "own-loop" in page and "Spikes" in page and "Energy in three lines" in page
    (row,) = sl.compare([folder])
    assert row["spikes_per_sample"] > 0 and row["energy_nj"] > 0 and row["T"] == 4
    assert row["test_samples"] == 48 and not row["note"]
    run = CliRunner().invoke
    assert run(app, ["report", str(folder)]).exit_code == 0
    assert "accuracy" in run(app, ["doctor", str(folder)]).output
    for verb in ("eval", "resume", "predict"):
        with pytest.raises(ConfigError, match="your own loop"):
            arguments = [verb, str(folder)] + ["x.png"] * (verb == "predict")
            run(app, arguments, catch_exceptions=False, standalone_mode=False)


def test_a_regression_reports_r2(tmp_path: Path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    x = samples().tensors[0]
    batches = [(x, x[:, :1] * 2)]
    quiet = Console(file=io.StringIO())
    with sl.Run(tmp_path / "run", net, optimizer, console=quiet) as run:
        for epoch in run.epochs(30):
            for inputs, targets in run.batches(iter(batches)):
                loss = mse_loss(net(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log(loss, net(inputs), targets)
            found = run.evaluate(net, batches, loss=mse_loss)
            if epoch == 20:
                run.stop()
    assert len(read(tmp_path / "run").epochs) == 21
    assert run.best is not None and run.best.metric == "test r2"
    assert found.errors["mse"] == pytest.approx(found.loss, rel=1e-5)
    assert "r2" in (tmp_path / "run" / "report.html").read_text()


def test_generators_that_a_loader_and_a_program_were_given_go_on(tmp_path: Path):
    quiet = Console(file=io.StringIO())

    def orders(folder: Path, *, stop_in: int = -1) -> list[list]:
        """What each epoch saw: the order of the samples, and the program's own random numbers."""
        net = torch.nn.Linear(6, 3)
        own = torch.Generator().manual_seed(5)
        numpys = np.random.default_rng(5)
        loader = torch.utils.data.DataLoader(
            samples(), 16, shuffle=True, generator=torch.Generator().manual_seed(1)
        )
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        keep = {"own": own, "numpys": numpys}
        seen = []
        with sl.Run(folder, net, optimizer, keep=keep, console=quiet, write_report=False) as run:
            for epoch in run.epochs(4):
                if epoch == stop_in:
                    return seen
                seen.append([torch.rand((), generator=own).item(), numpys.random()])
                for x, y in run.batches(loader):
                    seen[-1].append(x[:, 0].tolist())
                    run.log(cross_entropy(net(x), y), net(x), y)
        return seen

    whole = orders(tmp_path / "whole")
    assert whole[0][2:] != whole[1][2:]
    assert orders(tmp_path / "cut", stop_in=2) + orders(tmp_path / "cut") == whole


def test_what_can_not_be_kept_or_recorded_is_named_at_once(tmp_path: Path):
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="noise is a Random: give what has state_dict"):
        sl.Run(tmp_path / "run", net, optimizer, keep={"noise": random.Random()})
    quiet = Console(file=io.StringIO())
    x, y = torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)
    for figure in (torch.nan, float("inf"), torch.ones(2), "much", None):
        with (
            sl.Run(tmp_path / "run", net, optimizer, console=quiet) as run,
            pytest.raises(ConfigError, match=r"log\(penalty=.*\): give a finite number"),
        ):
            for _ in run.epochs(1):
                for inputs, targets in run.batches([(x, y)]):
                    run.log(cross_entropy(net(inputs), y), net(inputs), targets, penalty=figure)


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path):
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = torch.full((4, 2), torch.inf), torch.zeros(4, dtype=torch.int64)
    quiet = Console(file=io.StringIO())
    with (
        pytest.raises(NonFiniteError, match=r"the loss is nan in epoch 0, step 0: no checkpoint"),
        sl.Run(tmp_path / "run", net, optimizer, console=quiet) as run,
    ):
        for _ in run.epochs(1):
            for inputs, targets in run.batches([(x, y)]):
                run.log(cross_entropy(net(inputs), targets), net(inputs), targets)


def test_the_example_ends_the_same_when_it_is_killed(tmp_path: Path):
    command = [sys.executable, str(EXAMPLE)]
    killed = subprocess.Popen([*command, str(tmp_path / "killed"), "3"], stdout=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and b'"epoch"' in metrics.read_bytes()):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.05)  # into the second epoch
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not read(tmp_path / "killed").finished
    for name in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / name), "3"], check=True, stdout=subprocess.DEVNULL)
    one, other = kept(tmp_path / "whole"), kept(tmp_path / "killed")
    assert all(torch.equal(one["model"][k], other["model"][k]) for k in one["model"])
    best = read(tmp_path / "killed").best
    assert best is not None and best.test_accuracy > 0.7
    assert told(tmp_path / "whole")[1:] == told(tmp_path / "killed")[1:]
