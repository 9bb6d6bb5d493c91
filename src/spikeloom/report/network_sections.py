"""The parts of a report that come from running the trained network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spikeloom.report.examine import Examination
from spikeloom.report.figures import (
    HALF,
    Line,
    curves,
    potentials,
    raster,
    shown_neurons,
    telling_neurons,
)
from spikeloom.report.html import (
    NOTHING,
    Markup,
    bar,
    card,
    count,
    energy,
    figure,
    grid,
    percent,
    section,
    table,
    tag,
)
from spikeloom.report.origin import Origin
from spikeloom.report.pictures import picture
from spikeloom.report.svg import palette

if TYPE_CHECKING:
    from spikeloom.analysis.traces import LayerTrace

MOST_NEURONS = 40
MOST_LAYERS = 16
FIRES, SILENT = "var(--c1)", "var(--c8)"


def sample(found: Examination | str) -> Markup:
    """A raster and membrane potentials of one test sample, with the sample itself."""
    title = "One test sample"
    if isinstance(found, str):
        return section("sample", title, _absent(found))
    guess = max(range(len(found.scores)), key=lambda i: found.scores[i])
    right = guess == found.label
    verdict = "right" if right else f"wrong: it is {found.classes[found.label]}"
    shown = card(
        tag(
            "div",
            picture(found.image),
            tag("div", _scores(found, guess), class_="votes"),
            class_="specimen",
        ),
        title=f"Predicted {found.classes[guess]} ({verdict})",
        note="The first test sample as the data set holds it, and the network's score per class.",
        wide=True,
    )
    layers = _spread(found.traces, MOST_LAYERS)
    colours = palette(len(layers))
    which = "" if len(layers) == len(found.traces) else f" {len(layers)} of the layers."
    rasters, traces = [], []
    for layer, colour in zip(layers, colours, strict=True):
        neurons, total = len(shown_neurons(layer, MOST_NEURONS)), layer.spikes.shape[1]
        active = int(layer.spikes.any(0).sum())
        rasters.append(
            tag(
                "figure",
                tag("figcaption", tag("code", layer.layer), f" rate {layer.rate:.3f}"),
                Markup(raster(layer, colour, most=MOST_NEURONS)),
                tag("p", f"{neurons} of {active} that fire, {total:,} in all", class_="note"),
            )
        )
        chosen = telling_neurons(layer)
        fires = [bool(layer.spikes[:, neuron].any()) for neuron in chosen]
        paints = [FIRES if fired else SILENT for fired in fires]
        traces.append(
            tag(
                "figure",
                tag("figcaption", tag("code", layer.layer)),
                Markup(potentials(layer, chosen, paints)),
            )
        )
    return section(
        "sample",
        title,
        shown,
        card(
            grid(*rasters, kind="panels"),
            title="Spikes",
            note=f"A row is a neuron, a block is a spike.{which}",
            wide=True,
        ),
        card(
            tag(
                "ul",
                tag("li", tag("i", style=f"background:{FIRES}"), "a neuron that fires"),
                tag("li", tag("i", style=f"background:{SILENT}"), "the highest that stays silent"),
                tag("li", tag("i", class_="dashed"), "threshold"),
                class_="legend",
            ),
            grid(*traces, kind="panels"),
            title="Membrane potential",
            note="Charged by the input at each time step, reset where it reaches the threshold "
            "(dots: spikes).",
            wide=True,
        ),
    )


def latency(found: Examination | str) -> Markup:
    """Accuracy over time steps."""
    if isinstance(found, str) or len(found.latency) < 2:
        return Markup()
    steps = [float(t) for t in range(1, len(found.latency) + 1)]
    lines = [Line("trained", steps, found.latency, "var(--c1)")]
    level, remark = None, ""
    if (origin := found.origin) is not None:
        if len(origin.latency) == len(steps):
            lines.append(Line("before training", steps, origin.latency, "var(--c8)"))
        if origin.source_accuracy is not None:
            level = (origin.source_accuracy, f"started from {percent(origin.source_accuracy, 1)}")
        remark = _origin_remark(origin)
    last = found.latency[-1]
    early = next(t for t, value in enumerate(found.latency, 1) if value >= last - 0.005)
    return card(
        figure(
            curves(
                lines,
                describe="accuracy after each time step",
                y="accuracy",
                x="time steps seen",
                percent=True,
                size=HALF,
                level=level,
                ends=lambda value: percent(value, 1),
            ),
            legend=[(line.label, line.colour) for line in lines] if len(lines) > 1 else (),
        ),
        title="Accuracy over time steps",
        note=f"If the votes were read early, on {_of(found)}. Within half a point of the end after "
        f"{early} of {len(steps)} steps.{remark}",
    )


def _origin_remark(origin: Origin) -> str:
    if origin.missing:
        return f" Before training: not measured ({origin.missing})."
    came = ""
    if origin.source_accuracy is not None:
        came = f", whose network has {percent(origin.source_accuracy, 2)} on these samples"
    before = percent(origin.accuracy, 2)
    return f" Started from {origin.source}{came}; before training {before} after all steps."


def operations(found: Examination | str) -> Markup:
    """Synaptic operations and the energy estimate, with its assumptions."""
    if isinstance(found, str):
        return section("cost", "Latency and energy", _absent(found))
    cost = found.operations
    top = max((layer.picojoule for layer in cost.layers), default=0) or 1.0
    rows: list[Sequence[object]] = [
        (
            tag("code", layer.layer),
            count(layer.synapses),
            count(layer.accumulates) if layer.accumulates else NOTHING,
            count(layer.multiplies) if layer.multiplies else NOTHING,
            energy(layer.picojoule),
            bar(layer.picojoule / top, "var(--c8)" if layer.multiplies else "var(--c1)"),
        )
        for layer in cost.layers
    ]
    rows.append(
        [
            tag("b", value)
            for value in (
                "all",
                count(cost.synapses),
                count(cost.accumulates),
                count(cost.multiplies),
                energy(cost.picojoule),
            )
        ]
        + [""]
    )
    ratio = cost.picojoule / cost.dense_picojoule if cost.dense_picojoule else 0.0
    summary = tag(
        "p",
        tag("b", energy(cost.picojoule)),
        " per sample, ",
        tag("b", f"{ratio:.2f}\N{MULTIPLICATION SIGN}"),
        f" the same network without spikes ({energy(cost.dense_picojoule)})",
        class_="verdict",
    )
    head = ["layer", "synapses", "AC", "MAC", "energy", ""]
    return section(
        "cost",
        "Latency and energy",
        grid(
            latency(found),
            card(
                summary,
                table(head, rows, numeric=(1, 2, 3, 4)),
                title="Synaptic operations and energy",
                note=f"Estimate per sample, mean over {_of(found)}. AC: accumulates, one per spike "
                "and synapse (blue). MAC: multiply-accumulates (orange).",
            ),
            kind="cost",
        ),
        tag("p", tag("b", "Assumptions. "), cost.assumptions, class_="small"),
    )


def method_figures(found: Examination | str) -> Markup:
    """The pictures of the method itself."""
    if isinstance(found, str):
        return Markup()
    cards = []
    for shown in found.figures:
        lines = [
            Line(name, [float(shown.start + i) for i in range(len(values))], values, colour)
            for (name, values), colour in zip(
                shown.curves.items(), palette(len(shown.curves)), strict=True
            )
        ]
        svg = curves(lines, describe=shown.title, x=shown.x, y=shown.y, log=shown.log, size=HALF)
        legend = [(line.label, line.colour) for line in lines]
        cards.append(card(figure(svg, legend=legend), title=shown.title, note=shown.note))
    return section("method", "The method at work", grid(*cards))


def _scores(found: Examination, guess: int) -> Markup:
    order = range(len(found.scores))
    if len(found.scores) > 12:
        order = sorted(order, key=lambda i: -found.scores[i])[:10]
    low, high = min(0.0, *found.scores), max(found.scores)
    rows = [
        tag(
            "li",
            tag("span", found.classes[i]),
            bar(
                (found.scores[i] - low) / ((high - low) or 1.0),
                "var(--c1)" if i == guess else "var(--axis)",
            ),
            tag("span", f"{found.scores[i]:.3g}", class_="n"),
        )
        for i in order
    ]
    return tag("ul", *rows, class_="scores")


def _spread(layers: "Sequence[LayerTrace]", most: int) -> "list[LayerTrace]":
    """At most `most` of the layers, evenly spread from first to last."""
    if len(layers) <= most:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (most - 1))] for i in range(most)]


def _absent(reason: str) -> Markup:
    return tag("p", "Not shown: ", reason, class_="card absent")


def _of(found: Examination) -> str:
    if found.samples == found.test_samples:
        return f"all {found.samples:,} test samples"
    return f"{found.samples:,} of {found.test_samples:,} test samples"
