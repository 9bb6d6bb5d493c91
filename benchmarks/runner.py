"""One runner for every family: agreement with the reference first, then time, then rows.

A family says of a case who competes, what must come out, and what the times mean (`Trial`); it
times nothing itself.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.timing import Run, Timing, clock_name, timings

Row = dict[str, object]
Times = Mapping[str, Mapping[str, Timing]]
"""By contender, then by what was timed."""


class Results(NamedTuple):
    """What a contender computed: its spikes (None where they are not what is compared), and
    gradients and other real values by name.
    """

    spikes: Tensor | None
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Tolerance:
    """How far from the reference a contender may be.

    `spikes`: the share that may differ: rounding carries a few neurons over the threshold.
    `gradients`: the largest error, in units of the largest value. With `elementwise` a gradient has
    one value for each spike, and neurons whose spikes differ are left out; without it the error is
    that of the whole tensor, in units of its norm.
    """

    spikes: float = 1e-5
    gradients: float = 1e-4
    elementwise: bool = True


@dataclass(frozen=True)
class Contender:
    """Somebody to be timed: runs by the name of what they measure, and results to be checked.

    Without `results` it is a floor: it leaves something out on purpose, and is no contender for the
    function. `about`: columns of its own.
    """

    name: str
    runs: Mapping[str, Run]
    results: Callable[[], Results] | None = None
    about: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One case, ready to be measured.

    `columns` name the case in every row; `expected` is the reference, named in the column
    `reference`; `figures` turns the times into a contender's columns; `absent` says of contenders
    why they have no figure; contenders in `unlisted` are timed and get no row.
    """

    columns: Row
    contenders: Sequence[Contender]
    reference: str
    expected: Callable[[], Results]
    figures: Callable[[str, Times], Row]
    tolerance: Tolerance = Tolerance()
    absent: Mapping[str, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    device: str = "cpu"
    variants: Mapping[str, Callable[[], Results]] = field(default_factory=dict)
    """Other functions that a peer may compute instead, by the words that say so: a peer that agrees
    with one is timed, and its row says with which."""


def measure(trial: Trial, rounds: int) -> list[Row]:
    """A row for each contender, in their order, then one for each that is absent.

    The column `note` of a row without figures says why it has none: by how much its results differ
    from the reference, or how it failed.
    """
    expected = trial.expected()
    notes: dict[str, str] = {}
    fair: list[Contender] = []
    for contender in trial.contenders:
        verdict = _verdict(contender, trial, expected)
        if verdict.timed:
            fair.append(contender)
        if verdict.note:
            notes[contender.name] = verdict.note
    del expected
    keys = [(contender.name, part) for contender in fair for part in contender.runs]
    runs = [contender.runs[part] for contender in fair for part in contender.runs]
    times: dict[str, dict[str, Timing]] = {}
    clock = clock_name(trial.device)
    for (name, part), timing in zip(keys, timings(runs, rounds, clock), strict=True):
        times.setdefault(name, {})[part] = timing
    rows: list[Row] = []
    for contender in trial.contenders:
        if contender.name in trial.unlisted:
            continue
        row = trial.columns | {"contender": contender.name} | contender.about
        row["reference"] = trial.reference if contender.results else ""
        if contender.name in times:
            row |= trial.figures(contender.name, times)
            row |= {"clock": clock} | _peak(contender, trial.device)
        rows.append(row | {"note": notes.get(contender.name, "")})
    rows += [
        trial.columns | {"contender": name, "note": f"absent: {why}"}
        for name, why in trial.absent.items()
    ]
    return rows


class _Verdict(NamedTuple):
    timed: bool
    note: str


def _verdict(contender: Contender, trial: Trial, expected: Results) -> _Verdict:
    if contender.results is None:
        return _Verdict(True, "")
    try:
        got = contender.results()
    except Exception as error:  # whatever a library raises, the others are still measured
        first = (str(error).splitlines() or [""])[0]
        return _Verdict(False, f"not timed: {type(error).__name__}: {first[:160]}")
    problem = disagreement(got, expected, trial.tolerance)
    if problem is None:
        return _Verdict(True, "")
    for words, variant in trial.variants.items():
        if disagreement(got, variant(), trial.tolerance) is None:
            return _Verdict(True, f"{words}: {problem}")
    return _Verdict(False, f"not timed: {problem}")


def disagreement(got: Results, wanted: Results, tolerance: Tolerance) -> str | None:
    """Why a contender does not compute the reference's function, or None."""
    same = None
    if got.spikes is not None and wanted.spikes is not None:
        if got.spikes.shape != wanted.spikes.shape:
            return f"its output is {list(got.spikes.shape)}, not {list(wanted.spikes.shape)}"
        same = got.spikes == wanted.spikes.to(got.spikes.dtype)
        differing = 1 - same.double().mean().item()
        if not differing <= tolerance.spikes:
            return f"{differing:.2%} of its spikes differ from the reference"
    for name, want in wanted.gradients.items():
        error = got.gradients[name].to(want.dtype) - want
        if tolerance.elementwise and same is not None:
            # a spike within rounding of the threshold changes the gradient of its neuron
            error = error * same.all(0).expand(want.shape)
            off = (error.abs().max() / want.abs().max().clamp_min(1e-30)).item()
        else:
            off = (error.norm() / want.norm().clamp_min(1e-30)).item()
        if not off <= tolerance.gradients:
            unit = "the largest" if tolerance.elementwise else "its norm"
            return f"its gradient of {name} is off by {off:.1e} of {unit}"
    return None


def _peak(contender: Contender, device: str) -> Row:
    """On CUDA, the megabytes that the last of the contender's runs takes at most."""
    if torch.device(device).type != "cuda":
        return {}
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    list(contender.runs.values())[-1]()
    torch.cuda.synchronize()
    return {"peak_mb": round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)}
