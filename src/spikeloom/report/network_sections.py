"""The parts of a report that come from running the trained network."""

import base64
import io
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
    join,
    percent,
    section,
    table,
    tag,
)
from spikeloom.report.svg import palette

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from spikeloom.analysis.traces import LayerTrace

MOST_NEURONS = 40
MOST_CELLS = 20
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


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], *, note: str = "") -> Markup:
    """Labels against predictions; the commonest mistakes beside it."""
    if not matrix:
        return Markup()
    names = list(classes) if len(classes) == len(matrix) else [str(i) for i in range(len(matrix))]
    drawing = _cells(matrix, names) if len(matrix) <= MOST_CELLS else _heat(matrix)
    mistakes = sorted(
        (
            (matrix[i][j], i, j)
            for i in range(len(matrix))
            for j in range(len(matrix))
            if i != j and matrix[i][j]
        ),
        key=lambda item: (-item[0], item[1], item[2]),
    )
    rows = [
        (names[i], names[j], f"{wrong:,}", percent(wrong / sum(matrix[i]), 1))
        for wrong, i, j in mistakes[:8]
    ]
    common = table(["is", "taken for", "samples", "of the class"], rows, numeric=(2, 3))
    total = sum(map(sum, matrix))
    errors = sum(wrong for wrong, _, _ in mistakes)
    return section(
        "confusion",
        "Confusion",
        grid(
            card(drawing, title="Label against prediction", note=note),
            card(
                common if rows else "None.",
                title="Commonest mistakes",
                note=f"{errors:,} of {total:,} samples are wrong.",
            ),
            kind="split",
        ),
    )


def latency(found: Examination | str) -> Markup:
    """Accuracy over time steps."""
    if isinstance(found, str) or len(found.latency) < 2:
        return Markup()
    steps = [float(t) for t in range(1, len(found.latency) + 1)]
    line = Line("accuracy", steps, found.latency, "var(--c1)")
    last = found.latency[-1]
    early = next(t for t, value in enumerate(found.latency, 1) if value >= last - 0.005)
    return card(
        figure(
            curves(
                [line],
                describe="accuracy after each time step",
                y="accuracy",
                x="time steps seen",
                percent=True,
                size=HALF,
                ends=lambda value: percent(value, 1),
            )
        ),
        title="Accuracy over time steps",
        note=f"If the votes were read early, on {_of(found)}. Within half a point of the end after "
        f"{early} of {len(steps)} steps.",
    )


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


def picture(image: "Tensor") -> Markup:
    """An 8-bit image `[C, H, W]`, or event frames `[T, C, H, W]` summed over time, enlarged."""
    from PIL.Image import fromarray

    if image.dim() == 4:
        pixels, mode = _event_picture(image), "RGBA"
    elif image.dim() == 3 and image.shape[0] in (1, 3):
        pixels = image.permute(1, 2, 0).squeeze(-1)
        mode = "L" if image.shape[0] == 1 else "RGB"
    else:
        return Markup()
    drawn = fromarray(pixels.byte().contiguous().numpy(), mode)
    return _png(drawn, "the test sample")


def _event_picture(frames: "Tensor") -> "Tensor":
    """RGBA `[H, W, 4]`: off events orange, on events blue, opaque where there are many."""
    import torch

    counts = frames.double().sum(0)
    counts = torch.stack([counts[0], counts[1:].sum(0)])
    total = counts.sum(0)
    share = counts / total.clamp(min=1e-9)
    hues = torch.tensor([[235.0, 104, 52], [57, 135, 229]], dtype=torch.float64)
    colour = torch.einsum("phw,pc->hwc", share, hues)
    ceiling = total.flatten().quantile(0.99).clamp(min=1)
    opacity = (total / ceiling).clamp(max=1).sqrt() * 255
    return torch.cat([colour, opacity[..., None]], -1).round()


def _png(image: "Image.Image", words: str) -> Markup:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return tag(
        "span",
        Markup(f'<img src="data:image/png;base64,{data}" alt="{words}">'),
        class_="pixels",
    )


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


def _cells(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """The matrix as a table: right ones blue, mistakes red, darker for a larger share."""
    upright = max(map(len, names)) > 3
    head = [tag("th", "")] + [
        tag("th", tag("span", name), class_="up" if upright else None) for name in names
    ]
    lines = [tag("tr", *head, tag("th", "right"))]
    for i, row in enumerate(matrix):
        total = sum(row) or 1
        cells = [tag("th", names[i], scope="row")]
        for j, number in enumerate(row):
            share = number / total
            # Square roots make single mistakes visible.
            depth = share if i == j else min(1.0, share**0.5)
            colour = "--c1" if i == j else "--c6"
            style = f"background:color-mix(in srgb,var({colour}) {100 * depth:.0f}%,transparent)"
            cells.append(
                tag(
                    "td",
                    number or "·",
                    style=style if number else None,
                    class_="zero" if not number else "hot" if depth > 0.5 else None,
                )
            )
        cells.append(tag("td", percent(row[i] / total, 1), class_="recall"))
        lines.append(tag("tr", *cells))
    return tag("div", tag("table", *lines, class_="confusion"), class_="scroll", tabindex=0)


def _heat(matrix: Sequence[Sequence[int]]) -> Markup:
    """The matrix of many classes as an image, a pixel per pair."""
    import torch
    from PIL.Image import fromarray

    counts = torch.tensor(matrix, dtype=torch.float64)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    pixels = torch.empty(*share.shape, 4)
    pixels[..., :3] = torch.tensor([227.0, 73, 72])
    pixels[range(len(matrix)), range(len(matrix)), :3] = torch.tensor([42.0, 120, 214])
    pixels[..., 3] = share.sqrt() * 255
    drawn = fromarray(pixels.round().byte().numpy(), "RGBA")
    legend = "Rows are labels, columns predictions; blue is right, red is wrong."
    return join([_png(drawn, "confusion matrix"), tag("p", legend, class_="note")])


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
