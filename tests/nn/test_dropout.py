import pytest
import torch

from spikeloom.nn import Dropout, is_constant


def test_one_mask_over_time_and_one_per_sample():
    torch.manual_seed(0)
    y = Dropout(0.5)(torch.ones(6, 3, 200))
    assert all(torch.equal(step, y[0]) for step in y)
    assert not torch.equal(y[0, 0], y[0, 1])
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_share_of_kept_inputs():
    torch.manual_seed(0)
    y = Dropout(0.2)(torch.ones(1, 10, 10_000))
    # 100,000 Bernoulli draws: standard deviation of the mean 0.0013.
    assert (y > 0).float().mean().item() == pytest.approx(0.8, abs=0.006)
    assert y.mean().item() == pytest.approx(1.0, abs=0.008)


def test_fresh_mask_every_forward():
    layer, x = Dropout(0.5), torch.ones(2, 3, 100)
    assert not torch.equal(layer(x), layer(x))


def test_mask_follows_the_default_generator():
    layer, x = Dropout(0.5), torch.ones(2, 3, 100)
    torch.manual_seed(7)
    first = layer(x)
    torch.manual_seed(7)
    assert torch.equal(layer(x), first)


def test_gradient_passes_where_the_input_does():
    x = torch.randn(4, 3, 50, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 2.0))


def test_evaluation_and_p_0_are_the_identity():
    x = torch.randn(2, 3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_given_mask_is_used_while_training_only():
    layer, x = Dropout(0.75), torch.ones(2, 3, 4)
    layer.keep = torch.tensor([[1, 0, 0, 1]] * 3, dtype=torch.uint8)
    assert torch.equal(layer(x), torch.tensor([4.0, 0, 0, 4]).expand(2, 3, 4))
    assert layer.eval()(x) is x


def test_constant_current_stays_a_view():
    y = Dropout(0.5)(torch.ones(3, 8).expand(4, 3, 8))
    assert is_constant(y) and y.shape == (4, 3, 8)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_impossible_probability_is_refused(p):
    with pytest.raises(ValueError, match="expected a dropout probability"):
        Dropout(p)
