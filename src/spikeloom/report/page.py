"""From run folders to one HTML file that needs nothing else."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from spikeloom import __version__
from spikeloom.errors import RunError
from spikeloom.report.comparison import compare
from spikeloom.report.confusion_section import confusion
from spikeloom.report.decision_section import decisions
from spikeloom.report.distribution_section import distributions
from spikeloom.report.examine import SAMPLES, Examination, examine
from spikeloom.report.html import Markup, join, tag, text
from spikeloom.report.layer_sections import layers
from spikeloom.report.network_sections import method_figures, operations, sample
from spikeloom.report.reading import Run, read
from spikeloom.report.run_sections import accuracy_row, headline, learning, recipe, status


def write(
    folders: Sequence[Path | str], output: Path | str | None = None, *, samples: int = SAMPLES
) -> Path:
    """Writes the report of one run, or of several side by side, and returns its path.

    Args:
        folders: Run folders; a run may still be going on, or have been killed.
        output: The file to write; `report.html` in the run folder for one run, in the current
            folder for several. It is replaced in one instant.
        samples: How many test samples the trained network sees at most (one run).

    Raises:
        RunError: no folder was given, one is not a run folder, or the file cannot be written.
    """
    if not folders:
        raise RunError("no run folder given: name at least one, as in runs/plif-digits/1")
    runs = [read(Path(folder)) for folder in folders]
    if len(runs) == 1:
        path = Path(output) if output else runs[0].folder / "report.html"
        page = single(runs[0], examine(runs[0], samples))
    else:
        path = Path(output) if output else Path("report.html")
        page = several(runs)
    _replace(path, page)
    return path


def single(run: Run, found: Examination | str) -> str:
    """The page about one run; `found` is what its network showed, or why it could not."""
    ended = run.end.confusion if run.end is not None else ()
    matrix, note = ended, "All test samples, at the epoch that is reported."
    classes: tuple[str, ...] = ()
    if isinstance(found, Examination):
        classes = found.classes
        if not ended:
            matrix = found.confusion
            note = f"{found.samples:,} test samples, with the best weights so far."
    return _page(
        run.title,
        accuracy_row(run),
        _header(
            run.title,
            join([tag("code", run.origin), f" · {run.name}"]),
            status(run),
        ),
        _problems([run]),
        headline(run),
        _remarks(run),
        learning(run),
        layers(run),
        distributions(found),
        sample(found),
        decisions(found.decisions, classes) if isinstance(found, Examination) else "",
        confusion(matrix, classes, note=note),
        operations(found),
        method_figures(found),
        recipe(run),
    )


def several(runs: Sequence[Run]) -> str:
    """The page that compares runs."""
    title = f"{len(runs)} runs"
    return _page(
        title,
        "; ".join(accuracy_row(run) for run in runs),
        _header(title, "side by side", ""),
        _problems(runs),
        compare(runs),
    )


def _page(title: str, description: str, *content: object) -> str:
    style = (files("spikeloom.report") / "style.css").read_text(encoding="utf-8")
    # default-src 'none' makes the promise of a self-contained file one that the browser keeps.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = join(
        [
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Markup('<meta name="color-scheme" content="light dark">'),
            Markup('<link rel="icon" href="data:,">'),
            tag("title", f"{title} · spikeloom"),
            Markup(f'<meta name="description" content="{text(description)}">'),
            Markup(f"<style>{style}</style>"),
        ]
    )
    footer = tag("footer", tag("p", f"Written by spikeloom {__version__}."))
    body = tag("body", tag("main", *content), footer)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


def _header(title: str, subtitle: object, state: object) -> Markup:
    return tag(
        "header",
        tag("p", "spikeloom report", class_="over"),
        tag("h1", title),
        tag("p", subtitle, " ", state, class_="subtitle"),
    )


def _problems(runs: Sequence[Run]) -> Markup:
    lines = [
        tag("li", f"{run.name}: {problem}" if len(runs) > 1 else problem)
        for run in runs
        for problem in run.problems
    ]
    return tag("ul", *lines, class_="problems") if lines else Markup()


def _remarks(run: Run) -> Markup:
    notes = str(run.setting("notes") or "").strip()
    return tag("p", notes, class_="remarks") if notes else Markup()


def _replace(path: Path, page: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"cannot write the report {path}: {error.strerror}; give another output file"
        ) from error
