"""The confusion matrix: a table, or for many classes an image."""

from collections.abc import Sequence

from spikeloom.report.html import Markup, card, grid, join, percent, section, table, tag
from spikeloom.report.pictures import png

MOST_CELLS = 20


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
    return join([png(drawn, "confusion matrix"), tag("p", legend, class_="note")])
