"""Who can run a neuron: this library's backends, torch.compile, and the peers that have it."""

import copy
import importlib
from dataclasses import dataclass, field
from importlib import metadata

import torch
from torch import Tensor

from benchmarks.peers import PEERS, Network, installed
from spikeloom import __version__
from spikeloom.analysis.agreement import with_backend
from spikeloom.compiler.dispatch import Choice
from spikeloom.errors import StepError
from spikeloom.neurons import IF, LIF, PLIF, Neuron


@dataclass
class Networks:
    """Networks on `[T, B, ...]` by the name of their library, columns about them, and who is
    absent, with the reason.
    """

    by_name: dict[str, Network] = field(default_factory=dict)
    about: dict[str, dict[str, object]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def networks(neuron: Neuron, x: Tensor, compile_eager: bool, backend: str) -> Networks:
    """Everybody who can run `neuron` on `x`. `backend`: that of this library's kernel."""
    found = Networks()
    ours = with_backend(neuron, backend)
    try:
        choice = ours.choice(x.device, x.dtype)
    except StepError as error:
        choice = Choice("eager", str(error))
    if choice.backend == "eager":
        found.absent["spikeloom"] = choice.reason
    else:
        found.by_name["spikeloom"] = ours
        found.about["spikeloom"] = {"backend": choice.backend, "version": version("spikeloom")}
    eager = with_backend(neuron, "eager")
    found.by_name["eager"] = eager
    found.about["eager"] = {"version": torch.__version__}
    if compile_eager:
        found.by_name["torch.compile"] = torch.compile(copy.deepcopy(eager), dynamic=False)
        found.about["torch.compile"] = {"version": torch.__version__}
    for name, build in PEERS.items():
        if not installed(name):
            found.absent[name] = "not installed"
        elif (peer := build(neuron)) is None:
            found.absent[name] = "has no such neuron"
        else:
            peer[1].to(x.device)
            found.by_name[name] = peer[0]
            found.about[name] = {"version": version(name)} | _implementation(name, neuron, x)
    return found


def _implementation(library: str, neuron: Neuron, x: Tensor) -> dict[str, object]:
    """On CUDA, what SpikingJelly says that it runs a node with; it does not say for half precision,
    which it takes through its Python loop.
    """
    kinds = {IF: "if", LIF: "lif", PLIF: "plif"}
    if library != "spikingjelly" or x.device.type != "cuda" or x.dtype != torch.float32:
        return {}
    if type(neuron) not in kinds:
        return {"backend": "torch"}
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    found = functional.neuron_implementation(kinds[type(neuron)], x.device)
    return {"backend": found["implementation"]}


def version(package: str) -> str:
    """The version of an installed package; ours also where it runs from its source folder."""
    return __version__ if package == "spikeloom" else metadata.version(package)


def half_state(neuron: Neuron, x: Tensor) -> Tensor:
    """The spikes of a plain loop whose state has the dtype of `x`, as a library without mixed
    precision has it; ours keeps its state in float32.
    """
    rest = neuron.rest()
    states = [torch.full_like(x[0], rest.get(name, 0.0)) for name in neuron.states]
    coefs = {name: value.to(x.dtype) for name, value in neuron.coefs().items()}
    spikes = []
    for current in x.unbind(0):
        out = neuron.step(current, *states, **coefs)
        states = list(out[1 : 1 + len(states)])
        spikes.append(out[0])
    return torch.stack(spikes)
