"""The kernels of sparse convolutions and linear layers against float64 products of torch."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeloom.synapses import sparse
from spikeloom.synapses.active import count, list_images, list_rows
from spikeloom.synapses.conv import Geometry, conv_forward, conv_table, conv_weight
from spikeloom.synapses.fired import listed
from spikeloom.synapses.fixed import FixedLinear
from spikeloom.synapses.linear import linear_forward, linear_weight

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}
"""Relative to the sum of the absolute terms."""

dtypes = st.sampled_from(list(TOLERANCE))
densities = st.sampled_from([0.0, 0.02, 0.2, 0.6, 1.0])
kinds = st.sampled_from(["spikes", "scaled", "values"])
pairs = st.tuples(st.integers(1, 2), st.integers(1, 2))


def activity(shape: tuple[int, ...], density: float, kind: str, dtype: torch.dtype) -> Tensor:
    x = (torch.rand(shape) < density).float()
    return (x * {"spikes": 1.0, "scaled": 2.0, "values": torch.randn(shape)}[kind]).to(dtype)


def assert_close(ours: Tensor, exact: Tensor, size: Tensor, dtype: torch.dtype) -> None:
    assert ours.dtype == dtype
    assert ours.shape == exact.shape
    error = (ours.double() - exact).abs() / size.clamp(min=1e-3)
    assert float(error.max() if error.numel() else 0) <= TOLERANCE[dtype]


@settings(max_examples=80, deadline=None)
@given(
    dtypes, densities, kinds, st.booleans(), st.booleans(), st.sampled_from([1, 1, 2, 3]),
    st.tuples(st.integers(1, 3), st.integers(1, 4)), pairs, pairs, pairs, st.integers(0, 10**6),
)  # fmt: skip
def test_convolution(
    dtype: torch.dtype,
    density: float,
    kind: str,
    last: bool,
    biased: bool,
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    n, c, o, h, w = (int(torch.randint(1, top, ())) for top in (5, 70, 150, 6, 8))
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (n, groups * c, h + 4, w + 5)
    x = activity(shape, density, kind, dtype).to(memory_format=layout)
    weight = torch.randn(groups * o, c, *kernel).to(dtype)
    bias = torch.randn(groups * o).to(dtype) if biased else None
    geometry = Geometry(kernel, stride, padding, dilation, groups)

    active = list_images(x, count(x), groups)
    y = conv_forward(x.shape, active, conv_table(weight, groups), bias, geometry, last)

    xd, wd = x.double(), weight.double()
    bd = None if bias is None else bias.double()
    arguments = (stride, padding, dilation, groups)
    size = F.conv2d(xd.abs(), wd.abs(), None if bd is None else bd.abs(), *arguments)
    assert_close(y, F.conv2d(xd, wd, bd, *arguments), size, dtype)
    assert y.is_contiguous(memory_format=layout)

    g = torch.randn_like(y)
    grad = conv_weight(x, active, g, weight, geometry)

    def dense(g: Tensor, x: Tensor) -> Tensor:
        mask = [False, True, False]
        return torch.ops.aten.convolution_backward(
            g, x, wd, None, stride, padding, dilation, False, [0, 0], groups, mask
        )[1]

    assert_close(grad, dense(g.double(), xd), dense(g.double().abs(), xd.abs()), dtype)
    assert grad.stride() == weight.stride()


@settings(max_examples=60, deadline=None)
@given(dtypes, densities, kinds, st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_linear(
    dtype: torch.dtype, density: float, kind: str, by_input: bool, biased: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    rows, inputs, features = (int(torch.randint(1, top, ())) for top in (50, 1500, 300))
    if seed % 3 == 0:
        features = 16 * (features // 16 + 1)
    x = activity((rows, inputs), density, kind, dtype)
    weight = torch.randn(features, inputs).to(dtype)
    weight = weight.t().contiguous().t() if by_input else weight
    bias = torch.randn(features).to(dtype) if biased else None

    active = list_rows(x, count(x))
    y = linear_forward(len(x), active, weight, bias)

    xd, wd = x.double(), weight.double()
    bd = None if bias is None else bias.double()
    size = F.linear(xd.abs(), wd.abs(), None if bd is None else bd.abs())
    assert_close(y, F.linear(xd, wd, bd), size, dtype)

    g = torch.randn_like(y)
    gd = g.double()
    grad = linear_weight(x, active, g, weight)
    assert_close(grad, gd.t() @ xd, gd.abs().t() @ xd.abs(), dtype)
    assert grad.stride() == weight.stride()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    torch.manual_seed(0)
    x = activity((16, 64, 12, 12), 0.1, "values", torch.float32)
    weight = torch.randn(48, 64, 3, 3)
    geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1), 1)
    rows, matrix = activity((400, 700), 0.1, "values", torch.float32), torch.randn(256, 700)

    def results() -> list[Tensor]:
        active = list_images(x, count(x), 1)
        y = conv_forward(x.shape, active, conv_table(weight, 1), None, geometry, False)
        lists = list_rows(rows, count(rows))
        z = linear_forward(len(rows), lists, matrix, None)
        return [
            *(y, conv_weight(x, active, y, weight, geometry)),
            *(z, linear_weight(rows, lists, z, matrix)),
        ]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results()
        torch.set_num_threads(threads)
        together = results()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("shape", [(5, 3, 20, 4, 6), (2, 1, 17, 1, 1)])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.9, 1.0])
def test_what_fires_at_every_step_is_listed_once(shape: tuple[int, ...], density: float) -> None:
    torch.manual_seed(0)
    x = (torch.rand(shape) < density).float()
    always = (torch.rand(shape[1:]) < 0.4).float()
    x = torch.maximum(x, always)
    x = x.transpose(0, 1).movedim(2, -1).contiguous().movedim(-1, 2).transpose(0, 1)
    fired = listed(x)
    assert fired is not None and fired.constant is not None
    once = int((x.sum(0) == len(x)).sum())
    assert fired.count == int(x.sum())
    assert fired.listed == fired.count - (len(x) - 1) * once
    assert torch.equal(fired.dense(), x)
    last = x.shape[1]
    assert torch.equal(fired.samples(last - 1, last).dense(), x[:, last - 1 :])
    layer = nn.Linear(x[0, 0].numel(), 40, dtype=torch.float64)
    with sparse("on"), torch.no_grad():
        doubled = listed(x.double())
        y = None if doubled is None else FixedLinear(layer).of_fired(doubled)
        exact = layer(x.double().flatten(2)).transpose(0, 1).flatten(0, 1)
    assert y is not None and torch.allclose(y, exact, rtol=1e-12, atol=1e-14)
