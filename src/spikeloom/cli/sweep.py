"""`spikeloom sweep`: one recipe with every combination of values, resumable, in parallel."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli import options
from spikeloom.cli.compare import print_rows
from spikeloom.errors import ConfigError, RunError


def sweep(
    recipe: options.Recipe,
    values: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE[,VALUE...]...", help="As lr=1e-3,3e-3 seed=1,2,3."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs; default: runs/<recipe>-sweep.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at the same time, each with its share of the cores.")
    ] = 1,
    search: Annotated[
        int | None,
        typer.Option(
            min=1, help="Instead of all combinations: this many, chosen by Optuna among the values."
        ),
    ] = None,
) -> None:
    """Train a recipe with every combination of the values, and compare the runs.

    Given again, the sweep goes on: finished runs are kept, unfinished ones resumed.
    """
    from spikeloom.methods.catalog import load_recipe
    from spikeloom.report.page import write_examined
    from spikeloom.report.summary import examined, summary, write_csv

    choices = [_choices(text) for text in values]
    points = list(itertools.product(*choices))
    for point in points:  # all mistakes before the first training
        load_recipe(recipe, point)
    folder = (
        out or Path("runs") / f"{load_recipe(recipe, points[0]).origin.replace('/', '-')}-sweep"
    )
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def run(point: Sequence[str]) -> Path:
        place = folder / (",".join(point).replace("/", "-") or "run")
        _train(recipe, point, place, threads)
        return place

    if search is None:
        typer.echo(f"{len(points)} runs in {folder}, {jobs} at a time")
        with ThreadPoolExecutor(jobs) as pool:
            places = list(pool.map(run, points))
    else:
        places = list(dict.fromkeys(_searched(choices, search, run)))
    runs, examinations = examined(places)
    rows = list(map(summary, runs, examinations))
    print_rows(runs, rows)
    write_csv(folder / "sweep.csv", rows)
    typer.echo(f"table {folder / 'sweep.csv'}")
    if len(places) > 1:
        typer.echo(f"report {write_examined(runs, examinations, folder / 'report.html')}")
    if not all(record.finished for record in runs):
        raise typer.Exit(1)


def _choices(text: str) -> list[str]:
    """ "lr=1,2" -> ["lr=1", "lr=2"]; a list in brackets is one value."""
    key, equals, values = text.partition("=")
    if not equals or not values:
        raise ConfigError(f"{text}: expected KEY=VALUE or KEY=VALUE,VALUE,... as in lr=1e-3,3e-3")
    if values.startswith(("[", "{", '"')):
        return [text]
    return [f"{key}={value}" for value in values.split(",")]


def _train(recipe: str, point: Sequence[str], place: Path, threads: int) -> None:
    """Trains in a process of its own, or goes on with what is there."""
    from spikeloom.run.reading import read

    command = [sys.executable, "-m", "spikeloom"]
    if (place / "recipe.toml").is_file():
        if read(place).finished:
            typer.echo(f"{place.name}: finished before")
            return
        command += ["resume", str(place), "--no-report"]
    else:
        own_threads = any(item.partition("=")[0].endswith("threads") for item in point)
        given = [*point] if own_threads else [*point, f"training.threads={threads}"]
        command += ["train", recipe, *given, "--out", str(place), "--no-report"]
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{place.name}.log").open("ab") as log:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    state = "finished" if code.returncode == 0 else f"failed, see {place.name}.log"
    typer.echo(f"{place.name}: {state}")
    if not (place / "recipe.toml").is_file():
        raise RunError(f"{place.name} did not start: see {place.parent / place.name}.log")


def _searched(
    choices: Sequence[Sequence[str]], count: int, run: Callable[[Sequence[str]], Path]
) -> Iterator[Path]:
    """`count` runs whose values Optuna chooses by the accuracies so far."""
    from spikeloom.run.reading import read

    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError('--search needs Optuna: pip install "spikeloom[sweep]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    for _ in range(count):
        trial = study.ask()
        names = [values[0].partition("=")[0] for values in choices]
        point = [
            trial.suggest_categorical(name, list(values))
            for name, values in zip(names, choices, strict=True)
        ]
        place = run(point)
        best = read(place).best
        study.tell(trial, 0.0 if best is None else best.test_accuracy)
        yield place
