"""Whole networks of first-spike coding equal both published implementations, step by step."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from golden_compare import assert_exact
from golden_fs import BACKENDS, DTYPES, GRADIENT, Arrays, assert_state, tensor
from golden_fs_nets import (
    conv_net,
    conv_weights,
    gradients,
    mlp,
    oriented,
    published_name,
    set_dropout,
    time_first,
)
from torch import Tensor, nn

from spikeloom.analysis.rates import FiringRates
from spikeloom.components.optimizers import Adam, make_optimizer
from spikeloom.methods.fs.networks import FsClassifier

pytestmark = pytest.mark.filterwarnings("ignore:.*different sets of constants")

# The README allows float32 gradients of a whole network 1e-3 of the largest.
NET_GRADIENT = {"f64": GRADIENT["f64"], "f32": 1e-3}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DTYPES)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


def _assert_relative(actual: Tensor, expected: np.ndarray, tolerance: float, what: str) -> None:
    got = actual.detach().double().numpy().reshape(expected.shape)
    error = np.abs(got - expected).max(initial=0.0)
    slack = tolerance * np.abs(expected).max(initial=0.0)
    assert error <= slack, f"{what}: off by {error:.3g} > {slack:.3g}"


def _step(net: FsClassifier, arrays: Arrays, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Input, loss, and output of one forward and backward pass."""
    x = tensor(arrays["x"], dtype).requires_grad_()
    output = net(x.movedim(-1, 0))
    loss = net.loss(output, torch.from_numpy(arrays["label"]))
    loss.backward()
    return x, loss, output


@pytest.mark.parametrize("readout", ["first-spike", "rate"])
@pytest.mark.parametrize("dropout", [False, True])
def test_kernel_mlp(
    fs_mlp_k: Arrays, dropout: bool, readout: str, backend: str, suffix: str
) -> None:
    _check_mlp(fs_mlp_k, "kernel", "drop_" if dropout else "", readout, backend, suffix)


@pytest.mark.parametrize("readout", ["first-spike", "rate"])
def test_autograd_mlp(fs_mlp_a: Arrays, readout: str, backend: str, suffix: str) -> None:
    _check_mlp(fs_mlp_a, "autograd", "", readout, backend, suffix)


def _check_mlp(
    arrays: Arrays, form: str, case: str, readout: str, backend: str, suffix: str
) -> None:
    dtype = DTYPES[suffix]
    net = mlp(arrays, form, readout, backend, dtype)
    if case:
        set_dropout(net, [arrays[f"dropout_mask{i}"] for i in range(len(net.network.hidden))])
    mode = "fs" if readout == "first-spike" else "fr"
    with FiringRates(net) as rates:
        x, loss, output = _step(net, arrays, dtype)
    assert output.spikes is not None and output.potentials is not None
    expected = arrays[f"{case}out_spikes_{suffix}"]
    assert_exact(output.spikes.movedim(0, -1), expected, "output spikes")
    if f"{case}out_h_{suffix}" in arrays:
        assert_state(output.potentials, arrays[f"{case}out_h_{suffix}"], suffix, "potentials")
    if mode == "fs":
        assert_exact(-output.scores, arrays[f"{case}first_time_{suffix}"], "times")
    else:
        assert_state(output.scores, arrays[f"{case}firing_rate_{suffix}"], suffix, "rates")
    correct = (output.scores.argmax(1) == torch.from_numpy(arrays["label"])).sum()
    assert int(correct) == int(arrays[f"{case}{mode}_correct"])
    assert_state(loss, arrays[f"{case}{mode}_loss_{suffix}"], suffix, "loss")
    tolerance = NET_GRADIENT[suffix]
    _assert_relative(x.grad, arrays[f"{case}{mode}_grad_x_{suffix}"], tolerance, "gradient of x")
    found = gradients(net, form)
    start = f"{case}{mode}_grad_{suffix}/"
    wanted = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    assert found.keys() == wanted.keys()
    # A parameter whose own gradient is tiny is held to that of its kind.
    for name, grad in found.items():
        kind = [v for k, v in wanted.items() if k.split(".")[2:] == name.split(".")[2:]]
        largest = max(np.abs(v).max() for v in kind)
        error = np.abs(grad.double().numpy().reshape(wanted[name].shape) - wanted[name]).max()
        assert error <= tolerance * largest, f"{name}: off by {error:.3g}"
    if not case:  # published counts of hidden layers are taken after dropout
        spikes = [count.spikes / len(x) for count in rates.counts().values()]
        assert_state(torch.tensor(spikes), arrays[f"spike_counts_{suffix}"], "f32", "spikes")


def test_batchnorm_of_the_kernel_mlp_and_evaluation(fs_mlp_k: Arrays, backend: str) -> None:
    net = mlp(fs_mlp_k, "kernel", "first-spike", backend, torch.float64)
    _check_evaluation(net.float().eval(), fs_mlp_k)
    net = mlp(fs_mlp_k, "kernel", "first-spike", backend, torch.float64)
    net(time_first(fs_mlp_k["x"], torch.float64))
    for i in range(len(net.network.hidden)):
        norm = net.get_submodule(f"hidden.norm{i + 1}")
        for name in ("running_mean", "running_var"):
            after = fs_mlp_k[f"after_f64/fc_layers.{i}.0.1.{name}"]
            assert_state(getattr(norm, name), after, "f64", name)


def test_evaluation_of_the_autograd_mlp(fs_mlp_a: Arrays, backend: str) -> None:
    net = mlp(fs_mlp_a, "autograd", "first-spike", backend, torch.float32)
    _check_evaluation(net.eval(), fs_mlp_a)


def _check_evaluation(net: FsClassifier, arrays: Arrays) -> None:
    with FiringRates(net) as rates, torch.no_grad():
        output = net(time_first(arrays["x"], torch.float32))
    assert output.spikes is not None and output.votes is not None
    assert_exact(-output.scores, arrays["eval_first_time_f32"], "times")
    assert torch.equal(output.votes.sum(0).argmax(1), output.scores.argmax(1))
    assert_state(output.spikes.mean(0), arrays["eval_firing_rate_f32"], "f32", "rates")
    spikes = [count.spikes / len(arrays["x"]) for count in rates.counts().values()]
    assert_state(torch.tensor(spikes), arrays["eval_spike_counts_f32"], "f32", "spikes")


@pytest.mark.parametrize("carried", [True, False])
def test_kernel_training(fs_mlp_k: Arrays, carried: bool, backend: str) -> None:
    _check_training(fs_mlp_k, "kernel", carried, backend)


@pytest.mark.parametrize("carried", [True, False])
def test_autograd_training(fs_mlp_a: Arrays, carried: bool, backend: str) -> None:
    _check_training(fs_mlp_a, "autograd", carried, backend)


def _check_training(arrays: Arrays, form: str, carried: bool, backend: str) -> None:
    """Adam with amsgrad, as the published loop has it: gradients are clipped and then kept."""
    case = "train_accum" if carried else "train_zerograd"
    net = mlp(arrays, form, "first-spike", backend, torch.float64)
    config = Adam(lr=1e-3, weight_decay=1e-4, amsgrad=True)
    optimizer = make_optimizer(config, net.parameter_groups())
    for i in range(len(arrays[f"{case}_loss_f64"])):
        if not carried:
            optimizer.zero_grad(set_to_none=True)
        _, loss, output = _step(net, arrays, torch.float64)
        net.before_step()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        net.after_step()
        assert_state(loss, arrays[f"{case}_loss_f64"][i], "f64", f"loss {i}")
        expected = arrays[f"{case}_grad_norm_before_clip_f64"][i]
        _assert_relative(norm, expected, 1e-7, f"norm {i}")
        assert_exact(-output.scores, arrays[f"{case}_first_time_f64"][i], f"times {i}")
    start = f"{case}_final_f64/"
    wanted = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    for name, value in _state(net, form):
        if name in wanted:
            error = np.abs(value.numpy().reshape(wanted[name].shape) - wanted.pop(name)).max()
            assert error <= 1e-7, f"{name}: off by {error:.3g}"
    left = [n for n in wanted if not n.endswith((".th", "num_batches_tracked"))]
    assert not [n for n in left if "running" not in n], left


def _state(net: FsClassifier, form: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in net.state_dict().items():
        if "running" not in name and "tracked" not in name:
            yield published_name(net, name, form), oriented(value, name, form)


@pytest.mark.parametrize("form", ["kernel", "autograd"])
@pytest.mark.parametrize("name", ["gesture", "plane"])
def test_convolutional_networks(fs_conv: Arrays, name: str, form: str, backend: str) -> None:
    net = conv_net(fs_conv, name, form, backend)
    start = f"{'spkjelly' if form == 'kernel' else 'superspike'}_{name}"
    x = tensor(fs_conv[f"{name}_x"]).requires_grad_()
    with FiringRates(net) as rates:
        output = net(x.movedim(-1, 0))
        loss = net.loss(output, torch.from_numpy(fs_conv[f"{name}_label"]))
    loss.backward()
    assert output.spikes is not None
    assert_exact(output.spikes.movedim(0, -1), fs_conv[f"{start}_out_spikes"], "output spikes")
    assert_exact(-output.scores, fs_conv[f"{start}_first_time_f64"], "times")
    assert_state(output.spikes.mean(0), fs_conv[f"{start}_firing_rate_f64"], "f64", "rates")
    assert_state(loss, fs_conv[f"{start}_loss_fs_f64"], "f64", "loss")
    counts = rates.counts().values()
    spikes = torch.tensor([count.spikes / len(x) for count in counts])
    assert_state(spikes, fs_conv[f"{start}_spike_counts_f64"], "f32", "spikes")
    neurons = torch.tensor([count.places / x.shape[0] / x.shape[-1] for count in counts])
    assert_exact(neurons, fs_conv[f"{start}_num_neurons"], "neurons")
    weights = conv_weights(net)
    norms = torch.stack([weight.grad.norm() for weight in weights if weight.grad is not None])
    for ours, theirs in zip(norms, fs_conv[f"{start}_grad_norms_f64"], strict=True):
        _assert_relative(ours, theirs, 1e-6, "gradient norm")
    assert x.grad is not None and weights[0].grad is not None and weights[-1].grad is not None
    _assert_relative(weights[0].grad, fs_conv[f"{start}_grad_conv1_f64"], 1e-6, "conv1")
    _assert_relative(weights[-1].grad, fs_conv[f"{start}_grad_fc2_f64"], 1e-6, "fc2")
    _assert_relative(x.grad, fs_conv[f"{start}_grad_x_f64"], 1e-6, "gradient of x")
