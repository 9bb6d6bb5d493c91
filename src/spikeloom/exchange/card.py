"""The model card: what an exported file is, what it was trained on, how good it is, what it costs.

Markdown by hand: the kept libraries for model cards write cards of one hub, with its metadata.
"""

from pathlib import Path

import torch
from torch import nn

from spikeloom.errors import SpikeloomError
from spikeloom.methods import catalog
from spikeloom.prediction import Network
from spikeloom.report import compare
from spikeloom.run.reading import read
from spikeloom.version import __version__

LICENCES = {
    "digits": "UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
    "digits-events": "made from UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
    "mnist": "MNIST (LeCun, Cortes), CC BY-SA 3.0",
    "fashion-mnist": "Fashion-MNIST (Zalando), MIT",
    "nmnist": "N-MNIST (Orchard et al.), CC BY-SA 4.0",
    "cifar10-dvs": "CIFAR10-DVS (Li et al.), CC BY 4.0",
    "dvs128-gesture": "DVS128 Gesture (IBM), CC BY 4.0",
    "shd": "Spiking Heidelberg Digits (Cramer et al.), CC BY 4.0",
    "fsdd": "Free Spoken Digit Dataset (Jackson et al.), CC BY-SA 4.0",
}
"""As their publishers state them; of other data sets the card says that none is known here."""


def beside(path: Path) -> Path:
    """Where the card of a file stands."""
    return path.with_name(f"{path.name}.md")


def short_name(network: Network) -> str:
    """A file name for a trained network: "plif-digits"."""
    return f"{catalog.method_of(network.recipe).name}-{network.recipe.data.name}"


def text(
    path: Path,
    target: str,
    form: str | None,
    net: nn.Module,
    network: Network | None,
    source: Path | None,
    about: str,
    checked: str,
) -> str:
    """The card of `path`; `source` is the run folder or weights file, if there is one."""
    title = network.recipe.title if network else type(net).__name__
    parameters = sum(p.numel() for p in net.parameters())
    lines = [f"# {title}", "", f"`{path.name}`: {target}{f', {form}' if form else ''}. {about}", ""]
    rows = [("parameters", f"{parameters:,}"), ("checked", checked)]
    if network is not None:
        rows += _trained(network, source)
    rows.append(("written by", f"spikeloom {__version__}, torch {torch.__version__}"))
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    if network is not None:
        recipe = network.recipe.model_copy(
            update={"data": network.recipe.data.model_copy(update={"root": None})}
        )
        lines += ["", "## Recipe", "", "```toml", catalog.dump(recipe).strip(), "```"]
    return "\n".join([*lines, ""])


def _trained(network: Network, source: Path | None) -> list[tuple[str, str]]:
    spec = network.spec
    shape = " x ".join(map(str, spec.shape))
    data = network.recipe.data.name
    rows = [
        ("method", catalog.method_of(network.recipe).title),
        ("input", f"{shape}, {'frames of events' if spec.kind == 'events' else 'an image'}"),
        ("normalisation", _normalisation(network)),
        ("classes", ", ".join(spec.classes) or f"{spec.targets} targets"),
        ("data", f"{data}; licence: {LICENCES.get(data, 'not known here, ask its publisher')}"),
    ]
    folder = source.parent if source is not None and source.is_file() else source
    if folder is None or not (folder / "recipe.toml").is_file():
        return [*rows, ("accuracy", "not known: the weights came without their run folder")]
    run = read(folder)
    tested = [epoch.test.accuracy for epoch in run.epochs if epoch.test]
    if tested:
        rows.append(("accuracy-A (best test epoch)", f"{100 * max(tested):.2f} %"))
    if run.best is not None and run.best.metric.startswith("val"):
        chosen = f"{100 * run.best.test_accuracy:.2f} % (epoch {run.best.epoch})"
        rows.append(("accuracy-B (epoch chosen on validation)", chosen))
    elif run.best is not None:
        rows.append(("accuracy-B", "not measured: this run has no validation split"))
    if (commit := run.environment.get("commit")) is not None:
        rows.append(("trained at commit", str(commit)))
    rows.append(("trained with torch", str(run.environment.get("torch", "?"))))
    return [*rows, *_energy(folder)]


def _energy(folder: Path) -> list[tuple[str, str]]:
    try:
        (row,) = compare([folder])
    except SpikeloomError as error:
        return [("energy", f"not measured: {error}")]
    if row["energy_nj"] is None:
        return [("energy", f"not measured: {row['note']}")]
    counted = f"{row['accumulates']:,.0f} additions, {row['multiplies']:,.0f} products"
    energy = f"{row['energy_nj']:,.0f} nJ a sample (estimated: {counted})"
    return [("energy", energy), ("spikes", f"{row['spikes_per_sample']:,.0f} a sample")]


def _normalisation(network: Network) -> str:
    mean, std = network.normalisation
    if not any(mean) and all(value == 1 for value in std):
        return "none"
    pairs = zip(mean, std, strict=True)
    return "values 0..1, then " + ", ".join(f"(x - {m:.6g}) / {s:.6g}" for m, s in pairs)
