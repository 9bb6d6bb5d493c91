"""A time step in plain C: a header and a source without dependencies, for microcontrollers.

    NAME_reset(&state);                               before each sample
    NAME_step(&state, input, output);                 T times
    NAME_scores(&state, scores);                      of all steps so far

float32 throughout. Every sum has one fixed order, products with the network's input are added as
torch adds them, unrounded, and neurons compute what their kernels compute; compile with
-ffp-contract=off, or a compiler may round less often than torch does.
"""

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from spikeloom.errors import ExportError
from spikeloom.exchange.c_loops import Buffer, number
from spikeloom.exchange.lowering import Lowering, Weights
from spikeloom.exchange.stepwise import Call, StepForm, exported

FLAGS = ("-std=c99", "-O2", "-ffp-contract=off")


@dataclass(frozen=True)
class CSource:
    """`header` and `source` are texts; `inputs`, `outputs` and `scores` (0: no readout) count
    floats; `ram` and `flash` are the bytes of the state and of the weights."""

    name: str
    header: str
    source: str
    inputs: int
    outputs: int
    scores: int
    ram: int
    flash: int


def c_source(net: nn.Module, example: Tensor, name: str = "net") -> CSource:
    """The C of a network, `name` before each of its names; `example` as for `StepForm`.

    Raises `ExportError` for an operation that has no C form, with its name.
    """
    name = _word(name, "net_")
    stepped = StepForm(net, example)
    weights = Weights()
    fields = [_word(state, "layer_") for state in stepped.states]
    places = [f"state->{field}" for field in fields]
    courses = len(stepped.course_shapes)
    updates = {courses + i: place for i, place in enumerate(places)}
    step = Lowering(stepped.step_program(batch=1), ["input", *places], weights, updates).run()
    sizes = [prod(shape) for shape in stepped.course_shapes]
    reading = _Reading(stepped, sizes, weights)
    scratch = max(step.scratch, reading.scratch)
    states = [(field, rest.numel()) for field, rest in zip(fields, stepped.rest, strict=True)]
    members = [*(f"float {field}[{size}];" for field, size in states), *reading.members]
    members += [f"float scratch[{scratch}];"] * bool(scratch)
    count = sum(size for _, size in states) + scratch + reading.floats
    body = "\n".join([*step.statements, *_copies(step, places, courses)])
    limits = [
        f"if (state->{field}[0] >= {_rows(stepped, state)}.0f) return 1;"
        for field, state in zip(fields, stepped.states, strict=True)
        if state.endswith(".clock")
    ][:1]
    resets = [
        f"for (int i = 0; i < {rest.numel()}; i++) state->{field}[i] = {number(_level(rest))};"
        for field, rest in zip(fields, stepped.rest, strict=True)
    ]
    inputs, outputs = stepped.frame.numel(), sum(sizes)
    flash = 4 * sum(len(values) for values in weights.arrays.values())
    head = {"name": name, "NAME": name.upper(), "inputs": inputs, "outputs": outputs}
    parts = [
        f"#define {name.upper()}_{part.upper()} {sum(sizes[:i])} /* floats {sum(sizes[:i])} to "
        f"{sum(sizes[: i + 1]) - 1} of the output */"
        for i, part in enumerate(stepped.names)
    ]
    header = _HEADER.format(
        **head, members=_lines(members, 4), parts="\n".join(parts), scores=reading.declared(name)
    )
    arrays = "\n".join(
        f"static const float {array}[{len(values)}] = {{{_numbers(values)}}};"
        for array, values in weights.arrays.items()
    )
    answers = [
        _copied(f"output + {sum(sizes[:i])}", buffer)
        for i, buffer in enumerate(step.outputs[:courses])
    ]
    source = _SOURCE.format(
        **head,
        arrays=arrays,
        resets=_lines([*resets, *reading.resets], 4),
        limits=_lines(limits, 4),
        scratch="float *const scratch = state->scratch;" if step.scratch else "",
        body=_lines([body, *answers, *reading.sums, "return 0;"], 4),
        scores=reading.defined(name),
    )
    return CSource(name, header, source, inputs, outputs, reading.count, 4 * count, flash)


class _Reading:
    """What of all steps is kept for the scores, and how they are made of it."""

    def __init__(self, stepped: StepForm, sizes: Sequence[int], weights: Weights) -> None:
        self.kind, self.count, self.scratch = stepped.readout, 0, 0
        self.members: list[str] = []
        self.resets: list[str] = []
        self.sums: list[str] = []
        self.floats, n = 0, sizes[0]
        if self.kind is None:
            return
        self.members = ["int steps;", f"float course[{n}];"]
        self.floats, self.count = n + 1, n
        each = {
            "sum": "state->course[i] += output[i];",
            "mean": "state->course[i] += output[i];",
            "last": "state->course[i] = output[i];",
            "max": "if (output[i] > state->course[i]) state->course[i] = output[i];",
            "first spike": (
                f"if (output[i] != 0.0f && state->course[i] == 0.0f) state->course[i] = "
                f"(float)state->steps; if (output[{n} + i] > state->peak[i]) state->peak[i] = "
                f"output[{n} + i];"
            ),
        }[self.kind]
        first = "-INFINITY" if self.kind == "max" else "0.0f"
        self.resets = ["state->steps = 0;", _each(n, f"state->course[i] = {first};")]
        self.sums = ["state->steps += 1;", _each(n, each)]
        if self.kind == "first spike":
            self.members.append(f"float peak[{n}];")
            self.resets.append(_each(n, "state->peak[i] = -INFINITY;"))
            self.floats += n
            self.body = _FIRST_SPIKE.format(n=n)
            return
        course = [torch.zeros(1, 1, *shape) for shape in stepped.course_shapes]
        program = exported(Call(stepped.net, stepped.read), course)
        names = ["state->course", *["state->course"] * (len(course) - 1)]
        lowered = Lowering(program, names, weights).run()
        (result,), self.scratch = lowered.outputs, lowered.scratch
        self.count = result.size
        last = f"({result.name})[i]" + " / (float)state->steps" * (self.kind == "mean")
        self.body = "\n".join([*lowered.statements, _each(self.count, f"scores[i] = {last};")])

    def _signature(self, name: str) -> str:
        scores = f"float scores[{self.count}]"
        return f"void {name}_scores({name}_state *state, {scores})"

    def declared(self, name: str) -> str:
        if not self.count:
            return ""
        return f"#define {name.upper()}_SCORES {self.count}\n{self._signature(name)};"

    def defined(self, name: str) -> str:
        if not self.count:
            return ""
        scratch = "    float *const scratch = state->scratch;\n" if self.scratch else ""
        return f"\n{self._signature(name)} {{\n{scratch}{_lines([self.body], 4)}\n}}\n"


def _word(text: str, before: str) -> str:
    """A text as a name in C."""
    name = re.sub("[^A-Za-z0-9_]", "_", text)
    return name if name[:1].isalpha() else before + name


def _each(count: int, statement: str) -> str:
    return f"for (int i = 0; i < {count}; i++) {{ {statement} }}"


def _copies(step: Lowering, places: Sequence[str], courses: int) -> list[str]:
    """The new states into the old, none before what still reads it."""
    pairs = zip(places, step.outputs[courses:], strict=True)
    pending = [(place, buffer) for place, buffer in pairs if buffer.name != place]
    lines: list[str] = []
    while pending:
        ready = [c for c in pending if all(b.name != c[0] for p, b in pending if p != c[0])]
        if not ready:
            raise ExportError("states of this network change places in a step: no C form")
        for place, buffer in ready:
            lines.append(_copied(place, buffer))
            pending.remove((place, buffer))
    return lines


def _copied(place: str, buffer: Buffer) -> str:
    return f"memcpy({place}, {buffer.name}, {buffer.size} * sizeof(float));"


def _rows(stepped: StepForm, clock: str) -> int:
    """How many steps the constants of a neuron last that differ from step to step."""
    neuron = stepped.net.get_submodule(clock.rpartition(".")[0])
    return int(neuron.time_steps)  # type: ignore[arg-type]


def _level(rest: Tensor) -> float:
    if rest.unique().numel() > 1:
        raise ExportError("a state at rest differs from neuron to neuron: no C form")
    return rest.flatten()[0].item()


def _numbers(values: Tensor) -> str:
    """Nine digits name a float32; without a suffix, which costs a compiler nothing here."""
    if not values.isfinite().all():
        raise ExportError("a weight is NaN or infinite: train again")
    return ",".join([f"{value:.9g}" for value in values.tolist()])


def _lines(statements: Sequence[str], indent: int) -> str:
    text = "\n".join(statement for statement in statements if statement)
    return "\n".join(" " * indent + line for line in text.splitlines())


class CNetwork:
    """The C of a network, compiled and loaded here: to check it, and to time it.

    Raises `ExportError` where there is no C compiler, or it refuses the source.
    """

    def __init__(self, code: CSource, flags: Sequence[str] = FLAGS) -> None:
        self.code = code
        scores = f"{code.name}_scores(&state, scores + b * {code.scores});" if code.scores else ""
        run = _RUN.format(name=code.name, NAME=code.name.upper(), scores=scores)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            texts = {f"{code.name}.h": code.header, f"{code.name}.c": code.source, "run.c": run}
            for name, text in texts.items():
                (folder / name).write_text(text)
            compile_c(
                [folder / f"{code.name}.c", folder / "run.c"],
                folder / "net.so",
                [*flags, "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unused-variable"],
            )
            self._run = ctypes.CDLL(str(folder / "net.so")).run  # stays in memory

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs `[T, B, outputs]` and scores `[B, scores]` for `[T, B, ...]`."""
        steps, batch = frames.shape[:2]
        x = frames.flatten(2).transpose(0, 1).float().contiguous()
        if x.shape[2] != self.code.inputs:
            raise ExportError(f"{x.shape[2]} inputs: this network takes {self.code.inputs}")
        output = torch.zeros(batch, steps, self.code.outputs)
        scores = torch.zeros(batch, max(self.code.scores, 1))
        at = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, output, scores)]
        failed = self._run(at[0], ctypes.c_int(batch), ctypes.c_int(steps), *at[1:])
        if failed:
            raise ExportError(f"{steps} time steps: this network has constants for fewer")
        return output.transpose(0, 1), scores[:, : self.code.scores]


def compile_c(sources: Sequence[Path], program: Path, flags: Sequence[str]) -> None:
    """Calls the machine's C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ExportError("no C compiler here (gcc or cc): install one to check C")
    command = [compiler, *flags, *map(str, sources), "-o", str(program), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"{compiler}: {done.stderr.strip().splitlines()[0]}")


_HEADER = """/* {name}: one time step of a spiking network. Written by spikeloom; plain C99. */
#ifndef {NAME}_H
#define {NAME}_H

#define {NAME}_INPUTS {inputs}
#define {NAME}_OUTPUTS {outputs}
{parts}

typedef struct {{
{members}
}} {name}_state;

/* At rest, before the first step of a sample. */
void {name}_reset({name}_state *state);
/* One step; 0, or 1 if the network has no constants for so many steps. */
int {name}_step({name}_state *state, const float input[{inputs}], float output[{outputs}]);
{scores}

#endif
"""

_SOURCE = """/* {name}: compile with -ffp-contract=off. */
#include "{name}.h"

#include <math.h>
#include <string.h>

#ifdef FP_FAST_FMAF /* a b + c, rounded once */
#define MADD(a, b, c) fmaf(a, b, c)
#else
#define MADD(a, b, c) (float)((double)(a) * (b) + (c))
#endif

{arrays}

void {name}_reset({name}_state *state) {{
{resets}
}}

int {name}_step({name}_state *state, const float input[{inputs}], float output[{outputs}]) {{
{limits}
    {scratch}
{body}
}}
{scores}"""

_FIRST_SPIKE = """for (int i = 0; i < {n}; i++) {{
    int rank = 1; /* of a silent neuron, by its highest potential; equal ones: the lower index */
    for (int j = 0; j < {n}; j++)
        rank += state->peak[j] > state->peak[i] || (state->peak[j] == state->peak[i] && j < i);
    scores[i] = -(state->course[i] != 0.0f ? state->course[i] : (float)(state->steps + rank));
}}"""

_RUN = """#include "{name}.h"

int run(const float *x, int batch, int steps, float *output, float *scores) {{
    static {name}_state state;
    for (int b = 0; b < batch; b++) {{
        {name}_reset(&state);
        for (int t = 0; t < steps; t++) {{
            const long at = (long)b * steps + t;
            if ({name}_step(&state, x + at * {NAME}_INPUTS, output + at * {NAME}_OUTPUTS)) return 1;
        }}
        {scores}
    }}
    return 0;
}}
"""
