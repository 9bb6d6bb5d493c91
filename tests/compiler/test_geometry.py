"""Memory orders and the shapes of coefs."""

import pytest
import torch

from spikeloom.compiler.plan.geometry import Layout, coef_kind

X = (5, 3, 4, 6, 7)


@pytest.mark.parametrize(
    ("shape", "per_time", "kind"),
    [
        ((), False, "scalar"),
        ((1,), False, "scalar"),
        ((1, 1, 1), False, "scalar"),
        ((4,), False, "channel"),
        ((4, 6, 7), False, "neuron"),
        ((5,), True, "scalar"),
        ((5, 1), True, "scalar"),
        ((5, 4), True, "channel"),
        ((5, 4, 6, 7), True, "neuron"),
    ],
)
def test_which_neurons_share_a_coef(shape: tuple[int, ...], per_time: bool, kind: str) -> None:
    assert coef_kind("k", shape, X, per_time) == kind


@pytest.mark.parametrize(
    ("shape", "per_time", "text"),
    [
        ((3,), False, r"coef 'k' of shape \[3\] does not fit the input .*: expected \[\]"),
        ((7,), False, "does not fit"),
        ((6, 7), False, r"\[4\] \(per channel\) or \[4, 6, 7\] \(per neuron\)"),
        ((), True, "the first axis must be T"),
        ((4,), True, "has T=5: the first axis must be T"),
        ((5, 3), True, r"\[T\] \+ "),
    ],
)
def test_a_shape_that_fits_nothing_is_named(
    shape: tuple[int, ...], per_time: bool, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        coef_kind("k", shape, X, per_time)


def layout(tensor: torch.Tensor) -> Layout | None:
    return Layout.of(tuple(tensor.shape), tensor.stride())


def test_dense_in_any_order_is_a_layout() -> None:
    x = torch.zeros(2, 3, 4, 5)
    for order in ((0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 3, 2)):
        found = layout(
            x.permute(order).contiguous().permute(*torch.tensor(order).argsort().tolist())
        )
        assert found is not None and found.order == order
        assert found.size == 120


def test_gaps_and_overlaps_are_none() -> None:
    x = torch.zeros(4, 6)
    assert layout(x[:, :5]) is None
    assert layout(x[::2]) is None
    assert layout(torch.zeros(1, 6).expand(4, 6)) is None
    assert layout(torch.zeros(10).as_strided((4, 4), (2, 1))) is None


def test_an_axis_of_one_element_is_never_in_the_way() -> None:
    x = torch.zeros(4, 1, 6)
    assert layout(x.as_strided((4, 1, 6), (6, 999, 1))) == layout(x)
    assert layout(torch.zeros(1, 1)) is not None


def test_bringing_a_tensor_copies_only_if_it_must() -> None:
    found = Layout.contiguous((3, 4))
    x = torch.randn(5, 3, 4)
    assert found.bring(x, torch.float32) is x
    assert found.bring(x[1::2], torch.float32).data_ptr() == x[1].data_ptr()
    constant = x[:1].expand(5, 3, 4)  # one time step is read again and again
    assert found.bring(constant, torch.float32) is constant
    for other in (
        x.transpose(1, 2).contiguous().transpose(1, 2),
        x.double(),
        torch.randn(5, 3, 8)[..., ::2],
    ):
        brought = found.bring(other, torch.float32)
        assert brought.is_contiguous() and torch.equal(brought, other.float())
