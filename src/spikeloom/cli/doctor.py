"""`spikeloom doctor`: whether this machine can train, and what to do if not."""

import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from spikeloom.cli import options
from spikeloom.cli.data import folder_of
from spikeloom.cli.output import print_json, print_table


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `advice` says what to do unless it is fine."""

    subject: str
    state: Literal["ok", "note", "broken"]
    detail: str
    advice: str = ""


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(help="A run folder: explain that run instead of this machine.")
    ] = None,
    as_json: options.Json = False,
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels", help="Instead: every compiled neuron against float64 (minutes of a core)."
        ),
    ] = False,
) -> None:
    """Look at versions, devices, the kernel cache, a compiled neuron, and data sets; or at a run.

    Exit code 1 if something is broken.
    """
    if kernels:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if any(row["note"] for row in list(print_agreement(device))):
            raise typer.Exit(1)
        return
    findings = list(examine() if folder is None else examine_run(folder))
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            typer.echo(f"{finding.state:<6}  {finding.subject:<{width}}  {finding.detail}")
            if finding.advice:
                typer.echo(f"{'':<{width + 10}}{finding.advice}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def print_agreement(
    device: str, backend: str = "auto", small: bool = False
) -> "Iterator[dict[str, object]]":
    """The rows of `analysis.agreement`, case by case; at the end their table is printed."""
    from spikeloom.analysis import agreement

    rows = []
    for case in agreement.cases(device, small):
        rows.append(agreement.compare(case, backend))
        yield rows[-1]
    columns = {
        "subject": "neuron",
        "shape": "shape",
        "dtype": "dtype",
        "layout": "layout",
        "backend": "backend",
        "other_spikes": "other spikes",
        "gradient_error": "gradient error",
        "note": "",
    }
    print_table(
        list(columns.values()),
        [[str(row.get(key, "")) for key in columns] for row in rows],
    )
    agreeing = sum(not row["note"] for row in rows)
    typer.echo(f"{agreeing} of {len(rows)} cases agree")


def examine() -> Iterator[Finding]:
    """All findings, in the order in which they build on each other."""
    machine = f"{platform.system()} {platform.machine()}"
    yield Finding("python", "ok", f"{platform.python_version()} on {machine}")
    yield from _packages()
    for subject, look in (
        ("threads", _threads),
        ("devices", _devices),
        ("kernel cache", _kernel_cache),
        ("compiled neuron", _compiled_neuron),
        ("data sets", _data_sets),
    ):
        yield _guarded(subject, look)


def examine_run(folder: Path) -> Iterator[Finding]:
    """What a run's records say about it; of silent layers, how close the first comes to firing."""
    from spikeloom.report.summary import interval
    from spikeloom.report.words import percent, score
    from spikeloom.run.reading import read

    run = read(folder)
    done = f"{len(run.epochs)} of {run.planned_epochs} epochs"
    go_on = "" if run.finished else f"spikeloom resume {folder}"
    yield Finding("run", "ok" if run.finished else "note", f"{run.origin}, {done}", go_on)
    for problem in run.problems:
        yield Finding("records", "note", problem)
    for note in run.start.notes:
        yield Finding("data", "note", note)
    if run.best is None:
        yield Finding("accuracy", "note", "no evaluation yet")
        return
    value = score(run.best.test_accuracy, run.figure)
    about = f"{value} ({run.figure}-{run.protocol}, epoch {run.best.epoch})"
    if (sure := interval(run)) is not None:
        about += f", {' to '.join(map(percent, sure))} with {run.test_samples:,} samples"
    if run.published is not None:
        about += f"; published {run.published:.2f}%"
    yield Finding("accuracy", "ok", about)
    last = run.epochs[-1]
    if last.test is not None and last.train_accuracy - last.test.accuracy > 0.1:
        gap = f"{last.train_accuracy:.2%} of training samples against {last.test.accuracy:.2%}"
        advice = "augmentation, dropout, weight decay, or fewer epochs"
        yield Finding("generalisation", "note", f"{gap} of test samples", advice)
    health = run.health
    for kind, line in health.advice().items():
        seen, _, advice = line.partition(": ")
        yield Finding(kind.replace("_", " "), "broken", seen, advice)
    for kind, line in health.remarks().items():
        yield Finding(kind, "note", line)
    if not health:
        yield Finding("layers", "ok", "none is silent or saturated, all get a gradient")
    if health.silent:
        yield _guarded("potential", lambda: _potential(folder, health.silent[0]))


def _potential(folder: Path, layer: str) -> Finding:
    """How high the potentials of a silent layer rise, on 32 test samples."""
    import torch

    from spikeloom.analysis.traces import trace
    from spikeloom.evaluation.evaluation import load_run

    trained = load_run(folder, "last")
    batch = next(iter(trained.test_loader().epoch(0)))
    inputs = batch.inputs
    axis = 1 if trained.data.spec.kind == "events" else 0
    highest, threshold = float("-inf"), None
    for sample in range(min(32, inputs.shape[axis])):
        (shown,) = [t for t in trace(trained.classifier, inputs, sample) if t.layer == layer]
        potentials = shown.potentials.get("h", next(iter(shown.potentials.values())))
        highest, threshold = max(highest, float(torch.amax(potentials))), shown.threshold
    of = "" if threshold is None else f", its threshold is {threshold:g}"
    return Finding(
        "potential", "note", f"{layer}: the highest of 32 test samples is {highest:.3g}{of}"
    )


def _guarded(subject: str, look: Callable[[], Finding]) -> Finding:
    """A diagnosis goes on where anything else would stop: whatever fails is a finding."""
    try:
        return look()
    except Exception as error:  # the cause may be any package of this environment
        reason = str(error).partition("\n")[0]
        advice = "install the tested versions: pip install -c constraints.txt spikeloom"
        return Finding(subject, "broken", f"{type(error).__name__}: {reason}", advice)


def _packages() -> Iterator[Finding]:
    """The versions of what the library requires, against its lower bounds."""
    import importlib.metadata

    for requirement in importlib.metadata.requires("spikeloom") or ():
        matched = re.match(r"([\w.-]+)\s*>=\s*([\d.]+)(?!.*extra ==)", requirement)
        if matched is None:
            continue
        name, bound = matched.groups()
        advice = f"pip install -c constraints.txt '{name}>={bound}'"
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "broken", "not installed", advice)
            continue
        if _numbers(version) < _numbers(bound):
            yield Finding(name, "broken", f"{version}, expected {bound} or later", advice)
        else:
            yield Finding(name, "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _threads() -> Finding:
    import torch

    from spikeloom.data.events.parts import usable_cores

    usable = usable_cores()
    detail = f"{torch.get_num_threads()} used by PyTorch, {usable} cores usable"
    if torch.get_num_threads() > usable:
        advice = f"set training.threads={usable}: more threads than cores wait"
        return Finding("threads", "note", detail, advice)
    return Finding("threads", "ok", detail)


def _devices() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("devices", "ok", "cpu (no CUDA device)")
    names = [
        f"cuda:{index} {torch.cuda.get_device_name(index)}"
        for index in range(torch.cuda.device_count())
    ]
    return Finding("devices", "ok", ", ".join(["cpu", *names]))


def _kernel_cache() -> Finding:
    from spikeloom.compiler import cache

    folder = str(cache.folder().parent)
    if problem := cache.obstacle():
        advice = (
            "set SPIKELOOM_CACHE to a folder of your own, or kernels are compiled in each process"
        )
        return Finding("kernel cache", "note", f"{folder} is not used: {problem}", advice)
    return Finding("kernel cache", "ok", folder)


def _compiled_neuron() -> Finding:
    """A small neuron forward and backward, compiled and eager: equal bit for bit forward."""
    import torch

    from spikeloom.neurons import PLIF

    compiled, device = ("gpu", "cuda") if torch.cuda.is_available() else ("cpu", "cpu")
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)).to(device) * 2
    results = {}
    for backend in ("eager", compiled):
        neuron = PLIF(backend=backend).to(device)
        current = x.clone().requires_grad_()
        spikes = neuron(current)
        (spikes * torch.arange(5.0, device=device)).sum().backward()
        results[backend] = (spikes.detach(), current.grad)
    (spikes, gradient), (compiled_spikes, compiled_gradient) = results.values()
    if different := int((spikes != compiled_spikes).sum()):
        problem = f"{different} of {spikes.numel()} spikes differ from eager"
    elif not torch.allclose(gradient, compiled_gradient, rtol=1e-5, atol=1e-7):
        off = (gradient - compiled_gradient).abs().max()
        problem = f"gradients differ from eager by {off:.2g}"
    else:
        return Finding("compiled neuron", "ok", "runs, and equals eager")
    advice = "train with backend=eager, and report the versions above"
    return Finding("compiled neuron", "broken", problem, advice)


def _data_sets() -> Finding:
    from spikeloom.data.registry import sources

    folders = {name: folder_of(source) for name, source in sources().items()}
    present = [name for name, folder in folders.items() if folder is not None]
    absent = [name for name, folder in folders.items() if folder is None]
    detail = f"found: {', '.join(present)}"
    detail += f"; not found: {', '.join(absent)}" if absent else ""
    if not present:
        return Finding("data sets", "broken", detail, "install spikeloom anew: digits is bundled")
    advice = "set SPIKELOOM_DATA to the folder that holds the others, see `spikeloom data list`"
    return Finding("data sets", "note" if absent else "ok", detail, advice if absent else "")
