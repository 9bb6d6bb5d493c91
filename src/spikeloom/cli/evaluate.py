"""`spikeloom eval`: test accuracy, firing rates, latency, and operations of a trained run."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeloom import files
from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table
from spikeloom.errors import ConfigError, RunError

if TYPE_CHECKING:
    from spikeloom.analysis.decisions import Decisions
    from spikeloom.evaluation.evaluation import CheckpointName
    from spikeloom.evaluation.speed import Speed
    from spikeloom.training import Evaluation


FORMATS = (".svg", ".png", ".pdf")
DELAYS = (50, 90)  # percent of the highest accuracy over time whose delays are shown
WORST = 10  # classes that are shown, those with the lowest accuracy


def evaluate(
    folder: options.RunFolder,
    checkpoint: options.Checkpoint = "best",
    noise: Annotated[
        float,
        typer.Option(metavar="SIGMA", help="Deviation of Gaussian noise on the normalised inputs."),
    ] = 0.0,
    timesteps: Annotated[
        str | None,
        typer.Option(
            metavar="1,2,5",
            help="Show the accuracy of the votes after these numbers of steps; more than the "
            "recipe's T for images.",
        ),
    ] = None,
    T: options.Steps = None,
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate", help="Interpolate parameters that neurons have for each time step."
        ),
    ] = False,
    mirrored: Annotated[
        bool,
        typer.Option(
            "--mirrored", help="Also the accuracy with the scores of each mirror image added."
        ),
    ] = False,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency", help="Also time samples one by one; kept in the run folder as latency.json"
        ),
    ] = False,
    device: options.Device = "auto",
    root: options.Root = None,
    as_json: options.Json = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also write every figure to this file.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also draw accuracy over time steps into this .svg, .png, or .pdf."),
    ] = None,
) -> None:
    """Measure a trained run on the test samples of its data set."""
    steps = _numbers(timesteps)
    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot {plot}: give a file that ends in {', '.join(FORMATS)}")

    from spikeloom import training

    def measured(steps: int | None, *, mirrored: bool) -> "Evaluation":
        return training.evaluate(
            folder,
            checkpoint,
            noise=noise,
            timesteps=steps,
            interpolate=interpolate,
            mirrored=mirrored,
            device=device,
            root=root,
        )

    result = measured(T, mirrored=mirrored)
    accuracies = result.accuracy_per_timestep
    if T is None and steps and 0 < len(accuracies) < steps[-1] and _shows_images(folder):
        # An image can be shown for longer: the first steps are the same, and more follow.
        accuracies = measured(steps[-1], mirrored=False).accuracy_per_timestep
    votes = _after(accuracies, steps)
    speed = _timed(folder, checkpoint, T, device, root) if latency else None
    figures = _as_dict(result, votes, noise) | {"latency": None if speed is None else asdict(speed)}
    if as_json:
        print_json(figures)
    else:
        _print(folder, result, votes, noise)
        if speed is not None:
            typer.echo(str(speed))
    if csv is not None:
        _write_csv(csv, figures)
    if plot is not None:
        _draw(plot, votes, folder)


def _timed(
    folder: Path, checkpoint: "CheckpointName", T: int | None, device: str, root: Path | None
) -> "Speed":
    """Latency at batch 1, kept beside the run where it is of the run as it was trained."""
    from spikeloom.evaluation.evaluation import load_run
    from spikeloom.evaluation.speed import keep, measure_speed

    run = load_run(folder, checkpoint, timesteps=T, device=device, root=root)
    speed = measure_speed(run)
    if T is None:
        keep(folder, speed)
    return speed


def _draw(path: Path, votes: dict[int, float], folder: Path) -> None:
    from matplotlib.figure import Figure

    from spikeloom.evaluation.evaluation import recipe_of
    from spikeloom.plot import latency

    recipe = recipe_of(folder)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    trained_at = getattr(recipe.network, "T", None)
    latency(votes, title=recipe.title, trained_at=trained_at, ax=figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _shows_images(folder: Path) -> bool:
    """Whether the run's samples are images; a recording has no more frames than it was cut into."""
    from spikeloom.data import source
    from spikeloom.evaluation.evaluation import recipe_of

    return source(recipe_of(folder).data.name).events is None


def _numbers(text: str | None) -> list[int] | None:
    """The numbers of time steps that were asked for; None for all."""
    if text is None:
        return None
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise ConfigError(f"--timesteps {text}: expected numbers of steps such as 1,2,5")
    return numbers


def _after(accuracies: list[float], steps: list[int] | None) -> dict[int, float]:
    """Accuracy by number of time steps."""
    every = dict(enumerate(accuracies, start=1))
    if steps is None:
        return every
    if steps[-1] > len(every):
        has = f"votes for 1 to {len(every)} steps" if every else "no votes per time step"
        raise ConfigError(f"--timesteps {steps[-1]}: this network has {has}")
    return {step: every[step] for step in steps}


def _as_dict(result: "Evaluation", votes: dict[int, float], noise: float) -> dict[str, Any]:
    operations = result.operations
    return {
        "checkpoint": result.checkpoint,
        "epochs": result.epochs,
        "samples": result.samples,
        "noise": noise,
        "loss": result.loss,
        "accuracy": result.accuracy,
        "mirrored_accuracy": result.mirrored_accuracy,
        "top5_accuracy": result.top5_accuracy,
        "accuracy_after_timesteps": votes,
        "firing_rates": result.firing_rates,
        "spikes_per_sample": result.spikes,
        "neurons": result.neurons,
        "spikes_per_neuron": result.spikes_per_neuron,
        "decisions": None if result.decisions is None else decision_figures(result.decisions),
        "confusion": result.confusion.tolist(),
        "accuracy_by_class": dict(zip(result.classes, result.accuracy_by_class, strict=False)),
        "operations": {
            "layers": [
                {**asdict(layer), "picojoule": layer.picojoule} for layer in operations.layers
            ],
            "accumulates": operations.accumulates,
            "multiplies": operations.multiplies,
            "picojoule": operations.picojoule,
            "dense_picojoule": operations.dense_picojoule,
            "assumptions": operations.assumptions,
        },
    }


def head(folder: Path, result: "Evaluation", condition: str) -> None:
    """What was measured, under which condition, and how good it is."""
    about = str(folder)
    if result.epochs is not None:
        epochs = f"{result.epochs} epoch{'s' * (result.epochs != 1)}"
        about += f": checkpoint {result.checkpoint} after {epochs}"
    typer.echo(f"{about}, {result.samples:,} test samples{condition}")
    both = result.mirrored_accuracy
    mirrored = "" if both is None else f"   with mirror images {both:.2%}"
    top5 = "" if result.top5_accuracy is None else f"   top-5 {result.top5_accuracy:.2%}"
    typer.echo(f"accuracy {result.accuracy:.2%}{mirrored}{top5}   loss {result.loss:.5f}\n")


def print_layers(result: "Evaluation") -> None:
    """How often the neurons of each layer fire."""
    columns = ("neuron layer", "neurons", "firing rate", "spikes per sample", "per neuron")
    layers = [
        (
            layer,
            f"{result.neurons[layer]:,}",
            f"{rate:.4f}",
            f"{result.spikes[layer]:,.1f}",
            f"{result.spikes[layer] / max(result.neurons[layer], 1):.3f}",
        )
        for layer, rate in result.firing_rates.items()
    ]
    neurons, spikes = sum(result.neurons.values()), sum(result.spikes.values())
    each = f"{result.spikes_per_neuron:.3f}"
    total = ("all neurons", f"{neurons:,}", f"{result.rate:.4f}", f"{spikes:,.1f}", each)
    print_table(columns, [*layers, total])


def _print(folder: Path, result: "Evaluation", votes: dict[int, float], noise: float) -> None:
    head(folder, result, f", noise {noise:g}" * (noise > 0))
    by_class = sorted(zip(result.accuracy_by_class, result.classes, strict=False))
    if by_class:
        print_table(
            (f"class, {min(len(by_class), WORST)} of {len(by_class)}", "accuracy"),
            [(name, f"{accuracy:.2%}") for accuracy, name in by_class[:WORST]],
        )
    if votes:
        print_table(
            ("time steps", "accuracy"),
            [(str(steps), f"{accuracy:.2%}") for steps, accuracy in votes.items()],
        )
    if result.decisions is not None:
        print_decisions(result.decisions)
    print_layers(result)
    operations = result.operations
    rows = [
        (
            name,
            f"{count.synapses:,}",
            f"{count.accumulates:,.0f}",
            f"{count.multiplies:,.0f}",
            f"{count.picojoule / 1e6:.4f}",
        )
        for name, count in (
            *((layer.layer, layer) for layer in operations.layers),
            ("total", operations),
        )
    ]
    columns = ("layer", "synapses", "additions", "multiplications", "energy, uJ")
    print_table(columns, rows)
    typer.echo(f"the same network without spikes: {operations.dense_picojoule / 1e6:.4f} uJ")
    for name, spiking, dense, words in operations.lines():
        typer.echo(f"{name}: {spiking / 1e6:.4f} uJ against {dense / 1e6:.4f} uJ; {words}")
    typer.echo(operations.assumptions)


def decision_figures(decisions: "Decisions") -> dict[str, Any]:
    """Plain values by kind of decision, delays included (None if a delay is never reached)."""
    courses = {"first-spike": decisions.first_spike_course, "rate": decisions.rate_course}
    accuracies = {"first-spike": decisions.first_spike_accuracy, "rate": decisions.rate_accuracy}
    return {
        "silent_share": decisions.silent_share,
        "decision_step": decisions.decision_step if decisions.silent_share < 1 else None,
        "early_accuracy": decisions.early_accuracy,
        **{
            kind: {
                "accuracy": accuracies[kind],
                **{f"td_{percent}": _delay(course, percent) for percent in DELAYS},
                "predicted_rate": decisions.predicted_rates[kind],
                "other_rate": decisions.other_rates[kind],
                "accuracy_over_time": course,
            }
            for kind, course in courses.items()
        },
    }


def print_decisions(decisions: "Decisions") -> None:
    """A table with a row for either kind of decision, and a line about the first spikes."""
    figures = decision_figures(decisions)
    columns = ("decision by", "accuracy", *(f"td_{p}" for p in DELAYS), "rate", "others' rate")
    rows = []
    for kind in ("first-spike", "rate"):
        values = figures[kind]
        delays = [values[f"td_{percent}"] for percent in DELAYS]
        rows.append(
            (
                kind,
                f"{values['accuracy']:.2%}",
                *("never" if delay is None else str(delay) for delay in delays),
                f"{values['predicted_rate']:.4f}",
                f"{values['other_rate']:.4f}",
            )
        )
    print_table(columns, rows)
    early = f"the first output spike decides {decisions.early_accuracy:.2%} of the samples rightly"
    step = figures["decision_step"]
    when = "" if step is None else f", in step {step:.1f} on average"
    typer.echo(f"{early}{when}; {decisions.silent_share:.2%} are silent")
    typer.echo(
        f"td_p: first step, from 0, with p % of the highest of {len(decisions.rate_course)} steps\n"
    )


def _write_csv(path: Path, figures: dict[str, Any]) -> None:
    """The figures, without those of tables of their own, as rows `figure, of, value`."""
    left_out = ("checkpoint", "confusion", "operations")
    shown = {name: value for name, value in figures.items() if name not in left_out}
    try:
        files.deliver_csv(path, [("figure", "of", "value"), *_rows("", shown)])
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}; give another file for --csv"
        ) from error


def _rows(prefix: str, figures: Mapping[Any, Any]) -> Iterator[tuple[str, object, object]]:
    """Of a table by layer, class or time step a row for each; other tables name their figures."""
    for name, value in figures.items():
        label = f"{prefix} {name}".strip().replace("_", " ")
        table = dict(enumerate(value, start=1)) if isinstance(value, list) else value
        if not isinstance(table, dict):
            yield label, "", value
        elif any(isinstance(item, dict | list) for item in table.values()):
            yield from _rows(name, table)
        else:
            yield from ((label, of, item) for of, item in table.items())


def _delay(course: list[float], percent: int) -> int | None:
    from spikeloom.analysis.decisions import time_delay

    delay = time_delay(course, percent)
    return int(delay) if delay < len(course) else None
