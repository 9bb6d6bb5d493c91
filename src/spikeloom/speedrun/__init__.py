"""The speedrun: how long a spiking network of ours learns CIFAR-10 on a CPU, and how well.

An entry is a finished run of `METHOD/cifar10-compact` that keeps the rules of docs/speedrun.md. Its
record has what the table shows, and its log. Those of the committed entries are in `records`.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from spikeloom.errors import RunError
from spikeloom.run import reading

RECIPE = "cifar10-compact"
FOLDER = Path(__file__).parent / "records"
_TRAINING, _TEST = 50_000, 10_000
_HELD_OUT = 2_500


class _Epoch(BaseModel):
    """One line of an entry's log; accuracies are fractions, those of tests None where none was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    seconds: float
    train: float
    validation: float | None
    test: float | None


class SpeedrunEntry(BaseModel):
    """One run. Accuracies are fractions.

    `accuracy`: of the test set at `epoch`, counted from 0, which the validation set chose;
    `mirrored`: the same with the scores of image and mirror image added, which is no part of the
    entry. `seconds` of wall time, and `cpu_seconds` of all threads, evaluations and all restarts
    included. `spikes`: of all neurons, for one test sample; 0 of an ANN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    method: str
    command: str
    accuracy: float
    mirrored: float
    validation: float
    epoch: int
    epochs: int
    seconds: float
    cpu_seconds: float | None
    time_steps: int | None
    parameters: int
    spikes: float
    training_samples: int
    machine: str
    threads: int
    versions: str
    started: str
    log: tuple[_Epoch, ...]


def entries() -> list[SpeedrunEntry]:
    """The committed ones, the best first."""
    records = [
        SpeedrunEntry.model_validate_json(path.read_bytes()) for path in FOLDER.glob("*.json")
    ]
    return sorted(records, key=lambda entry: -entry.accuracy)


def entry_of(folder: Path) -> SpeedrunEntry:
    """The record of a finished run; the network is evaluated anew.

    Where it began with an ANN (DSR's hybrid), times, epochs and commands are those of both runs,
    and of the calibration between them.

    Raises:
        RunError: the run is not finished, or is no entry by the rules; or the ANN's run is not; or
            its thresholds are not those of `spikeloom calibrate`.
    """
    run = _finished(folder)
    ann = run.setting("network.ann")
    runs = [run] if ann is None else [_finished(Path(ann)), run]
    if len({part.setting("protocol.val_ratio") for part in runs}) > 1:
        raise RunError(
            f"{folder} is no entry of the speedrun: its ANN was trained with another "
            "protocol.val_ratio, so on images that this run held out"
        )
    ends = [part.end for part in runs if part.end is not None]
    best = ends[-1].best
    wall = [end.seconds or 0.0 for end in ends]
    cpu = [end.cpu_seconds for end in ends if end.cpu_seconds is not None]
    # The ANN's run is named by those that follow it.
    commands = [run.command] if ann is None else [f"{runs[0].command} --out {ann}", run.command]
    if (thresholds := run.setting("network.thresholds")) is not None:
        calibration = _calibration(Path(thresholds))
        wall.append(float(calibration["seconds"]))
        cpu.append(float(calibration["cpu_seconds"]))
        commands.insert(-1, calibration["command"])

    from spikeloom.evaluation.evaluation import evaluate

    result = evaluate(folder, mirrored=True)
    assert best is not None and result.mirrored_accuracy is not None
    facts, passed, log = run.environment, 0.0, list[_Epoch]()
    for epoch in run.epochs:
        passed += epoch.seconds
        log.append(
            _Epoch(
                epoch=epoch.epoch,
                seconds=round(passed, 1),
                train=round(epoch.train_accuracy, 4),
                validation=None if epoch.val is None else epoch.val.accuracy,
                test=None if epoch.test is None else epoch.test.accuracy,
            )
        )
    return SpeedrunEntry(
        title=run.title,
        method=str(run.setting("method")),
        command=" && ".join(commands),
        accuracy=result.accuracy,
        mirrored=result.mirrored_accuracy,
        validation=best.value,
        epoch=best.epoch,
        epochs=sum(len(part.epochs) for part in runs),
        seconds=round(sum(wall), 1),
        cpu_seconds=round(sum(cpu), 1) if len(cpu) == len(wall) else None,
        time_steps=run.time_steps,
        parameters=run.start.parameters or 0,
        spikes=round(sum(result.spikes.values()), 1),
        training_samples=run.start.train_samples or 0,
        machine=str(facts["processor"]),
        threads=int(facts["threads"]),
        versions=f"spikeloom {facts['spikeloom']}, torch {facts['torch']}",
        started=str(facts["started"]),
        log=tuple(log),
    )


def _calibration(path: Path) -> dict[str, str]:
    """How the thresholds in `path` came about: command and times."""
    from spikeloom.methods.dsr.thresholds import facts_of

    facts = facts_of(path)
    if not facts.keys() >= {"command", "seconds", "cpu_seconds"}:
        raise RunError(f"{path} does not say how it was made: write it with `spikeloom calibrate`")
    return facts


def _finished(folder: Path) -> reading.RunRecord:
    """A run that is at its end and keeps the rules."""
    run = reading.read(folder)
    if run.end is None or run.end.best is None or run.end.seconds is None:
        raise RunError(f"{folder} is not finished: `spikeloom resume {folder}` goes on")
    trained = run.start.train_samples or 0
    cifar10 = run.setting("data.name") == "cifar10" and run.start.test_samples == _TEST
    broken = {
        "its network is not `compact`": run.setting("network.name") != "compact",
        "its data are not the whole of CIFAR-10": not cifar10,
        "its protocol is not B": run.protocol != "B",
        f"it held out less than {_HELD_OUT:,} images": trained > _TRAINING - _HELD_OUT,
        "it started from trained weights": run.setting("start.name") is not None,
    }
    reasons = [reason for reason, is_so in broken.items() if is_so]
    if reasons:
        raise RunError(f"{folder} is no entry of the speedrun: {'; '.join(reasons)}")
    return run
