"""Which backend runs each neuron of a network, and why, as a table."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from spikeloom.errors import StepError


@dataclass(frozen=True)
class Explanation:
    """What `explain` found: one row per neuron; prints as a table."""

    rows: tuple[tuple[str, str, str, str], ...]
    """Module path, kind of neuron, backend, reason."""

    def __str__(self) -> str:
        head = ("neuron", "kind", "backend", "because")
        widths = [max(len(row[i]) for row in (head, *self.rows)) for i in range(3)]
        return "\n".join(
            "  ".join(
                (*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])
            ).rstrip()
            for row in (head, *self.rows)
        )

    def __iter__(self) -> Iterator[tuple[str, str, str, str]]:
        return iter(self.rows)


def explain(
    module: nn.Module,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Explanation:
    """For every neuron in `module`: which backend runs it, and why.

    `device`: where the input will be; that of the module's parameters if it is not given.
    """
    if device is None:
        first = next(module.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
    rows = []
    for path, neuron in module.named_modules():
        explain_choice = getattr(neuron, "choice", None)
        if explain_choice is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                choice = explain_choice(torch.device(device), dtype)
                row = (choice.backend, choice.reason)
            except StepError as error:
                row = ("none", str(error))
        rows.append((path or "(itself)", type(neuron).__name__, *row))
    return Explanation(tuple(rows))
