"""Whole PLIF networks equal the published code: spikes, votes, loss, gradients, BatchNorm, and
several Adam steps."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from golden_compare import assert_abs, assert_exact, assert_rel
from golden_plif_nets import build_net, inputs, our_name, set_masks
from torch import Tensor

from spikeloom.compiler.dispatch import available_backends
from spikeloom.components.optimizers import Adam, make_optimizer
from spikeloom.methods.plif.networks import PlifClassifier
from spikeloom.neurons import PLIF, Neuron

Arrays = dict[str, np.ndarray]


@pytest.fixture(params=[name for name in available_backends() if name in ("eager", "cpu")])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@dataclass
class Training:
    """What a few optimizer steps on one batch left behind; `first_*` is of the first iteration."""

    net: PlifClassifier
    counters: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    w: list[Tensor] = field(default_factory=list)
    first_spikes: list[Tensor] = field(default_factory=list)
    first_grads: dict[str, Tensor] = field(default_factory=dict)
    first_buffers: dict[str, Tensor] = field(default_factory=dict)

    def spike_count(self) -> Tensor:
        """Spikes `[layer, T]`."""
        return torch.stack([spikes.flatten(1).sum(1) for spikes in self.first_spikes])

    def grad_norms(self, arrays: Arrays) -> Tensor:
        # in float64: over 33 million float32 values torch loses three digits
        grads = [self.first_grads[our_name(name)] for name in arrays["param_names"]]
        return torch.stack([grad.double().norm() for grad in grads])


def _train(arrays: Arrays, backend: str, dtype: torch.dtype) -> Training:
    net = build_net(arrays, backend, dtype)
    optimizer = make_optimizer(
        Adam(lr=float(arrays["cfg.lr"])), [{"params": list(net.parameters())}]
    )
    run = Training(net)
    x, labels = inputs(arrays, dtype), torch.from_numpy(arrays["label"])
    run.w.append(_w(net))
    for iteration in range(int(arrays["cfg.steps"])):
        set_masks(net, arrays, iteration)
        hooks = [
            module.register_forward_hook(lambda _, __, out: run.first_spikes.append(out.detach()))
            for module in net.modules()
            if isinstance(module, Neuron) and iteration == 0
        ]
        output = net(x)
        for hook in hooks:
            hook.remove()
        loss = net.loss(output, labels)
        optimizer.zero_grad()
        loss.backward()
        if iteration == 0:
            run.first_grads = {n: _grad(p) for n, p in net.named_parameters()}
            run.first_buffers = {n: b.clone() for n, b in net.named_buffers()}
        optimizer.step()
        run.counters.append(output.scores.detach())
        run.losses.append(loss.detach())
        run.w.append(_w(net))
    return run


def _w(net: PlifClassifier) -> Tensor:
    w = [module.w.detach().clone() for module in net.modules() if isinstance(module, PLIF)]
    return torch.stack(w) if w else torch.zeros(0)


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.clone()


def test_float64_equals_published(plif_net: Arrays, backend: str) -> None:
    run = _train(plif_net, backend, torch.float64)

    assert_exact(run.spike_count(), plif_net["spike_count"], "spikes per layer and step")
    assert_exact(run.first_spikes[-1], plif_net["spk_out"], "output spikes")
    assert_abs(torch.stack(run.counters), plif_net["counter_f64"], 1e-10, "counter")
    assert_abs(torch.stack(run.losses), plif_net["loss_f64"], 1e-10, "loss")
    for key in [key for key in plif_net if key.startswith("grad_f64.")]:
        grad = run.first_grads[our_name(key.removeprefix("grad_f64."))]
        assert_rel(grad, plif_net[key], 1e-9, key)
    norms = run.grad_norms(plif_net)
    _assert_each_rel(norms, plif_net["grad_norm_f64"], 1e-9, "gradient norms")
    for key in [key for key in plif_net if key.startswith("bn.")]:
        assert_rel(run.first_buffers[key.removeprefix("bn.")], plif_net[key], 1e-10, key)
    assert_abs(torch.stack(run.w), plif_net["w_traj_f64"], 1e-9, "w")
    after = dict(run.net.named_parameters())
    norms = torch.stack([after[our_name(name)].detach().norm() for name in plif_net["param_names"]])
    _assert_each_rel(norms, plif_net["param_norm_after_f64"], 1e-9, "parameter norms")

    run.net.eval()
    with torch.no_grad():
        output = run.net(inputs(plif_net, torch.float64))
    assert_abs(output.scores, plif_net["counter_eval_f64"], 1e-9, "counter in evaluation")


def test_float32_is_sane(plif_net: Arrays, backend: str) -> None:
    run = _train(plif_net, backend, torch.float32)
    count, golden = run.spike_count(), plif_net["f32_spike_count"]
    assert_rel(count.sum(), golden.sum(), 1e-3, "spikes")
    if np.array_equal(count.numpy(), golden):
        assert_abs(torch.stack(run.losses), plif_net["loss_f32"], 1e-6, "loss")
        assert_abs(torch.stack(run.counters), plif_net["counter_f32"], 1e-5, "counter")
        norms = run.grad_norms(plif_net)
        for name, norm, want in zip(
            plif_net["param_names"], norms, plif_net["grad_norm_f32"], strict=True
        ):
            scalar = name.endswith((".w", ".alpha"))
            assert_rel(norm, want, 1e-2 if scalar else 1e-3, f"gradient norm of {name}")


def _assert_each_rel(actual: Tensor, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Relative to each entry, where they are norms of different parameters."""
    for i, (got, want) in enumerate(zip(actual, expected, strict=True)):
        assert_rel(got, want, tolerance, f"{what}[{i}]")
