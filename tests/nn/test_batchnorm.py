import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeloom.nn import BatchNorm, is_constant

T, B, C = 5, 3, 4


def published(x, norm):
    """T calls in time order, one set of weights and running statistics."""
    return torch.stack(
        [
            F.batch_norm(
                step,
                norm.running_mean,
                norm.running_var,
                norm.weight,
                norm.bias,
                norm.training,
                norm.momentum,
                norm.eps,
            )
            for step in x
        ]
    )


def pair(dtype=torch.float32, **options):
    """Two equal layers with weights that are not 1 and 0."""
    norms = []
    for _ in range(2):
        torch.manual_seed(0)
        norm = BatchNorm(C, **options)
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        norms.append(norm.to(dtype))
    return norms


def inputs(layout, dtype):
    torch.manual_seed(1)
    if layout == "vector":
        return torch.randn(T, B, C, dtype=dtype) + 3
    x = torch.randn(T, B, C, 6, 5, dtype=dtype) * 2 + 3
    match layout:
        case "contiguous":
            return x
        case "channels_last":
            return x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (T, B))
        case "batch_first":
            return x.transpose(0, 1).contiguous().transpose(0, 1)
        case "cropped":
            return torch.randn(T, B, C, 8, 8, dtype=dtype)[..., 1:7, 1:6]
        case "equal_samples":
            return x[:, :1].expand(T, B, C, 6, 5)


LAYOUTS = ["contiguous", "channels_last", "batch_first", "cropped", "equal_samples", "vector"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_per_step_equals_successive_calls(layout, dtype, rtol):
    ours, theirs = pair(dtype)
    x = inputs(layout, dtype)
    a, b = x.detach().requires_grad_(), x.detach().clone().requires_grad_()
    y, z = ours(a), published(b, theirs)
    grad = torch.randn(x.shape, dtype=dtype)
    y.backward(grad)
    z.backward(grad)
    for name, got, want in [
        ("output", y, z),
        ("input gradient", a.grad, b.grad),
        ("weight gradient", ours.weight.grad, theirs.weight.grad),
        ("bias gradient", ours.bias.grad, theirs.bias.grad),
        ("running mean", ours.running_mean, theirs.running_mean),
        ("running variance", ours.running_var, theirs.running_var),
    ]:
        error = (got - want).abs().max() / want.abs().max()
        assert error <= rtol, f"{name} off by {error:.2g}"
    assert ours.num_batches_tracked == T


def test_gradient_by_finite_differences():
    norm = BatchNorm(2).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def function(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    weights = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x, weights[0], weights[1]))


def test_second_derivative_is_refused():
    x = torch.randn(2, 3, C, requires_grad=True)
    (grad,) = torch.autograd.grad(BatchNorm(C)(x).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_only_the_wanted_gradients_are_computed():
    norm = BatchNorm(C)
    norm.weight.requires_grad_(False)
    x = inputs("contiguous", torch.float32)
    norm(x).sum().backward()
    assert norm.weight.grad is None and norm.bias.grad is not None


def test_folded_normalises_all_steps_together():
    ours, theirs = pair(statistics="folded")
    x = inputs("contiguous", torch.float32)
    reference = F.batch_norm(
        x.flatten(0, 1),
        theirs.running_mean,
        theirs.running_var,
        theirs.weight,
        theirs.bias,
        True,
    )
    assert torch.equal(ours(x).flatten(0, 1), reference)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == 1


@pytest.mark.parametrize("statistics", ["per_step", "folded"])
def test_evaluation_uses_running_statistics_and_leaves_them(statistics):
    norm, _ = pair(statistics=statistics)
    norm(inputs("contiguous", torch.float32))
    norm.eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = inputs("channels_last", torch.float32)
    torch.testing.assert_close(norm(x), published(x, norm))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_constant_current_equals_copies_and_stays_a_view(training):
    ours, theirs = (norm.train(training) for norm in pair(torch.float64))
    image = torch.randn(B, C, 6, 5, dtype=torch.float64)
    y = ours(image.expand(T, *image.shape))
    assert is_constant(y)
    torch.testing.assert_close(y, published(torch.stack([image] * T), theirs))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == (T if training else 0)


def test_folded_constant_current_equals_copies_and_can_be_differentiated():
    image = torch.randn(B, C, 6, 5, dtype=torch.float64)
    once, copies = (BatchNorm(C, statistics="folded").double() for _ in range(2))
    y = once(image.expand(T, *image.shape))
    z = copies(torch.stack([image] * T))
    assert is_constant(y)
    torch.testing.assert_close(y, z)
    for (name, a), (_, b) in zip(once.named_buffers(), copies.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    weights = torch.randn_like(z)
    ((y * weights).sum()).backward()
    ((z * weights).sum()).backward()
    torch.testing.assert_close(once.weight.grad, copies.weight.grad)
    torch.testing.assert_close(once.bias.grad, copies.bias.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_float32_statistics(dtype):
    ours, theirs = pair()
    x = inputs("contiguous", torch.float32).to(dtype)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = ours(a), published(b, theirs)
    assert y.dtype == dtype and torch.equal(y, z)
    y.sum().backward()
    z.sum().backward()
    assert torch.equal(a.grad, b.grad)
    assert torch.equal(ours.running_mean, theirs.running_mean)


def test_state_dict_is_that_of_torch():
    ours, theirs = BatchNorm(C), nn.BatchNorm2d(C)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_wrong_channels_and_single_values_are_refused():
    with pytest.raises(ValueError, match=r"\[5, 3, 7\]: expected \[T, B, C, ...\] with C=4"):
        BatchNorm(C)(torch.zeros(5, 3, 7))
    for x in (torch.zeros(5, 1, C), torch.zeros(1, C).expand(5, 1, C)):
        with pytest.raises(ValueError, match="one value per channel"):
            BatchNorm(C)(x)
    assert BatchNorm(C).eval()(torch.zeros(5, 1, C)).shape == (5, 1, C)
    with pytest.raises(ValueError, match="statistics='step'"):
        BatchNorm(C, statistics="step")  # type: ignore[arg-type]
