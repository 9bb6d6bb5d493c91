"""A run of elementwise operations on its way into one loop of C."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from torch.fx import Node

from spikeloom.compiler.front.ir import Builder, Graph, Value
from spikeloom.errors import ExportError
from spikeloom.exchange.c_text import expression


@dataclass(eq=False)
class Buffer:
    """Floats in memory: `name` in C, `begin` and `end` the statements between which it lives."""

    size: int
    name: str = ""
    begin: int = -1
    end: int = -1


class Fusion:
    """Elementwise operations of one size, on their way into one loop."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.builder = Builder(double=False)
        self.values: dict[Node, Value] = {}
        self.whole: dict[str, Buffer] = {}
        self._reads: dict[str, tuple[Buffer | str, tuple[str, int]]] = {}

    def read(self, source: Buffer | str, index: tuple[str, int]) -> Value:
        name = f"{source if isinstance(source, str) else id(source)} {index}"
        self._reads[name] = (source, index)
        if isinstance(source, Buffer) and index[0] == "each":
            self.whole[name] = source
        return self.builder.input(name)

    def reads(self) -> list[Buffer]:
        return [source for source, _ in self._reads.values() if isinstance(source, Buffer)]

    def only_in_step(self, buffer: Buffer) -> bool:
        """Whether `buffer` is read at the loop's own index alone."""
        return all(index[0] == "each" for source, index in self._reads.values() if source is buffer)

    def channels(self) -> int:
        """How many elements of the loop share a channel's constant; 0: nothing is per channel."""
        inner = {count for _, (kind, count) in self._reads.values() if kind == "channel"}
        if len(inner) > 1:
            raise ExportError("values of one loop are broadcast in two ways, which has no C form")
        return inner.pop() if inner else 0

    def loop(self, outputs: Sequence[Value], stored: Sequence[Buffer]) -> str:
        """The loop in C, its `outputs` stored in those buffers."""
        places = {"each": "[i]", "channel": "[c]", "one": "[0]"}
        shown: dict[int, str] = {}

        def show(value: Value) -> str:
            if value.is_constant:
                return number(value.number)
            if value.op != "input":
                return shown[id(value)]
            source, (kind, _) = self._reads[value.name]
            return f"({source if isinstance(source, str) else source.name}){places[kind]}"

        graph, lines = Graph((), {str(at): value for at, value in enumerate(outputs)}), []
        for at, value in enumerate(graph.order):
            shown[id(value)] = f"t{at}"
            kind = "int" if value.dtype == "bool" else "float"
            text = expression(value.op, [show(argument) for argument in value.args])
            lines.append(f"    const {kind} t{at} = {text};")
        for buffer, value in zip(stored, outputs, strict=True):
            lines.append(f"    ({buffer.name})[i] = {show(value)};")
        head, channels = f"for (int i = 0; i < {self.size}; i++) {{", self.channels()
        if channels:
            head = f"""for (int c = 0; c < {self.size // channels}; c++)
for (int i = c * {channels}; i < (c + 1) * {channels}; i++) {{"""
        return "\n".join([head, *lines, "}"])


def number(value: Any) -> str:
    """A float32 in C, to the last bit."""
    single = np.float32(value)
    if np.isnan(single):
        return "NAN"
    if np.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    text = f"{single:.9g}"
    return f"{text}f" if any(mark in text for mark in ".e") else f"{text}.0f"


def index_in(operand: tuple[int, ...], shape: tuple[int, ...], node: Node) -> tuple[str, int]:
    """How an `operand` of this shape is read in a loop over `shape`: at each element, one for all,
    or one per channel, that is for so many elements in a row."""
    if prod(operand) == prod(shape):
        return "each", 0
    if prod(operand) == 1:
        return "one", 0
    axes = [1] * (len(shape) - len(operand)) + list(operand)
    wide = [i for i, size in enumerate(axes) if size > 1]
    outer = prod(shape[: wide[0]])
    inside = shape[wide[0] : wide[-1] + 1]
    if outer != 1 or tuple(axes[wide[0] : wide[-1] + 1]) != tuple(inside):
        raise refused(node, f"broadcast of {list(operand)} over {list(shape)}")
    return "channel", prod(shape[wide[-1] + 1 :])


def refused(node: Node, operation: str) -> ExportError:
    paths = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    place = f" (in {paths[-1]})" if paths and paths[-1] else ""
    return ExportError(
        f"no C form for aten::{operation}{place}: use linear and convolution layers, pooling, "
        "normalisation and neurons, or export to onnx"
    )
