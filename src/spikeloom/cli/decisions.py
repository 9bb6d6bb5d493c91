"""The part of `spikeloom eval` about decisions by first spike and by rate; all figures as CSV."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from spikeloom import files
from spikeloom.cli.output import print_table
from spikeloom.errors import RunError

if TYPE_CHECKING:
    from spikeloom.analysis.decisions import Decisions
    from spikeloom.training import Evaluation

DELAYS = (50, 90)
"""Percent of the highest accuracy over time whose delays are shown."""


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
    print_table(columns, rows, right=columns[1:])
    early = f"the first output spike decides {decisions.early_accuracy:.2%} of the samples rightly"
    step = figures["decision_step"]
    when = "" if step is None else f", in step {step:.1f} on average"
    typer.echo(f"{early}{when}; {decisions.silent_share:.2%} are silent")
    typer.echo(
        f"td_p: first step, from 0, with p % of the highest of {len(decisions.rate_course)} steps\n"
    )


def write_figures(path: Path, result: "Evaluation") -> None:
    """Every figure of an evaluation as rows `figure, of, value`."""
    rows: list[tuple[str, object, object]] = [
        ("samples", "", result.samples),
        ("epochs", "", result.epochs),
        ("loss", "", result.loss),
        ("accuracy", "", result.accuracy),
        ("spikes per neuron", "", result.spikes_per_neuron),
    ]
    layers = {
        "neurons": result.neurons,
        "spikes per sample": result.spikes,
        "firing rate": result.firing_rates,
    }
    rows += [(name, layer, v) for name, values in layers.items() for layer, v in values.items()]
    rows += [
        ("accuracy after steps", step, value)
        for step, value in enumerate(result.accuracy_per_timestep, start=1)
    ]
    if result.decisions is not None:
        rows += _flat("", decision_figures(result.decisions))
    try:
        files.deliver_csv(path, [("figure", "of", "value"), *rows])
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}; give another file for --csv"
        ) from error


def _flat(prefix: str, figures: dict[str, Any]) -> list[tuple[str, object, object]]:
    rows: list[tuple[str, object, object]] = []
    for name, value in figures.items():
        label = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            rows += _flat(name, value)
        elif isinstance(value, list):
            rows += [(label, step, item) for step, item in enumerate(value, start=1)]
        else:
            rows.append((label, "", "" if value is None else value))
    return rows


def _delay(course: list[float], percent: int) -> int | None:
    from spikeloom.analysis.decisions import time_delay

    delay = time_delay(course, percent)
    return int(delay) if delay < len(course) else None
