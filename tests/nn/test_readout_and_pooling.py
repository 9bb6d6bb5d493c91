import pytest
import torch
from torch import nn

from spikeloom.neurons import PLIF
from spikeloom.nn import Sequential, StaticCoding, Voting, is_constant


def test_a_class_is_the_mean_of_its_own_neurons():
    x = torch.arange(12.0).expand(3, 2, 12)
    y = Voting(votes=4)(x)
    assert torch.equal(y, torch.tensor([1.5, 5.5, 9.5]).expand(3, 2, 3))
    assert torch.equal(Voting(votes=4)(x[0]), y[0])


def test_neurons_that_do_not_divide_into_groups_are_refused():
    with pytest.raises(ValueError, match=r"11 neurons do not divide into groups of 10"):
        Voting()(torch.zeros(2, 3, 11))
    with pytest.raises(ValueError, match="at least one neuron"):
        Voting(0)


def test_static_coding_runs_once_and_sums_gradients_over_time():
    conv, norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
    image = torch.randn(3, 1, 5, 5)
    current = StaticCoding(4, conv, norm)(image)
    assert current.shape == (4, 3, 2, 3, 3) and is_constant(current)
    assert norm.num_batches_tracked == 1
    weight = torch.randn(current.shape)
    (got,) = torch.autograd.grad((current * weight).sum(), conv.weight)
    (want,) = torch.autograd.grad((norm(conv(image)) * weight.sum(0)).sum(), conv.weight)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)  # sums of 4 x 27 float32 products


def test_static_coding_before_a_chain_takes_images():
    conv, neuron = nn.Conv2d(3, 8, 3), PLIF(tau=2.0)
    image = torch.rand(2, 3, 5, 5)
    spikes = Sequential(StaticCoding(4, conv), neuron)(image)
    assert torch.equal(spikes, neuron(conv(image).expand(4, 2, 8, 3, 3)))


@pytest.mark.parametrize("time_steps", [1, 4])
def test_gradients_of_static_coding_keep_the_channel_last(time_steps):
    norm = nn.BatchNorm2d(8)
    net = nn.Sequential(StaticCoding(time_steps, nn.Conv2d(1, 8, 3), norm), PLIF(tau=2.0))
    net.to(memory_format=torch.channels_last)
    gradients = []
    norm.register_forward_hook(lambda _, __, y: y.register_hook(gradients.append) and None)
    spikes = net(torch.rand(3, 1, 6, 6))
    (spikes * torch.rand_like(spikes)).sum().backward()
    (gradient,) = gradients
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_static_coding_needs_a_time_step():
    with pytest.raises(ValueError, match="time_steps=0"):
        StaticCoding(0, nn.Identity())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (1, 33, 6, 6), (3, 64, 5, 4)])
def test_torch_max_pooling_gives_the_gradient_to_the_first_maximum(layout, dtype, shape):
    """The PLIF networks use torch's own pooling; on spikes nearly every window is a tie."""
    torch.manual_seed(0)
    spikes = (torch.rand(shape) > 0.7).to(dtype).to(memory_format=layout).requires_grad_()
    y = nn.MaxPool2d(2)(spikes)
    grad = torch.randn(y.shape).to(dtype)
    y.backward(grad)

    rows, columns = y.shape[2:]
    cut = spikes.detach()[:, :, : 2 * rows, : 2 * columns]
    windows = cut.unflatten(3, (columns, 2)).unflatten(2, (rows, 2)).transpose(3, 4).flatten(4)
    first = windows.to(torch.float32).argmax(-1)  # torch: the first of equal maxima
    assert torch.equal(first, (windows == windows.amax(-1, keepdim=True)).int().argmax(-1))
    expected = torch.zeros_like(windows).scatter_(-1, first[..., None], grad[..., None])
    expected = expected.unflatten(4, (2, 2)).transpose(3, 4).flatten(4).flatten(2, 3)
    assert spikes.grad is not None
    got = spikes.grad[:, :, : 2 * rows, : 2 * columns]
    assert torch.equal(got, expected.reshape(got.shape))
    assert spikes.grad.sum(dtype=torch.float64) == got.sum(dtype=torch.float64)
