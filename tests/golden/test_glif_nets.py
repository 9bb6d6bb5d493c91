"""tdBN, blocks, and whole networks of GLIF equal the published code, gradients included."""

import numpy as np
import pytest
import torch
from golden_compare import assert_abs, assert_exact, assert_rel
from golden_glif import Arrays, cases, close, column, precisions, tensor
from golden_glif_nets import block, inputs, network
from torch import Tensor, nn

from spikeloom.compiler.dispatch import available_backends
from spikeloom.neurons import Neuron
from spikeloom.nn import TdBatchNorm

pytestmark = pytest.mark.filterwarnings("ignore:.*different sets of constants")

BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]
F64 = torch.float64


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def test_tdbn(glif_tdbn: Arrays) -> None:
    for name, case in cases(glif_tdbn).items():
        for precision, dtype in precisions(case):
            rtol, atol = (1e-10, 1e-12) if dtype == F64 else (2e-5, 2e-6)
            first = tensor(case["x0"], dtype)
            weight = tensor(case["weight"], dtype)
            spread = float((case["f64.train_y"] - case["bias"][:, None, None]).std())
            spread /= float(np.sqrt((case["weight"].astype(float) ** 2).mean()))
            # alpha is 1 or 1 / sqrt(2); the output's spread tells which.
            alpha = 1.0 if spread > 0.5 * 0.85 else 0.5**0.5
            norm = TdBatchNorm(first.shape[1], alpha=alpha).to(dtype)
            norm.load_state_dict(
                norm.state_dict() | {"weight": weight, "bias": tensor(case["bias"], dtype)}
            )
            x = first[None].requires_grad_()
            y = norm(x)
            y.backward(tensor(case["grad_out"], dtype)[None])
            close(y[0], case[f"{precision}.train_y"], rtol, atol, f"{name} output")
            grads = {"x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
            for key, grad in grads.items():
                assert grad is not None
                got = grad[0] if key == "x" else grad
                close(got, case[f"{precision}.grad_{key}"], rtol, atol, f"{name} grad {key}")
            norm(tensor(case["x1"], dtype)[None])
            for key in ("running_mean", "running_var"):
                close(getattr(norm, key), case[f"{precision}.{key}"], rtol, atol, f"{name} {key}")
            y = norm.eval()(tensor(case["x2"], dtype)[None])
            close(y[0], case[f"{precision}.eval_y"], rtol, atol, f"{name} evaluation")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_blocks(glif_blocks: Arrays, backend: str, dtype: torch.dtype) -> None:
    for name, case in cases(glif_blocks).items():
        precision = column(case, dtype)
        what = f"{name} {precision}"
        net = block(case, backend, dtype, name)
        x = tensor(case["x"], dtype).requires_grad_()
        y = net(x)
        y.backward(tensor(case["grad_out"], dtype))
        atol = 1e-11 if dtype == F64 else 1e-5
        close(y, case[f"{precision}.out"], 0, atol, f"{what} output")
        rtol, grad_atol = (1e-9, 1e-10) if dtype == F64 else (1e-4, 2e-5)
        assert x.grad is not None
        close(x.grad, case[f"{precision}.grad_x"], rtol, grad_atol, f"{what} grad x")
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            golden = case[f"{precision}.grad.{key}"]
            close(parameter.grad, golden, rtol, grad_atol, f"{what} grad {key}")
        buffers = dict(net.named_buffers())
        stored = [key for key in case if key.startswith(f"{precision}.post.")]
        assert stored
        for key in stored:
            close(buffers[key.split(".post.")[1]], case[key], rtol, atol, f"{what} {key}")
        close(net.eval()(x), case[f"{precision}.out_eval"], 0, atol, f"{what} evaluation")


class _Pass:
    """One pass in training mode, with its gradients, and one in evaluation mode after it."""

    def __init__(self, arrays: Arrays, backend: str, dtype: torch.dtype) -> None:
        net = network(arrays, backend, dtype)
        counts: list[Tensor] = []
        hooks = [
            module.register_forward_hook(lambda _, __, out: counts.append(out.detach().sum()))
            for module in net.modules()
            if isinstance(module, Neuron)
        ]
        x = inputs(arrays, dtype).requires_grad_()
        output = net(x)
        for hook in hooks:
            hook.remove()
        loss = net.loss(output, torch.from_numpy(arrays["y"]))
        loss.backward()
        self.counts, self.logits, self.loss = torch.stack(counts), output.scores.detach(), loss
        assert x.grad is not None
        self.grad_x = x.grad.transpose(0, 1) if x.dim() == 5 else x.grad
        parameters = dict(net.named_parameters())
        self.grads = [_grad(parameters[str(name)]) for name in arrays["param_names"]]
        self.norms = [m for m in net.modules() if hasattr(m, "running_var")]
        with torch.no_grad():
            self.means = _lengths(self.norms, "running_mean")
            self.variances = _lengths(self.norms, "running_var")
            self.logits_eval = net.eval()(inputs(arrays, dtype)).scores


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.double()


def _lengths(norms: list[nn.Module], name: str) -> Tensor:
    return torch.stack([getattr(module, name).double().norm() for module in norms])


def test_networks_in_float64(glif_net: Arrays, backend: str) -> None:
    run = _Pass(glif_net, backend, F64)
    assert_exact(run.counts, glif_net["f64.spike_counts"], "spikes per layer")
    for name, got in (("logits", run.logits), ("loss", run.loss), ("logits_eval", run.logits_eval)):
        assert_abs(got, glif_net[f"f64.{name}"], 1e-9, name)
    lengths = torch.stack([grad.norm() for grad in run.grads])
    close(lengths, glif_net["f64.grad_norms"], 1e-8, 1e-14, "gradient norms")
    for i, grad in enumerate(run.grads):
        flat = grad.flatten()
        first = flat[torch.arange(8) % len(flat)]
        name = f"gradient of {glif_net['param_names'][i]}"
        close(first, glif_net["f64.grad_first"][i], 1e-7, 1e-10, name)
    close(run.grad_x, glif_net["f64.grad_x"], 1e-7, 1e-10, "gradient of the input")
    close(run.means, glif_net["f64.running_mean_norms"], 1e-9, 0, "running means")
    close(run.variances, glif_net["f64.running_var_norms"], 1e-9, 0, "running variances")


def test_networks_in_float32(glif_net: Arrays, backend: str) -> None:
    prefix = "f32" if "f32.logits" in glif_net else "mixed"
    run = _Pass(glif_net, backend, torch.float32)
    golden = glif_net[f"{prefix}.spike_counts"]
    assert_rel(run.counts.sum(), golden.sum(), 1e-3, "spikes")
    # One spike on the other side of its threshold changes all that follows: it is allowed, since
    # float32 depends on the order of summation, and then the rest is not comparable.
    if not np.array_equal(run.counts.numpy(), golden):
        return
    for name, got in (("logits", run.logits), ("loss", run.loss), ("logits_eval", run.logits_eval)):
        assert_abs(got, glif_net[f"{prefix}.{name}"], 1e-4, name)
    lengths = torch.stack([grad.norm() for grad in run.grads])
    close(lengths, glif_net[f"{prefix}.grad_norms"], 5e-3, 1e-7, "gradient norms")
    close(run.means, glif_net[f"{prefix}.running_mean_norms"], 1e-4, 0, "running means")
    close(run.variances, glif_net[f"{prefix}.running_var_norms"], 1e-4, 0, "running variances")
