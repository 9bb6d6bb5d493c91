"""From a graph of PyTorch's operators, for one sample, to statements in C.

Runs of elementwise operations become one loop each, whose body is a graph of the step compiler
(`compiler.front`): neurons in C compute what their kernels compute, in the same order. What
depends on weights alone is computed here, by torch.
"""

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Self

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from spikeloom.compiler.front.ir import Value
from spikeloom.compiler.front.ops import LOWERINGS
from spikeloom.exchange.c_loops import Buffer, Fusion, index_in, refused
from spikeloom.exchange.c_text import LAYERS, plain_name
from spikeloom.exchange.stepwise import quiet

_SAME_VALUES = frozenset(
    (
        *("view", "_unsafe_view", "reshape", "flatten", "unsqueeze", "squeeze", "stack", "cat"),
        *("select", "slice", "unbind", "split", "detach", "alias", "clone", "expand", "permute"),
        *("transpose", "_to_copy", "contiguous", "lift_fresh_copy", "dropout", "sum", "mean", "t"),
    )
)
"""What gives the values that it got, in their order, where it gives as many."""
_SKIPPED = ("_assert_tensor_metadata", "_assert_scalar", "sym_size", "sym_constrain_range")


class Weights:
    """Constant arrays of a source; equal ones once."""

    def __init__(self) -> None:
        self.arrays: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, bytes], str] = {}

    def name(self, tensor: Tensor) -> str:
        flat = tensor.detach().to(torch.float32).contiguous().flatten()
        key = (flat.shape, flat.numpy().tobytes())
        name = self._names.setdefault(key, f"w{len(self._names)}")
        self.arrays[name] = flat
        return name


class Lowering:
    """One graph on its way to C, which `run` makes: `statements` in order, the `outputs`, and the
    floats of `scratch` that they need.

    `inputs`: names in C of its inputs; those in `updates` (states) are overwritten by the outputs
    that follow them, as soon as nobody reads their old values.
    """

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        inputs: Sequence[str],
        weights: Weights,
        updates: dict[int, str] | None = None,
    ) -> None:
        self.weights = weights
        with quiet():
            self.program = program.run_decompositions({})
        self.statements: list[str] = []
        self.outputs: list[Buffer] = []
        self.scratch = 0
        self.constants: dict[Node, Any] = {}
        self.buffers: dict[Node, Any] = {}
        self.handled: set[Node] = set()
        self.repeated: set[Node] = set()
        self._group = Fusion(0)
        self._temporaries: list[Buffer] = []
        self._inputs = list(inputs)
        self._updates = updates or {}
        self._places: dict[str, Node] = {}

    def run(self) -> Self:
        graph = self.program.graph
        tensors = {**self.program.state_dict, **self.program.constants}
        signature = self.program.graph_signature
        targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        names = iter(self._inputs)
        (results,) = next(n for n in graph.nodes if n.op == "output").args
        self._results = list(results)  # type: ignore[arg-type]
        for node in graph.nodes:
            if node.op == "placeholder" and node.name in targets:
                self.constants[node] = tensors[targets[node.name]]
            elif node.op == "placeholder":
                name = next(names)
                self.buffers[node] = Buffer(_size(node), name)
                self._places[name] = node
            elif node.op == "call_function":
                self._call(node)
                self.handled.add(node)
        self._flush()
        for result in self._results:
            if result in self.constants:
                full = self.constants[result].expand(result.meta["val"].shape)
                self.buffers[result] = Buffer(_size(result), self.weights.name(full))
            self.outputs.append(self.buffers[result])
        self._arrange()
        return self

    def _call(self, node: Node) -> None:
        target = str(node.target).removeprefix("aten.").removeprefix("aten::")
        name = plain_name(node)
        if _idle(node):
            return
        sources = node.all_input_nodes
        if all(source in self.constants for source in sources):
            arguments = map_arg((node.args, node.kwargs), self.constants.__getitem__)
            self.constants[node] = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
            return
        live = [source for source in sources if source not in self.constants]
        if name == "<built-in function getitem>":
            value = self._where(live[0])
            at: Any = node.args[1]
            self._keep(node, value[at] if isinstance(value, list) else value)
        elif name in _SAME_VALUES and len(live) == 1 and len(sources) == 1:
            self._same(node, name, live[0])
        elif name == "_native_batch_norm_legit_no_training":
            self._normalise(node)
        elif target in LOWERINGS:
            self._elementwise(node, LOWERINGS[target])
        else:
            self._layer(node, name)

    def _where(self, node: Node) -> Any:
        return self._group.values.get(node, self.buffers.get(node))

    def _keep(self, node: Node, value: Any) -> None:
        """`node` is the same values as something that is known."""
        if isinstance(value, Value):
            self._group.values[node] = value
        else:
            self.buffers[node] = value

    def _same(self, node: Node, name: str, source: Node) -> None:
        meta = node.meta["val"]
        many = isinstance(meta, (list, tuple))
        count = sum(part.numel() for part in meta) if many else meta.numel()
        moved = name in ("permute", "transpose", "t") and not _order_kept(node)
        if name == "expand" and count > _size(source) and _repeats_first_axis(node):
            self.repeated.add(node)  # an image at all time steps, of which one is taken
            self._keep(node, self._where(source))
            return
        if (count != _size(source) and source not in self.repeated) or moved:
            if name in ("mean", "sum", "slice") and not many:
                self._layer(node, name)
                return
            raise refused(node, name)
        if many and len(meta) > 1:
            raise refused(node, name)
        value = self._where(source)
        self._keep(node, [value] if many else value)

    def _elementwise(self, node: Node, lower: Callable[..., Value]) -> None:
        self._group_of(_size(node))
        shape = tuple(node.meta["val"].shape)

        def operand(argument: Any) -> Any:
            return self._operand(argument, shape) if isinstance(argument, Node) else argument

        arguments = [operand(a) for a in node.args]
        options = {key: operand(a) for key, a in node.kwargs.items()}
        try:
            self._group.values[node] = lower(self._group.builder, *arguments, **options)
        except KeyError as error:
            raise refused(node, str(error.args[0])) from error

    def _group_of(self, size: int) -> Fusion:
        """The group for elements of a loop of this size."""
        if size != self._group.size:
            self._flush()
            self._group = Fusion(size)
        return self._group

    def _operand(self, node: Node, shape: tuple[int, ...]) -> Value:
        """A value of the group; what is broadcast over `shape` is read with an index of its own."""
        group = self._group
        if node in self.repeated:
            raise refused(node, "expand")
        if node in group.values:
            return group.values[node]
        if node in self.constants:
            tensor = self.constants[node]
            if tensor.numel() == 1:
                return group.builder.constant(tensor.item())
            name, given = self.weights.name(tensor), tuple(tensor.shape)
        else:
            name, given = self.buffers[node], tuple(node.meta["val"].shape)
        return group.read(name, index_in(given, shape, node))

    def _normalise(self, node: Node) -> None:
        """y = x a + b, with a and b as torch computes them."""
        given: tuple[Any, ...] = node.args
        x, weight, bias, mean, variance, _, eps = given
        m, v = self.constants[mean], self.constants[variance]
        scale = 1 / torch.sqrt(v + eps)
        scale = scale if weight is None else self.constants[weight] * scale
        shift = -m * scale if bias is None else self.constants[bias] - m * scale
        shape = tuple(x.meta["val"].shape)
        group = self._group_of(prod(shape))
        value = self._operand(x, shape)
        channel = (-1, *[1] * (len(shape) - 2))
        a, b = (
            group.read(self.weights.name(t), index_in(tuple(t.view(channel).shape), shape, node))
            for t in (scale, shift)
        )
        group.values[node] = group.builder.emit("add", group.builder.emit("mul", value, a), b)

    def _layer(self, node: Node, name: str) -> None:
        """What is no elementwise operation: it reads buffers, and writes one of its own."""
        if name not in LAYERS:
            raise refused(node, name)
        self._flush()
        buffer = self._new(_size(node))
        read: list[Buffer] = []

        def array(argument: Any) -> str:
            if argument in self.constants:
                return self.weights.name(self.constants[argument])
            if argument in self.repeated:
                raise refused(node, "expand")
            read.append(self.buffers[argument])
            return self.buffers[argument].name

        text = LAYERS[name](node, array, self.constants, self.weights.name)
        self._emit(text.replace("@out", buffer.name), [*read, buffer])
        self.buffers[node] = buffer

    def _flush(self) -> None:
        """The group becomes a loop; what others read of it is stored."""
        group, self._group = self._group, Fusion(0)
        stored: dict[int, tuple[Value, Buffer]] = {}
        for node, value in group.values.items():
            if all(user in group.values or _idle(user) for user in node.users):
                continue
            if value.op == "input" and group.whole.get(value.name):
                self.buffers[node] = group.whole[value.name]
                continue
            if id(value) not in stored:
                stored[id(value)] = value, self._place(node, group) or self._new(group.size)
            self.buffers[node] = stored[id(value)][1]
        if not stored:
            return
        outputs, buffers = zip(*stored.values(), strict=True)
        self._emit(group.loop(outputs, buffers), [*group.reads(), *buffers])

    def _place(self, node: Node, group: "Fusion") -> Buffer | None:
        """The state that this value is the next one of, if the old one may be overwritten."""
        for at, state in self._updates.items():
            result, old = self._results[at], self._places[state]
            if result is not node and self._group_source(result) is not node:
                continue
            free = all(
                user in self.handled or user in group.values or _idle(user) for user in old.users
            )
            if free and group.only_in_step(self.buffers[old]):
                return self.buffers[old]
        return None

    @staticmethod
    def _group_source(result: Node) -> Node:
        """The value that a result shows in another shape."""
        while len(result.all_input_nodes) == 1 and plain_name(result) in _SAME_VALUES:
            result = result.all_input_nodes[0]
        return result

    def _new(self, size: int) -> Buffer:
        buffer = Buffer(size, f"@{len(self._temporaries)}@")
        self._temporaries.append(buffer)
        return buffer

    def _emit(self, text: str, touched: Sequence[Buffer]) -> None:
        at = len(self.statements)
        for buffer in touched:
            buffer.begin = at if buffer.begin < 0 else buffer.begin
            buffer.end = at
        self.statements.append(text)

    def _arrange(self) -> None:
        """Buffers that do not live at the same time share memory; then the text is written."""
        for buffer in self.outputs:
            buffer.end = len(self.statements)
        placed: list[tuple[int, Buffer]] = []
        places: dict[str, str] = {}
        for buffer in sorted(self._temporaries, key=lambda part: -part.size):
            at = 0
            for start, other in sorted(placed, key=lambda pair: pair[0]):
                apart = other.end < buffer.begin or buffer.end < other.begin
                if not apart and at + buffer.size > start and start + other.size > at:
                    at = start + other.size
            placed.append((at, buffer))
            places[buffer.name] = f"scratch + {at}"
            buffer.name = places[buffer.name]
            self.scratch = max(self.scratch, at + buffer.size)
        self.statements = [
            re.sub("@[0-9]+@", lambda match: places[match[0]], text) for text in self.statements
        ]


def _repeats_first_axis(node: Node) -> bool:
    (source,) = node.all_input_nodes
    before, after = (list(n.meta["val"].shape) for n in (source, node))
    before = [1] * (len(after) - len(before)) + before
    return before[0] == 1 and before[1:] == after[1:]


def _order_kept(node: Node) -> bool:
    """Whether a permutation moves only axes of one element."""
    (source,) = node.all_input_nodes
    before = [n for n in source.meta["val"].shape if n > 1]
    after = [n for n in node.meta["val"].shape if n > 1]
    return len(before) < 2 or (before == after and len(set(before)) == len(before))


def _idle(node: Node) -> bool:
    return plain_name(node).startswith(_SKIPPED)


def _size(node: Node) -> int:
    meta = node.meta["val"]
    return meta.numel() if isinstance(meta, Tensor) else meta[0].numel()
