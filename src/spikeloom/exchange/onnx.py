"""ONNX files of a network: all time steps unrolled, as a loop, or one step.

    unrolled  input -> scores, course        T fixed, the batch free
    loop      input -> scores, course        a Loop over the step; frames [T, B, ...] of any T
    step      input, states -> course, states

Written by torch's own exporter; the loop is put together from its graphs of step and readout.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spikeloom.errors import ExportError
from spikeloom.exchange.packages import needed
from spikeloom.exchange.stepwise import Call, StepForm, Whole, exported, quiet

Form = Literal["unrolled", "loop", "step"]


def onnx_model(net: nn.Module, example: Tensor, form: Form) -> Any:
    """The `onnx.ModelProto` of a network; inputs and outputs as in the module's text.

    `example` as for `StepForm`. `ExportError` for a network that torch's exporter refuses.
    """
    needed("onnx")
    needed("onnxscript")
    if form == "unrolled":
        whole = Whole(net)
        return _converted(whole.program(example), ["input"], whole.names)
    stepped = StepForm(net, example)
    states = list(stepped.states)
    step = _converted(
        stepped.step_program(),
        ["input", *states],
        [*stepped.names, *(f"{name}.next" for name in states)],
    )
    return step if form == "step" else _loop(stepped, step)


def _converted(
    program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    with quiet():
        try:
            converted = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=list(outputs),
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            first = str(error.__cause__ or error).strip().splitlines()[0]
            raise ExportError(f"torch's ONNX exporter refuses this network: {first}") from error
    assert converted is not None
    return converted.model_proto


def _stable_sort(x: Any, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """What torch's exporter has no word for: of equal values ONNX's TopK takes the first first."""
    from onnxscript import opset18 as opset

    opset18: Any = opset  # values of a graph stand here for numbers, which its annotations name
    size = opset18.Gather(opset18.Shape(x), opset18.Constant(value_ints=[dim]), axis=0)
    return opset18.TopK(x, size, axis=dim, largest=int(descending), sorted=1)


def _loop(stepped: StepForm, step: Any) -> Any:
    """The step inside an ONNX Loop, the readout after it."""
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper

    steps = stepped.time_steps if stepped.static else 3
    course = [torch.zeros(steps, 2, *shape) for shape in stepped.course_shapes]
    dims: dict[int, Any] = {1: torch.export.Dim("batch", min=1)}
    if not stepped.static:
        dims[0] = torch.export.Dim("steps", min=1)
    reading = exported(Call(stepped.net, stepped.read), course, [dims] * len(course))
    names = list(stepped.names)
    read = compose.add_prefix(_converted(reading, names, ["scores"]), "read/")
    body = compose.add_prefix(step, "step/").graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in body.input}

    def value(name: str, kind: int, shape: Sequence[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def number(name: str, content: Any) -> Any:
        return numpy_helper.from_array(np.asarray(content, dtype=np.int64), name)

    node = helper.make_node
    if stepped.static:
        frame = node("Identity", ["input"], ["step/input"])
    else:
        frame = node("Gather", ["input", "number"], ["step/input"], axis=0)
    body.node.insert(0, frame)
    body.node.append(node("Identity", ["going"], ["goes on"]))
    count = len(names)
    carried = [value for value in body.input if value.name != "step/input"]
    loop = helper.make_graph(
        body.node,
        "one time step",
        [value("number", TensorProto.INT64, ()), value("going", TensorProto.BOOL, ()), *carried],
        [value("goes on", TensorProto.BOOL, ()), *body.output[count:], *body.output[:count]],
        body.initializer,
    )
    constants = [number("zero", [0]), number("one", [1]), number("two", [2])]
    nodes = [node("Shape", ["input"], ["sizes"])]
    at = ("zero", "one") if stepped.static else ("one", "two")
    nodes.append(node("Slice", ["sizes", *at], ["batch"]))
    if stepped.static:
        constants.append(number("steps", stepped.time_steps))
    else:
        nodes.append(node("Slice", ["sizes", "zero", "one"], ["steps"]))
    for name, rest, axis in zip(stepped.states, stepped.rest, stepped.batch_axes, strict=True):
        constants.append(numpy_helper.from_array(rest.numpy(), f"{name}.one"))
        if axis is None:
            nodes.append(node("Identity", [f"{name}.one"], [f"{name}.rest"]))
            continue
        constants.append(number(f"{name}.before", list(rest.shape[:axis])))
        constants.append(number(f"{name}.after", list(rest.shape[axis + 1 :])))
        parts = [f"{name}.before", "batch", f"{name}.after"]
        nodes.append(node("Concat", parts, [f"{name}.shape"], axis=0))
        shape = [f"{name}.one", f"{name}.shape"]
        nodes.append(node("Expand", shape, [f"{name}.rest"]))
    before = ["steps", "", *(f"{name}.rest" for name in stepped.states)]
    after = [*(f"{name}.end" for name in stepped.states), *names]
    nodes.append(node("Loop", before, after, body=loop))
    nodes += [node("Identity", [name], [f"read/{name}"]) for name in names]
    nodes += [*read.graph.node, node("Identity", ["read/scores"], ["scores"])]
    batch = [*([] if stepped.static else ["steps"]), "batch", *stepped.frame.shape[1:]]
    outputs = []
    if stepped.has_scores:
        with torch.no_grad():
            sizes = stepped.read(*(part[:, :1] for part in course)).shape[1:]
        outputs.append(value("scores", TensorProto.FLOAT, ["batch", *sizes]))
    outputs += [
        value(name, TensorProto.FLOAT, ["steps", "batch", *shape])
        for name, shape in zip(names, stepped.course_shapes, strict=True)
    ]
    graph = helper.make_graph(
        nodes,
        "network over time",
        [value("input", kinds["step/input"], batch)],
        outputs,
        [*constants, *read.graph.initializer],
    )
    model = helper.make_model(
        graph,
        opset_imports=step.opset_import,
        ir_version=step.ir_version,
        functions=[*step.functions, *read.functions],
    )
    onnx.checker.check_model(model)
    return model


def run_model(model: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What onnxruntime answers to an `onnx.ModelProto`, on one thread."""
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = model.SerializeToString()
    session = runtime.InferenceSession(content, options, ["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(np.asarray(output)) for output in session.run(None, fed)]
