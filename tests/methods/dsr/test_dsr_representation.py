import pytest
import torch
from torch import Tensor

from spikeloom.compiler.dispatch import available_backends
from spikeloom.methods.dsr.representation import DsrIF, DsrLIF, Represented
from spikeloom.neurons import ScaledIF, ScaledLIF

T, B, C = 6, 3, 4
BACKENDS = [name for name in available_backends() if name in ("eager", "cpu")]
KINDS = [DsrIF, DsrLIF]


def make(kind: type, **options) -> Represented:
    return kind(0.3 if kind is DsrLIF else 1.0, **options)


def currents(seed: int = 0) -> Tensor:
    """Means on both sides of the clamp's edges, for IF (1) and LIF (6)."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(T, B, C, 5, 5, generator=generator) * 3
        + torch.tensor([-2.0, 0.5, 3, 9])[:, None, None]
    )


def saved_bytes(layer, x: Tensor) -> int:
    """Bytes that autograd keeps for the layer's backward pass, its parameters left out."""
    sizes = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    layer(x)  # the step is traced at its first use, which such hooks do not allow
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(sizes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_keeps_one_byte_per_neuron_and_sample(kind, backend):
    x = currents().requires_grad_()
    assert saved_bytes(make(kind, backend=backend), x) == x.numel() // T


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_clamp(kind):
    layer = make(kind)
    layer.threshold_scale = layer.true_scale
    x = currents().requires_grad_()
    upstream = torch.randn(B, C, 5, 5)  # the same at every step, where G is exact
    (layer(x) * upstream).sum().backward()

    y = x.detach().clone().requires_grad_()
    threshold = layer.threshold.detach().clone().requires_grad_()
    weights = torch.tensor(layer.weights(T))
    r = torch.tensordot(weights, y, 1)
    if isinstance(layer, DsrLIF):
        o = torch.minimum((r / layer.tau).clamp_min(0), threshold / layer.delta_t)
    else:
        o = torch.minimum(r.clamp_min(0), threshold)
    (o * upstream * T).sum().backward()
    assert x.grad is not None and y.grad is not None
    # G is spread evenly over time; autograd spreads it by the weights: their sums agree
    torch.testing.assert_close(x.grad.sum(0), y.grad.sum(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(x.grad[0], x.grad[-1])
    torch.testing.assert_close(layer.threshold.grad, threshold.grad, rtol=1e-4, atol=1e-4)


def test_scales_of_the_thresholds_gradient_are_named():
    assert (DsrIF().threshold_scale, DsrIF().true_scale) == (1, 1)
    assert (DsrLIF().threshold_scale, DsrLIF().true_scale) == (0.05, 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_constant_current_equals_copies(kind, backend):
    layer = make(kind, backend=backend)
    image = currents()[0]
    once, copies = image.clone().requires_grad_(), image.clone().requires_grad_()
    weights = torch.randn(T, B, C, 5, 5)
    gradients = []
    for x, leaf in ((once.expand(T, *image.shape), once), (torch.stack([copies] * T), copies)):
        layer.threshold.grad = None
        (layer(x) * weights).sum().backward()
        gradients.append((leaf.grad, layer.threshold.grad))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("kind", "plain"), [(DsrIF, ScaledIF), (DsrLIF, ScaledLIF)], ids=["if", "lif"]
)
def test_spikes_are_those_of_the_plain_neuron(kind, plain):
    x = currents()
    with torch.no_grad():
        assert torch.equal(make(kind)(x), make(plain)(x) if plain is ScaledIF else plain(0.3)(x))


def test_height_and_reset_of_a_spike():
    x = torch.full((4, 1, 1), 1.0)
    with torch.no_grad():
        run = ScaledIF(2.0, alpha=0.5).run(x, record=("v",))
    assert run.spikes.flatten().tolist() == [2, 0, 2, 0]
    assert run.records["v"].flatten().tolist() == [-1, 0, -1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_mean_output_follows_the_clamp(kind):
    layer = make(kind, alpha=0.5)
    top = layer.threshold.item() / (layer.delta_t if isinstance(layer, DsrLIF) else 1)
    r = torch.linspace(-0.5, 1.5, 41) * top
    steps = 400
    with torch.no_grad():
        out = layer(r.expand(steps, 1, 41))[:, 0]
    mean = torch.tensordot(torch.tensor(layer.weights(steps)), out, 1)
    # one spike more or less in the mean, and 2.5 % of slope in LIF
    tolerance = top * (0.06 if kind is DsrLIF else 1 / steps)
    assert (mean - r.clamp(0, top)).abs().max() <= tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype_and_sums_in_float32(kind, dtype):
    layer = make(kind)
    x = currents().to(dtype).requires_grad_()
    reference = x.detach().float().requires_grad_()
    for tensor in (x, reference):
        layer(tensor).float().mean().backward()
    assert layer(x).dtype == dtype
    assert x.grad is not None and x.grad.dtype == dtype and reference.grad is not None
    torch.testing.assert_close(x.grad.float(), reference.grad, rtol=1e-2, atol=1e-6)


def test_threshold_is_used_and_kept_at_its_bound():
    layer = DsrIF(1.0, bound=0.25)
    with torch.no_grad():
        layer.threshold.fill_(-3.0)
        assert layer(torch.ones(1, 1, 1)).item() == 0.25
    layer.apply_bound()
    assert layer.threshold.item() == 0.25
    assert layer.constants()["threshold"] == 0.25


def test_a_fixed_threshold_is_a_buffer():
    layer = DsrLIF(0.3, learn_threshold=False)
    assert not list(layer.parameters()) and list(layer.state_dict()) == ["threshold"]
    x = currents().requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.any()


def test_state_is_carried_without_a_gradient_only():
    layer = DsrIF(1.0)
    x = currents()
    with torch.no_grad():
        first, state = layer(x[:2], layer.initial_state(x))
        second, _ = layer(x[2:], state)
        assert torch.equal(torch.cat([first, second]), layer(x))
    with pytest.raises(ValueError, match="got a state or a record"):
        layer(x, layer.initial_state(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaledIF(float("nan")), "finite"),
        (lambda: ScaledIF(bound=0.0), "bound above 0"),
        (lambda: ScaledIF(alpha=1.5), "above 0 up to 1"),
        (lambda: ScaledLIF(tau=0.0), "a time above 0"),
    ],
)
def test_impossible_neurons_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
