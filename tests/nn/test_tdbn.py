"""tdBN equals its formula, and a constant current gives what T copies of it would."""

import pytest
import torch

from spikeloom.nn import TdBatchNorm


def test_training_equals_the_formula() -> None:
    norm = TdBatchNorm(3, alpha=0.7, threshold=0.4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2, 3]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    x = torch.randn(4, 2, 3, 5, dtype=torch.float64) * 3 + 1
    mean = x.mean((0, 1, 3), keepdim=True)
    var = x.var((0, 1, 3), correction=0, keepdim=True)
    scaled = 0.7 * 0.4 * (x - mean) / (var + 1e-5).sqrt()
    expected = norm.weight[:, None] * scaled + norm.bias[:, None]
    assert torch.allclose(norm(x), expected, rtol=1e-12, atol=1e-12)
    unbiased = x.var((0, 1, 3), correction=1)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * unbiased, rtol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_a_constant_current_equals_its_copies(training: bool) -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    results = []
    for current in (x.clone().expand(5, *x.shape), x.repeat(5, 1, 1, 1, 1)):
        norm = TdBatchNorm(3).double().train(training)
        y = norm(current.requires_grad_() if current.is_leaf else current)
        y.square().sum().backward()
        results.append((y, norm.running_mean, norm.running_var, norm.weight.grad))
        assert (y.stride(0) == 0) == (current.stride(0) == 0)
    for one, other in zip(*results, strict=True):
        assert one is not None and other is not None
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_what_cannot_be_normalised_is_refused() -> None:
    with pytest.raises(ValueError, match="with C=3"):
        TdBatchNorm(3)(torch.zeros(2, 2, 4, 5, 5))
    with pytest.raises(ValueError, match="one value per channel"):
        TdBatchNorm(3)(torch.zeros(1, 1, 3))
