"""From a step in PyTorch to two graphs: the step itself, and its adjoint.

The step is traced on tensors of two elements, once as written and once through `torch.func.vjp`.
The adjoint must come from there: the forward graph has lost the surrogate's rule.
"""

import linecache
import os
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from spikeloom.compiler.front.ir import Builder, Graph, Value
from spikeloom.compiler.front.ops import LOWERINGS
from spikeloom.compiler.front.step import Signature, Step
from spikeloom.errors import StepError, UnexplainedError

LIKE_INPUT = (2,)
"""Traced tensors have two elements: scalars would promote dtypes differently and hide
reductions.
"""

ANOTHER = (3, 1)
"""A shape that the step, which is elementwise, must not tell from the first."""


@dataclass(frozen=True, eq=False)
class Trace:
    """The two graphs of a step; traces are equal if their texts are.

    `forward`: inputs `x`, states, coefs; outputs `spikes`, then states and observed values by name.
    `adjoint`: the same inputs and `grad:spikes`, `grad:<state>` (cotangents of the new states);
    outputs `grad:x`, `grad:<state>`, `grad:<coef>`.
    """

    signature: Signature
    double: bool
    forward: Graph
    adjoint: Graph

    @cached_property
    def text(self) -> str:
        return f"{self.signature} {self.double}\n{self.forward.text()}\n{self.adjoint.text()}"

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and self.text == other.text


def trace(step: Step, dtype: torch.dtype) -> Trace:
    """Both graphs of the step, computing in `dtype` (float32 or float64).

    Raises StepError, with the operation and the line, for what a kernel cannot do.
    """
    double = dtype == torch.float64
    signature = step.signature
    inputs = ("x", *signature.states, *signature.coefs)
    examples = [torch.linspace(0.1, 0.9, 2, dtype=dtype) for _ in inputs]
    cotangents = ("grad:spikes", *(f"grad:{name}" for name in signature.states))
    count = 1 + len(signature.states)

    def adjoint(*args: Tensor) -> tuple[Tensor, ...]:
        primals, grads = args[: len(inputs)], args[len(inputs) :]
        pull = torch.func.vjp(lambda *a: step.function(*a)[:count], *primals)[1]
        return pull(tuple(grads))

    outputs = ("spikes", *signature.states, *signature.observed)
    gradients = tuple(f"grad:{name}" for name in inputs)
    ones = [torch.ones(2, dtype=dtype) for _ in cotangents]
    forward = _traced(step, step.function, examples, outputs)
    gradient = _traced(step, adjoint, [*examples, *ones], gradients)
    _warn_of_no_gradient(step, gradient, len(inputs))
    graph = _lowered(step, forward, inputs, outputs, double)
    others = [torch.linspace(0.1, 0.9, 3, dtype=dtype).view(ANOTHER) for _ in inputs]
    again = _traced(step, step.function, others, outputs)
    if _lowered(step, again, inputs, outputs, double, ANOTHER).text() != graph.text():
        raise StepError(  # a kernel knows of no shape, and would keep that of the examples
            f"step of {step.name} computes with the shape of its input: give the number to the "
            'neuron as an attribute; backend="eager" runs the step as it is'
        )
    backward = _lowered(step, gradient, (*inputs, *cotangents), gradients, double)
    return Trace(signature, double, graph, backward)


def _warn_of_no_gradient(step: Step, adjoint: GraphModule, place: int) -> None:
    """Where nothing of the adjoint depends on the gradient of the spikes, its input at `place`. A
    step that has an evaluation mode of its own may pass none there: its training has a trace of its
    own, and is judged by that."""
    given = [node for node in adjoint.graph.nodes if node.op == "placeholder"]
    if not given[place].users and not (step.recording and step.recording.asked_evaluation):
        warnings.warn(
            f"no gradient passes the spikes of {step.name}: its step compares without a surrogate "
            "(s = self.surrogate(h - threshold)), or detaches; nothing ahead of it would learn",
            stacklevel=2,
        )


def _traced(
    step: Step, function: Any, examples: list[Tensor], outputs: tuple[str, ...]
) -> GraphModule:
    try:
        result = make_fx(function)(*examples)
    except StepError:
        raise
    except Exception as error:
        raise _explained(step, error) from error
    returned = _returned(result)
    if len(returned) != len(outputs):
        raise StepError(
            f"step of {step.name} returned {len(returned)} tensors: expected {len(outputs)}, "
            f"({', '.join(outputs)})"
        )
    return result


def _returned(module: GraphModule) -> Sequence[Any]:
    result = module.graph.output_node().args[0]
    return result if isinstance(result, (tuple, list)) else (result,)


def _lowered(
    step: Step,
    module: GraphModule,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    double: bool,
    like: tuple[int, ...] = LIKE_INPUT,
) -> Graph:
    builder = Builder(double)
    values: dict[Node, Value] = {}
    names = iter(inputs)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = builder.input(next(names))
        elif node.op == "get_attr":
            values[node] = _closure(step, module, node, builder)
        elif node.op != "output":
            values[node] = _lower(step, node, values, builder, like)
    lowered = [
        values[result] if isinstance(result, Node) else builder.constant(result or 0.0)
        for result in _returned(module)
    ]
    floats = [builder.emit("cast_float", value) for value in lowered]
    return Graph(inputs, dict(zip(outputs, floats, strict=True)))


def _lower(
    step: Step,
    node: Node,
    values: dict[Node, Value],
    builder: Builder,
    like: tuple[int, ...],
) -> Value:
    name = str(node.target).removeprefix("aten.")
    lowering = LOWERINGS.get(name)
    shape = tuple(node.meta["tensor_meta"].shape) if "tensor_meta" in node.meta else like
    in_place = name.split(".")[0].endswith("_") and not _is_fresh(node.args[0])
    if lowering is None or shape not in (like, ()) or in_place:
        raise StepError(_unsupported(step, f"aten::{name.removesuffix('.default')}", name))
    args = [values[a] if isinstance(a, Node) else a for a in node.args]
    options = {key: values[a] if isinstance(a, Node) else a for key, a in node.kwargs.items()}
    try:
        return lowering(builder, *args, **options)
    except KeyError as error:
        raise StepError(_unsupported(step, error.args[0], name)) from error


def _is_fresh(node: Any) -> bool:
    """Whether a tensor that is about to be changed in place is known under no other name."""
    return (
        isinstance(node, Node)
        and node.op == "call_function"
        and str(node.target) not in ("aten.detach.default", "aten.alias.default")
        and len(node.users) == 1
    )


def _closure(step: Step, module: GraphModule, node: Node, builder: Builder) -> Value:
    """A tensor that the step did not get as an argument: one that it made of a number is a
    constant, any other is refused.
    """
    tensor = getattr(module, str(node.target))
    name = step.recording.name_of(tensor) if step.recording else None
    if tensor.dim() == 0 and not tensor.requires_grad and name is None and not tensor.is_meta:
        return builder.constant(tensor.item())
    raise StepError(reads_tensor(step, name or f"a tensor of shape {list(tensor.shape)}"))


def reads_tensor(step: Step, name: str) -> str:
    """Why a step may not read a tensor that it did not get as an argument."""
    return (
        f"step of {step.name} reads {name} directly, so it would get no gradient: "
        "return it from coefs() and take it as an argument of step"
    )


class _LineFinder(TorchDispatchMode):
    """Runs the step and remembers the user's line at which an operation was called."""

    def __init__(self, operation: str, base: str) -> None:
        super().__init__()
        self.operation, self.base = operation, base
        self.line: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.line is None and str(func).removeprefix("aten.") == self.operation:
            self.line = _user_line(traceback.extract_stack(), self.base)
        return func(*args, **(kwargs or {}))


def _unsupported(step: Step, shown: str, operation: str) -> str:
    inputs = step.signature
    examples = [torch.linspace(0.1, 0.9, 2) for _ in ("x", *inputs.states, *inputs.coefs)]
    ones = tuple(torch.ones(2) for _ in ("spikes", *inputs.states, *inputs.observed))
    finder = _LineFinder(operation, step.base)
    try:
        with finder:
            torch.func.vjp(step.function, *examples)[1](ones)
    except Exception:
        pass  # the line is a courtesy; the operation is named without it
    at = f" at {finder.line}" if finder.line else ""
    return (
        f"step of {step.name} uses {shown}{at}: a step may use elementwise arithmetic, "
        "comparisons, torch.where and the functions in spikeloom.compiler.front.ops; use "
        'backend="eager" to run it as it is'
    )


def _explained(step: Step, error: Exception) -> StepError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    line = _user_line(traceback.extract_tb(error.__traceback__), step.base)
    at = f" at {line}" if line else ""
    if "setup_context" in text:
        return StepError(
            f"step of {step.name} calls an autograd.Function of the older form{at}: give it a "
            "forward without ctx and a setup_context, or make a spikeloom.Surrogate of it"
        )
    value = "tracing tensor" in text or "data-dependent" in text or "vmap" in text
    tensors = list(step.recording.tensors) if step.recording else []
    if "device meta" in text or (value and tensors):
        return StepError(reads_tensor(step, [*tensors, "a tensor of its own"][0]))
    if value:
        return StepError(
            f"step of {step.name} asks for the value of a tensor{at}: a step cannot branch "
            "on data, use torch.where"
        )
    if "in-place" in text or "inplace" in text or "mutat" in text:
        return StepError(
            f"step of {step.name} changes a tensor in place{at}: a step must be a pure function"
        )
    return UnexplainedError(
        f"step of {step.name} cannot be traced{at}: {type(error).__name__}: {text}"
    )


_NOT_THE_USER = (os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__)))


def _user_line(stack: traceback.StackSummary, base: str) -> str | None:
    """The innermost line outside PyTorch and this package's compiler, as "file.py:23: text".

    None for what PyTorch's own derivative formulas do: the next line out is then that of the base
    class.
    """
    for frame in reversed(stack):
        if frame.filename == base:
            return None
        if not frame.filename.startswith(_NOT_THE_USER):
            text = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            return f"{os.path.basename(frame.filename)}:{frame.lineno}: {text}"
    return None
