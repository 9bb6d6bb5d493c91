"""`conv2d`, `conv1d` and `linear` as torch's, on the active inputs where that pays."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from spikeloom.synapses import switch, winograd
from spikeloom.synapses.active import DTYPES, Active, count, is_channel_last, list_images, list_rows
from spikeloom.synapses.conv import Geometry, conv_forward, conv_table, conv_weight
from spikeloom.synapses.forms import Pair, Product, convolution, linear_map, pooling
from spikeloom.synapses.linear import linear_forward, linear_weight
from spikeloom.synapses.pool import MaxPool
from spikeloom.synapses.switch import Decision, SparseParts


def obstacle(*tensors: Tensor | None) -> str | None:
    """Why torch's own product has to be taken, or None.

    Kernels see memory: whatever follows what is done to tensors (compilers, transformations,
    subclasses) is given operators that it knows.
    """
    dtype = None
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) is not Tensor and type(tensor) is not Parameter:
            return "a subclass of Tensor"
        if not tensor.is_cpu:
            return "not on a CPU"
        if tensor.dtype not in DTYPES or dtype not in (None, tensor.dtype):
            several = {str(t.dtype).removeprefix("torch."): None for t in tensors if t is not None}
            return f"dtype {', '.join(several)}"
        if tensor.layout is not torch.strided or tensor.is_neg():
            return "not strided"
        dtype = tensor.dtype
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return "being compiled"
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return "inside torch.func"
    if torch._C._len_torch_dispatch_stack() > 0:
        return "operators are being watched"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode derivatives"
    return None


def _hashable(*settings: Any) -> tuple[Any, ...]:
    """Settings with tuples in the place of lists."""
    if list not in map(type, settings):
        return settings
    return tuple([tuple(each) if isinstance(each, list) else each for each in settings])


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d`, with its arguments and results."""
    arguments = (stride, padding, dilation, groups)
    if torch.is_autocast_enabled("cpu"):
        input, weight, bias = _autocast(input, weight, bias)
    problem, product = obstacle(input, weight, bias), None
    if problem is None:
        shapes = (input.shape, weight.shape, None if bias is None else bias.shape)
        settings = _hashable(stride, padding, dilation)
        product = convolution(*shapes, input.dtype, *settings, groups)
    if product is None or product.geometry is None:
        _note("conv", input, weight, problem or "an uncommon form")
        return F.conv2d(input, weight, bias, *arguments)  # type: ignore[arg-type]
    choice, active = _decide("conv", input, weight, product, groups)
    if active is None:
        return F.conv2d(input, weight, bias, *arguments)  # type: ignore[arg-type]
    return _Conv.apply(input, weight, bias, product.geometry, active, choice)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv1d`, with its arguments and results."""
    settings = (stride, padding, dilation)
    single = all(isinstance(value, int | str) or len(value) == 1 for value in settings)
    if not single or obstacle(input, weight, bias) or (input.dim(), weight.dim()) != (3, 3):
        return F.conv1d(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]

    def high(value: Pair, height: int) -> tuple[int, int]:
        return height, value if isinstance(value, int) else value[0]

    wide = padding if isinstance(padding, str) else high(padding, 0)
    lines, flat_weight = input.unsqueeze(2), weight.unsqueeze(2)
    result = conv2d(lines, flat_weight, bias, high(stride, 1), wide, high(dilation, 1), groups)
    return result.squeeze(2)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, with its arguments and results."""
    if torch.is_autocast_enabled("cpu"):
        input, weight, bias = _autocast(input, weight, bias)
    problem, product = obstacle(input, weight, bias), None
    if problem is None:
        shapes = (input.shape, weight.shape, None if bias is None else bias.shape)
        product = linear_map(*shapes, input.dtype)
    if product is None:
        _note("linear", input, weight, problem or "an uncommon form")
        return F.linear(input, weight, bias)
    rows = input.reshape(-1, input.shape[-1])
    choice, active = _decide("linear", rows, weight, product, 0)
    if active is None:
        return F.linear(input, weight, bias)
    features = weight.shape[0]
    return _Linear.apply(rows, weight, bias, active, choice).view(*input.shape[:-1], features)


def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`torch.nn.functional.max_pool2d`, with its arguments and results."""
    if (
        not (ceil_mode or return_indices)
        and switch.setting.mode != "off"
        and obstacle(input) is None
        and is_channel_last(input)
    ):
        window = pooling(input.shape, *_hashable(kernel_size, stride, padding, dilation))
        if window is not None:
            return MaxPool.apply(input, window)
    arguments = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return F.max_pool2d(input, *arguments)  # type: ignore[call-overload,arg-type]


def _autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """As autocast hands them to a product."""
    if any(tensor is not None and tensor.device.type != "cpu" for tensor in tensors):
        return tensors
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(
        tensor.to(dtype)
        if tensor is not None and tensor.is_floating_point() and tensor.dtype != torch.float64
        else tensor
        for tensor in tensors
    )


DENSE = SparseParts(False, False)


def _decide(
    kind: str, x: Tensor, weight: Tensor, product: Product, groups: int
) -> tuple[SparseParts, Active | None]:
    """What to do, and the lists if anything is to be done sparsely."""
    mode = switch.setting.mode
    if mode == "off" or (mode == "auto" and product.small):
        _note(kind, x, weight, "switched off" if mode == "off" else "small")
        return DENSE, None
    x = x.detach()
    x = x if is_channel_last(x) else x.contiguous()
    counts = count(x)
    active = int(counts.sum())
    gradient = weight.requires_grad and torch.is_grad_enabled()
    choice = switch.choose(product.work, active, mode, gradient)
    reason = {"auto": "faster by the map", "on": "switched on"}[mode]
    _note(kind, x, weight, reason, choice, active / x.numel())
    if not (choice.forward or choice.weight):
        return choice, None
    return choice, list_images(x, counts, groups) if groups else list_rows(x, counts)


def _note(
    kind: str,
    x: Tensor,
    weight: Tensor,
    reason: str,
    choice: SparseParts = DENSE,
    density: float | None = None,
) -> None:
    """Writes the decision down, for whoever collects them."""
    collected = switch.records.get()
    if collected is None:
        return
    needed = weight.requires_grad and torch.is_grad_enabled()
    words = {True: "sparse", False: "dense"}
    forward, gradient = words[choice.forward], words[choice.weight] if needed else "-"
    collected.append(Decision(kind, id(weight), tuple(x.shape), density, forward, gradient, reason))


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        active: Active,
        choice: SparseParts,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.active, ctx.choice = geometry, active, choice
        ctx.has_bias = bias is not None
        if not choice.forward:
            return F.conv2d(x, weight, bias, *geometry[1:])
        last = is_channel_last(x) or is_channel_last(weight)
        return conv_forward(
            x.shape, active, conv_table(weight, geometry.groups), bias, geometry, last
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        (grad,) = grads
        geometry: Geometry = ctx.geometry
        mask = list(ctx.needs_input_grad[:3])
        # Whoever wants the gradient's own graph gets torch's formula, which has one.
        kernels = not torch.is_grad_enabled() and obstacle(grad, x) is None
        ours = mask[1] and ctx.choice.weight and kernels
        last = is_channel_last(x) or is_channel_last(weight)
        fewer = mask[0] and kernels and last and winograd.takes(grad, weight, geometry)
        mask[0] = mask[0] and not fewer
        mask[1] = mask[1] and not ours
        # oneDNN makes the bias's gradient along with the weight's, at the price of both
        bias_alone = mask[2] and not mask[1]
        mask[2] = mask[2] and mask[1]
        results: tuple[Tensor | None, ...] = (None, None, None)
        if any(mask):
            results = torch.ops.aten.convolution_backward(
                grad,
                x,
                weight,
                [weight.shape[0]] if ctx.has_bias else None,
                geometry.stride,
                geometry.padding,
                geometry.dilation,
                False,
                [0, 0],
                geometry.groups,
                mask,
            )
        gx, gw, gb = results
        if fewer:
            gx = winograd.input_gradient(grad, weight, geometry, *x.shape[2:])
        if ours:
            gw = conv_weight(x, ctx.active, grad, weight, geometry)
        if bias_alone:
            gb = grad.sum((0, 2, 3))
        return gx, gw, gb, None, None, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        active: Active,
        choice: SparseParts,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.active, ctx.choice = active, choice
        if not choice.forward:
            return F.linear(x, weight, bias)
        return linear_forward(len(x), active, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        (grad,) = grads
        want_x, want_weight, want_bias = ctx.needs_input_grad[:3]
        gx = _input_gradient(grad, weight) if want_x else None
        gb = grad.sum(0) if want_bias else None
        gw = None
        if want_weight:
            ours = ctx.choice.weight and not torch.is_grad_enabled() and obstacle(grad, x) is None
            gw = linear_weight(x, ctx.active, grad, weight) if ours else grad.t() @ x
        return gx, gw, gb, None, None


def _input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """`grad` `[R, O]` times `weight` `[O, I]`: by oneDNN, which is 1.2 times as fast here as the
    library that torch multiplies matrices with (128 x 2048 x 6272 on an EPYC)."""
    onednn = torch.backends.mkldnn.is_available() and weight.numel() >= ONEDNN_FROM
    if onednn and grad.dtype == torch.float32 and not torch.is_grad_enabled():
        return torch.ops.mkldnn._linear_pointwise(grad, weight.t(), None, "none", [], "")
    return grad @ weight


ONEDNN_FROM = 1 << 20
"""Weights from which a product is long enough to be handed to oneDNN."""
