"""Optimizer steps with GLIF's parameter groups, and its learning rates, are the published ones."""

import numpy as np
import pytest
import torch
from golden_glif import Arrays, precisions, tensor
from golden_glif_nets import load, set_backend
from torch import Tensor, nn

from spikeloom.compiler.dispatch import available_backends
from spikeloom.components.optimizers import Sgd, make_optimizer, set_learning_rate
from spikeloom.components.schedules import Cosine
from spikeloom.methods.glif.blocks import BasicBlock, Parts
from spikeloom.methods.glif.config import GlifNetwork
from spikeloom.methods.glif.networks import GlifClassifier
from spikeloom.nn import Sequential

BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]


class _Small(GlifClassifier):
    """Stem, one block that halves, mean over positions, linear layer: the net of the arrays."""

    def __init__(self, arrays: Arrays) -> None:
        network = GlifNetwork(name="resnet18", T=int(arrays["T"]))
        super().__init__(network)
        parts = Parts(network)
        state = {k.removeprefix("sd0."): v for k, v in arrays.items() if k.startswith("sd0.")}
        width, inputs = state["stem.0.0.weight"].shape[:2]
        classes, outputs = state["fc.weight"].shape
        self.stem = Sequential(parts.conv3x3(inputs, width), parts.neuron(width))
        self.block = BasicBlock(parts, width, outputs, stride=2)
        self.fc = nn.Linear(outputs, classes, bias=False)
        load(self, state)

    def course(self, current: Tensor) -> tuple[Tensor]:
        return (self.fc(self.block(self.stem(current)).mean((3, 4))),)


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_steps(glif_steps: Arrays, backend: str) -> None:
    for precision, dtype in precisions(glif_steps):
        net = _Small(glif_steps).to(dtype).train()
        set_backend(net, backend)
        config = Sgd(lr=float(glif_steps[f"{precision}.lrs"][0, 0]), momentum=0.9,
            weight_decay=4e-5,
        )  # fmt: skip
        optimizer = make_optimizer(config, net.parameter_groups())
        schedule = Cosine(T_max=len(glif_steps["X"]))
        losses, rates = [], []
        for step, (x, y) in enumerate(zip(glif_steps["X"], glif_steps["Y"], strict=True)):
            set_learning_rate(optimizer, schedule, step)
            rates.append([group["lr"] for group in optimizer.param_groups])
            loss = net.loss(net(tensor(x, dtype)), torch.from_numpy(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        np.testing.assert_allclose(rates, glif_steps[f"{precision}.lrs"], rtol=1e-9, atol=1e-15)
        rtol, atol = (1e-9, 1e-11) if dtype == torch.float64 else (1e-3, 0)
        np.testing.assert_allclose(losses, glif_steps[f"{precision}.losses"], rtol, atol)
        if dtype == torch.float64:
            finals = {k: v for k, v in glif_steps.items() if k.startswith(f"{precision}.final.")}
            state = net.state_dict()
            for key, golden in finals.items():
                name = key.removeprefix(f"{precision}.final.")
                if name not in state:
                    assert name.endswith(".Vth"), name  # the norm's constant in the published code
                    continue
                value = state[name]
                np.testing.assert_allclose(value.numpy(), golden, rtol, atol, err_msg=name)


def test_learning_rates(glif_schedules: Arrays) -> None:
    epochs, lr = int(glif_schedules["tunable.epochs"]), float(glif_schedules["tunable.lr0"])
    rates = [lr, lr, lr / float(glif_schedules["tunable.gate_lr_divisor"])]
    schedule = Cosine(T_max=epochs)
    # The published rows beyond the last epoch are never trained with: the code holds 0 there.
    ours = [[schedule.rate(rate, epoch) for rate in rates] for epoch in range(epochs)]
    golden = glif_schedules["tunable.lr"][:epochs]
    np.testing.assert_allclose(ours, golden, rtol=1e-9, atol=1e-15)

    wave = Cosine(T_max=int(glif_schedules["dvs.T_max"]))
    lr = float(glif_schedules["dvs.lr0"])
    ours_dvs = [wave.rate(lr, epoch) for epoch in range(len(glif_schedules["dvs.lr"]))]
    np.testing.assert_allclose(ours_dvs, glif_schedules["dvs.lr"], rtol=1e-9, atol=1e-15)
