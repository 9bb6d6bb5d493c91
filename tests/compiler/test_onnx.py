"""A network leaves the process: ONNX and torch.export hold its step as it is written."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import spikeloom as sl

SHAPE = (4, 2, 8)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [sl.GLIF(6, 4), sl.PLIF(), sl.CuLIF(4.0, 3.0)]
    net = sl.nn.Sequential(
        nn.Linear(8, 6), *[part for neuron in layers for part in (neuron, nn.Linear(6, 6))]
    )
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data.mul_(8)
    return net.eval()


def current() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)) * 3


@pytest.mark.filterwarnings("ignore")
def test_onnxruntime_answers_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net, x = network(), current()
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (x,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (spikes,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = net(x)
    assert expected.std() > 0
    torch.testing.assert_close(torch.from_numpy(spikes), expected, rtol=1e-5, atol=1e-5)


PROGRAM = """
import sys, torch
sys.modules["spikeloom"] = None  # importing it fails
program = torch.export.load(sys.argv[1]).module()
x, expected = torch.load(sys.argv[2])
with torch.no_grad():
    torch.testing.assert_close(program(x), expected)
print("equal")
"""


@pytest.mark.filterwarnings("ignore")
def test_a_saved_program_runs_without_spikeloom(tmp_path: Path) -> None:
    net, x = network(), current()
    program, tensors = tmp_path / "net.pt2", tmp_path / "x.pt"
    torch.export.save(torch.export.export(net, (x,)), program)
    with torch.no_grad():
        torch.save((x, net(x)), tensors)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, program, tensors], capture_output=True, text=True
    )
    assert done.stdout.strip() == "equal", done.stderr
