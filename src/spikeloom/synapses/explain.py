"""What runs each neuron and each synapse of a network, and why."""

import copy

import torch
from torch import Tensor, nn

from spikeloom.compiler import Explanation
from spikeloom.compiler import explain as explain_neurons
from spikeloom.synapses.switch import Decision, recording


def explain(
    module: nn.Module,
    x: Tensor | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Explanation:
    """For every neuron in `module`: which backend runs it, and why.

    With an input `x`, also for every convolution and linear layer over time: whether it worked on
    its active inputs (`sparse`), in the forward pass and for its weights' gradient, and how many
    there were. A copy of the module is run once; its weights, statistics and state stay as they
    are. `device`, `dtype`: of the input, where `x` is not given (`device`: that of the module's
    parameters).
    """
    if x is not None:
        device, dtype = x.device, x.dtype if x.is_floating_point() else dtype
    neurons = explain_neurons(module, device, dtype)
    if x is None:
        return neurons
    twin = copy.deepcopy(module)
    names = {id(p): name.removesuffix(".weight") for name, p in twin.named_parameters()}
    with torch.random.fork_rng(devices=[]), recording() as decisions:
        twin(x)
    rows = [_row(names.get(decision.weight, "?"), decision) for decision in decisions]
    return Explanation((*neurons.rows, *rows))


def _row(name: str, decision: Decision) -> tuple[str, str, str, str]:
    ran = decision.forward
    if decision.gradient not in ("-", decision.forward):
        ran = f"{decision.forward}, gradient {decision.gradient}"
    shape = "x".join(map(str, decision.shape))
    because = f"{shape}: {decision.reason}"
    if decision.density is not None:
        because = f"{decision.density:.1%} of {shape} active: {decision.reason}"
    return name, decision.kind, ran, because
