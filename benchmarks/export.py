"""Exported networks against the runs they are of: equal spikes, equal answers, size and time of C.

All test samples of a run go through the network, through onnxruntime (a loop over time) and
through the compiled C. A sample is equal if every output of every time step is, to the last bit.
"""

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spikeloom.errors import ExportError
from spikeloom.exchange import CNetwork, c_source
from spikeloom.exchange.c import FLAGS, CSource, compile_c
from spikeloom.exchange.onnx import onnx_model, run_model
from spikeloom.exchange.stepwise import StepForm, Whole
from spikeloom.neurons import Neuron
from spikeloom.training import load_run

BATCH = 64
_MAIN = """#include "{name}.h"

int main(void) {{
    static {name}_state state;
    static float input[{NAME}_INPUTS], output[{NAME}_OUTPUTS];
    {name}_reset(&state);
    return {name}_step(&state, input, output) + (int)output[0];
}}
"""


@dataclass
class Agreement:
    """Of `samples`: `equal` to the last bit of every output at every step, `near` within 1e-4 (a
    spike that is missing anywhere shows beyond that), `labels` with the same class, the largest
    `difference` of an output; `ms` of a time step of one sample, 0 if not measured."""

    samples: int = 0
    equal: int = 0
    near: int = 0
    labels: int = 0
    difference: float = 0.0
    ms: float = 0.0

    def count(self, expected: Tensor, found: Tensor, scores: Tensor, answers: Tensor) -> None:
        gap = (expected - found).abs().flatten(2).amax((0, 2))
        self.samples += len(gap)
        self.equal += int((gap == 0).sum())
        self.near += int((gap <= 1e-4).sum())
        self.labels += int((scores.argmax(1) == answers.argmax(1)).sum())
        self.difference = max(self.difference, gap.max().item())


def agreement(run: Path) -> dict[str, Agreement]:
    """What onnxruntime and C answer to the test samples of a run."""
    trained = load_run(run)
    net = trained.classifier.eval()
    for module in net.modules():
        if isinstance(module, Neuron):
            module.backend = "eager"
    batches = [batch.inputs for batch in trained.test_loader().epoch(0)]
    form = StepForm(net, batches[0][:, :1] if not _static(net, batches[0]) else batches[0][:1])
    model = onnx_model(net, batches[0][:1] if form.static else batches[0][:, :1], "loop")
    compiled = CNetwork(c_source(net, batches[0][:1] if form.static else batches[0][:, :1]))
    whole, found = Whole(net), {"onnxruntime": Agreement(), "C": Agreement()}
    for inputs in batches:
        for x in inputs.split(BATCH, 0 if form.static else 1):
            with torch.no_grad():
                scores, course, *_ = whole(x)
            answers = run_model(model, [x])
            found["onnxruntime"].count(course, answers[1], scores, answers[0])
            frames = x.expand(form.time_steps, *x.shape) if form.static else x
            start = time.perf_counter()
            outputs, read = compiled(frames)
            steps = frames.shape[0] * frames.shape[1]
            ms = 1e3 * (time.perf_counter() - start) / steps
            best = found["C"]
            best.ms = min(best.ms or ms, ms)
            best.count(course.flatten(2), outputs[:, :, : course.shape[2]], scores, read)
    return found


def _static(net: torch.nn.Module, x: Tensor) -> bool:
    return Whole(net).batch_axis(x[:1]) == 0 if x.dim() == 4 else False


def binary_size(code: CSource) -> int:
    """Bytes of a stripped program that runs a step, linked without the C library in it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        main = _MAIN.format(name=code.name, NAME=code.name.upper())
        texts = {f"{code.name}.h": code.header, f"{code.name}.c": code.source, "main.c": main}
        for name, text in texts.items():
            (folder / name).write_text(text)
        made = folder / "net"
        compile_c([folder / f"{code.name}.c", folder / "main.c"], made, [*FLAGS, "-s"])
        return made.stat().st_size


def table(runs: list[Path]) -> list[list[str]]:
    """A row for each run and runtime."""
    rows = []
    for run in runs:
        net = load_run(run)
        x = next(net.test_loader().epoch(0)).inputs
        one = x[:1] if _static(net.classifier, x) else x[:, :1]
        code = c_source(net.classifier, one)
        for runtime, found in agreement(run).items():
            in_c = runtime == "C"
            rows.append(
                [
                    net.recipe.origin or run.name,
                    runtime,
                    f"{found.equal} of {found.samples}",
                    f"{found.near} of {found.samples}",
                    f"{found.labels} of {found.samples}",
                    f"{found.difference:.2g}",
                    f"{found.ms:.3f}" if in_c else "",
                    f"{binary_size(code) / 1024:,.0f}" if in_c else "",
                    f"{code.ram / 1024:,.1f}" if in_c else "",
                ]
            )
    return rows


COLUMNS = (
    *("run", "runtime", "outputs equal", "within 1e-4", "labels equal", "largest difference"),
    *("ms a step", "binary, KiB", "RAM, KiB"),
)


def check_compiler() -> str:
    """The version of the C compiler; `ExportError` where there is none."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ExportError("no C compiler here (gcc or cc)")
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]
