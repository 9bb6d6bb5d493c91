import pytest
import torch
from torch import nn

from spikeloom.nn import EventLinear
from spikeloom.nn import event_linear as module


@pytest.fixture
def sparse_products(monkeypatch):
    """Counts how often zeros were skipped."""
    calls = []
    product = module._SparseProduct.apply
    monkeypatch.setattr(
        module._SparseProduct, "apply", lambda *args: (calls.append(1), product(*args))[1]
    )
    return calls


def pair(bias: bool, dtype: torch.dtype) -> tuple[EventLinear, nn.Linear]:
    torch.manual_seed(0)
    ours = EventLinear(30, 7, bias=bias, dtype=dtype)
    theirs = nn.Linear(30, 7, bias=bias, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(64, 30), (5, 9, 30), (1, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_dense_layer(sparse_products, bias, shape, dtype):
    ours, theirs = pair(bias, dtype)
    x = torch.zeros(shape, dtype=dtype)
    x.view(-1)[::17] = torch.arange(1, len(x.view(-1)[::17]) + 1, dtype=dtype)
    g = torch.randn(*shape[:-1], 7, dtype=dtype)
    for layer in (ours, theirs):
        (layer(x) * g).sum().backward()
    assert sparse_products
    torch.testing.assert_close(ours(x), theirs(x))
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_nothing_at_all_gives_zero(sparse_products):
    ours, _ = pair(False, torch.float32)
    y = ours(torch.zeros(4, 30))
    y.sum().backward()
    assert sparse_products and y.abs().sum() == 0
    assert ours.weight.grad is not None and ours.weight.grad.abs().sum() == 0


def test_dense_where_zeros_cannot_be_skipped(sparse_products):
    ours, theirs = pair(True, torch.float32)
    full = torch.rand(6, 30)
    assert torch.equal(ours(full), theirs(full))
    few = torch.poisson(torch.full((64, 30), 0.04))
    learned = few.clone().requires_grad_()
    ours(learned).sum().backward()
    assert learned.grad is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(few).dtype == torch.bfloat16
    assert torch.equal(ours(few[0]), theirs(few[0]))
    assert not sparse_products
