"""The step of neurons whose constants no longer change, inside a kernel with other work."""

from array import array
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.compiler import cache as kernel_cache
from spikeloom.compiler import emit
from spikeloom.compiler.cpu.pieces import Carried, placed_coefs
from spikeloom.compiler.cpu.writer import (
    Parameter,
    Segment,
    Storage,
    Variant,
    Writer,
    driver,
    words_of,
)
from spikeloom.compiler.front.trace import Trace

STORAGE: dict[torch.dtype, Storage] = {torch.float32: "f4", torch.float64: "f8"}

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Neurons:
    """Neurons whose constants no longer change: `coefs` are numbers, or one for each channel."""

    trace: Trace
    rest: tuple[float, ...]
    coefs: tuple[Tensor, ...]
    dtype: torch.dtype

    @property
    def fire_ones(self) -> bool:
        """Whether the step says that spikes are zeros and ones."""
        return self.trace.forward.outputs["spikes"].op == "cast_float"

    @property
    def vectors(self) -> frozenset[str]:
        names = self.trace.signature.coefs
        return frozenset(
            name for name, coef in zip(names, self.coefs, strict=True) if coef.numel() > 1
        )

    def fit(self, channels: int) -> bool:
        """Whether all coefs are one for all, or one for each of so many channels."""
        return all(coef.shape in ((), (1,), (channels,)) for coef in self.coefs)


class Kernel:
    """A compiled driver, and the words that it is told: an address or a number for each name."""

    def __init__(
        self, title: str, writer: Writer, called: str, parameters: list[Parameter], body: list[str]
    ) -> None:
        """`called`: the text of what `body` calls; `parameters`: but for those of the neurons."""
        kinds = {"start": "reals", "rest": "real", "final": "reals"}
        parameters = [
            *parameters,
            *(("has_start", "flag"), ("want_final", "flag")),
            *((f"{var}{what}", kind) for var in writer.states for what, kind in kinds.items()),
            *((var, "reals") for var in writer.coefs),
        ]
        run = driver("run", parameters, writer.variant.storage, body)
        self.run = kernel_cache.load(writer.module(title, called, run)).run
        self.parameters = dict(parameters)
        self.at = {name: place for place, name in enumerate(self.parameters)}

    def words(self, neurons: Neurons, values: dict[str, int]) -> "array[int]":
        step = neurons.trace.signature
        rest = zip(emit.state_names(step.states), neurons.rest, strict=True)
        coefs = zip(emit.coef_names(step.coefs), neurons.coefs, strict=True)
        given = values | {f"{var}rest": float(value) for var, value in rest}
        given |= {var: coef.data_ptr() for var, coef in coefs}
        return words_of(self.parameters.items(), given)

    def states(self, suffix: str) -> list[int]:
        """The places of the states' addresses: `start` or `final`."""
        arrays = (name for name, kind in self.parameters.items() if kind == "reals")
        return [self.at[name] for name in arrays if name.endswith(f"_{suffix}")]


def step_segment(
    writer: Writer, x: tuple[str, str], out: tuple[str, str], states: list[str]
) -> tuple[list[str], str]:
    """The call of a step on `m` neurons, and the text of what it calls. `x`, `out`: an array and
    the place in it; `states`: places in scratch."""
    step = writer.trace.signature
    segment = Segment("segment", "step_segment")
    source, target = segment.array("x", *x), segment.array("out", *out)
    carried = Carried(writer, segment, states)
    inputs = {"x": "x_i"} | carried.inputs() | placed_coefs(writer, segment, "0", "{0}[0]")
    lines, results = writer.lines(writer.trace.forward.select(("spikes", *step.states)), inputs)
    body = [f"x_i = x[{source}]", *carried.reads(), *lines]
    body += [f"out[{target}] = {results['spikes']}", *carried.writes(results)]
    return segment.call(), segment.text(body)


def step_writer(trace: Trace, dtype: torch.dtype, vectors: frozenset[str]) -> Writer:
    writer = Writer(trace, Variant(STORAGE[dtype], "vec", vectors))
    writer.helpers.add("i4_array")
    return writer
