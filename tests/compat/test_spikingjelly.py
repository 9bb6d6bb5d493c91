"""Every version of SpikingJelly that we speak: equal to what the real one computed."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import compare, installed, kept, real, run
from torch import nn

from spikeloom.compat.spikingjelly.dialects import DIALECTS, dialect
from spikeloom.compat.spikingjelly.hook import modules
from spikeloom.compiler import dispatch

VERSIONS = [version for version in DIALECTS if version != "0.0.0.0.3"]  # the same nodes as in .4


def ours(version: str, part: str) -> Any:
    return SimpleNamespace(**modules(version)[part])


def results(version: str) -> dict[str, Any]:
    habits = dialect(version)
    parts = ours(version, "neuron"), ours(version, "surrogate")
    return run(*parts, habits.number, habits.single)


@pytest.mark.parametrize("version", VERSIONS)
def test_equations_are_those_of_the_real_version(version: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(dispatch, "FORCED", "eager")
    compare(results(version), kept(version))


def test_kernels_are_those_of_the_real_version(monkeypatch: Any) -> None:
    """The same golden arrays, on the compiled path; a few cases, as each is a kernel of its own."""
    import cases

    every, version = cases.cases, "0.0.0.0.14"
    wanted = (
        "LIFNode tau=3.0 v_reset=0.0 detach_reset=False m",
        "ParametricLIFNode init_tau=3.0 v_reset=-0.3 detach_reset=False s",
        "IzhikevichNode a=0.2 b=0.3 v_reset=None detach_reset=False s",
    )
    monkeypatch.setattr(
        cases,
        "cases",
        lambda *which: {k: v for k, v in every(*which).items() if k in wanted},
    )
    found = results(version)
    assert sum(name.endswith("spikes") for name in found) == len(wanted)
    golden = kept(version)
    compare(found, {name: golden[name] for name in found})


def test_equal_to_the_version_that_is_installed(monkeypatch: Any) -> None:
    here = installed()
    if here is None or here[0] not in DIALECTS:
        pytest.skip("no version of spikingjelly that we know is installed")
    habits = dialect(here[0])
    monkeypatch.setattr(dispatch, "FORCED", "eager")
    compare(results(here[0]), run(*real(here[1]), habits.number, habits.single))


def test_a_node_of_the_users_own_is_compiled() -> None:
    """The neuron of the PLIF authors' program, as it was written for 0.0.0.0.2."""
    neuron, surrogate = ours("0.0.0.0.2", "neuron"), ours("0.0.0.0.2", "surrogate")

    class OwnNode(neuron.BaseNode):  # type: ignore[name-defined,misc]
        def __init__(self, w: float, **options: Any) -> None:
            super().__init__(1.0, 0.0, surrogate.ATan(learnable=True), True, False)
            self.w = nn.Parameter(torch.tensor(w))

        def forward(self, dv: torch.Tensor) -> torch.Tensor:
            self.v += (dv - (self.v - self.v_reset)) * self.w.sigmoid()
            return self.spiking()  # type: ignore[no-any-return]

    x = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1)) * 3
    answers = []
    for compiled in (True, False):
        node, leaf = OwnNode(0.3), x.clone().requires_grad_()
        if not compiled:
            node.set_monitor()  # each step's numbers are wanted: the equations run as written
        spikes = torch.stack([node(step) for step in leaf])
        (spikes * x).sum().backward()
        answers.append([spikes, leaf.grad, node.w.grad, node.surrogate_function.alpha.grad])
        chosen = node.__dict__.get("_written")
        assert (chosen is not None) == compiled
        if compiled:
            assert chosen.choice(x.device, x.dtype).backend == "cpu"
    assert 0 < answers[0][0].mean() < 1
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-5, atol=1e-6)


def test_evaluation_that_passes_no_gradient_is_no_mistake(recwarn: Any) -> None:
    """The ATan of 0.0.0.0.2 is a plain step there."""
    neuron, surrogate = ours("0.0.0.0.2", "neuron"), ours("0.0.0.0.2", "surrogate")
    node = neuron.LIFNode(2.0, surrogate_function=surrogate.ATan(learnable=True)).eval()
    x = torch.rand(4, 8) * 3
    with torch.no_grad():
        node(x)
    assert node.__dict__["_written"].choice(x.device, x.dtype).backend == "cpu"
    assert not recwarn.list
    node.reset()
    leaf = x.clone().requires_grad_()
    node.train()(leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_what_stores_more_than_its_state_runs_as_written() -> None:
    neuron = ours("0.0.0.0.14", "neuron")

    class Counting(neuron.IFNode):  # type: ignore[name-defined,misc]
        count = 0

        def neuronal_charge(self, x: torch.Tensor) -> None:
            self.count += 1
            self.v = self.v + x

    node = Counting(step_mode="m")
    with pytest.warns(UserWarning, match="stores self.node.count"):
        node(torch.ones(4, 2, 3))
    assert node.count == 4


def test_state_stays_until_reset_and_gradients_pass_from_call_to_call() -> None:
    neuron = ours("0.0.0.0.12", "neuron")
    node = neuron.LIFNode(tau=2.0)
    x = torch.full((1, 1), 0.5, requires_grad=True)
    for _ in range(3):
        node(x)
    assert isinstance(node.v, torch.Tensor)
    assert node.v.item() == pytest.approx(0.5 * (1 - 0.5**3))  # none of the three has fired
    node.v.sum().backward()
    assert x.grad is not None and x.grad.item() != 0
    node.v_threshold = 9.0
    node.reset()
    assert node.v == 0.0 and node.v_threshold == 1.0  # .10 to .12 put that back too


PROGRAM = """
import sys, torch
from spikingjelly.clock_driven import neuron, layer, functional, surrogate
from spikingjelly.activation_based import neuron as later
import spikingjelly.datasets as sjds
net = torch.nn.Sequential(layer.SeqToANNContainer(torch.nn.Linear(4, 3)),
                          neuron.MultiStepLIFNode(tau=2.0, backend='cupy'))
print(sys.argv[1:], net(torch.ones(2, 5, 4)).shape, sorted(net.state_dict()))
functional.reset_net(net)
torch.save(net, 'net.pt')
print(type(torch.load('net.pt', weights_only=False)[1]).__name__, later.LIFNode().step_mode)
try:
    neuron.LIAFNode
except AttributeError as error:
    print(error)
try:
    from spikingjelly.clock_driven import ann2snn
except ImportError as error:
    print(error)
try:
    from spikingjelly.activation_based.neuron import GatedLIFNode
except ImportError as error:
    print(error)
"""


def test_a_program_runs_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "spikeloom.compat.spikingjelly", "train.py", "-b", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "['-b', '3'] torch.Size([2, 5, 3]) ['0.0.bias', '0.0.weight']"
    assert lines[1] == "MultiStepLIFNode s"
    assert "clock_driven.neuron.LIAFNode (0.0.0.0.12) is not served by spikeloom" in lines[2]
    assert "ann2snn is not served by spikeloom: conversion of trained ANNs" in lines[3]
    assert "neuron.GatedLIFNode is not served by spikeloom: sl.GLIF" in lines[4]


def test_one_import_line_changed() -> None:
    from spikeloom.compat.spikingjelly.activation_based import functional, layer, neuron

    net = nn.Sequential(layer.Conv2d(1, 2, 3), layer.BatchNorm2d(2), neuron.IFNode())
    functional.set_step_mode(net, "m")
    assert net(torch.rand(4, 2, 1, 5, 5)).shape == (4, 2, 2, 3, 3)
    with pytest.raises(ValueError, match=r"expected \[T, N, C, H, W\]"):
        net(torch.rand(2, 1, 5, 5))
