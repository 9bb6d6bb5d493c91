"""`conv2d`, `conv1d` and `linear` as torch's, on the active inputs where that pays."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from spikeloom.synapses import switch
from spikeloom.synapses.active import DTYPES, Active, count, list_images, list_rows
from spikeloom.synapses.conv import Geometry, conv_forward, conv_table, conv_weight
from spikeloom.synapses.linear import linear_forward, linear_weight
from spikeloom.synapses.pool import MaxPool
from spikeloom.synapses.switch import Decision, SparseParts, Work

Pair = int | tuple[int, ...] | list[int]


def obstacle(*tensors: Tensor | None) -> str | None:
    """Why torch's own product has to be taken, or None.

    Kernels see memory: whatever follows what is done to tensors (compilers, transformations,
    subclasses) is given operators that it knows.
    """
    present = [tensor for tensor in tensors if tensor is not None]
    if any(type(tensor) not in (Tensor, Parameter) for tensor in present):
        return "a subclass of Tensor"
    if any(tensor.device.type != "cpu" for tensor in present):
        return "not on a CPU"
    dtypes = {tensor.dtype for tensor in present}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        return f"dtype {', '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)}"
    if any(tensor.layout != torch.strided or tensor.is_neg() for tensor in present):
        return "not strided"
    return _followed()


def _followed() -> str | None:
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return "being compiled"
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return "inside torch.func"
    if torch._C._len_torch_dispatch_stack() > 0:
        return "operators are being watched"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode derivatives"
    return None


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
    input, weight, bias = _autocast(input, weight, bias)
    problem = obstacle(input, weight, bias)
    geometry = _geometry(weight, stride, padding, dilation, groups)
    if problem is None and (geometry is None or not _fits(input, weight, bias, geometry)):
        problem = "an uncommon form"
    if problem is not None or geometry is None:
        _note("conv", input, weight, None, SparseParts(False, False), str(problem))
        return F.conv2d(input, weight, bias, *arguments)  # type: ignore[arg-type]
    samples, channels, height, width = input.shape
    high, wide = geometry.output(height, width)
    features = weight.shape[0] // groups
    taps = geometry.kernel[0] * geometry.kernel[1]
    outputs = samples * high * wide
    work = Work(
        "conv",
        input.numel(),
        taps * high * wide / (height * width),
        features,
        outputs * weight.shape[0],
        outputs * weight.shape[0] * (channels // groups) * taps,
        weight.numel(),
        input.dtype,
    )
    choice, active = _decide("conv", input, weight, work, groups)
    if active is None:
        return F.conv2d(input, weight, bias, *arguments)  # type: ignore[arg-type]
    return _Conv.apply(input, weight, bias, geometry, active, choice)


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
    one = all(isinstance(value, int | str) or len(value) == 1 for value in settings)
    if not one or obstacle(input, weight, bias) or (input.dim(), weight.dim()) != (3, 3):
        return F.conv1d(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]

    def high(value: Pair, one: int) -> tuple[int, int]:
        return one, value if isinstance(value, int) else value[0]

    wide = padding if isinstance(padding, str) else high(padding, 0)
    lines, flat_weight = input.unsqueeze(2), weight.unsqueeze(2)
    result = conv2d(lines, flat_weight, bias, high(stride, 1), wide, high(dilation, 1), groups)
    return result.squeeze(2)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, with its arguments and results."""
    input, weight, bias = _autocast(input, weight, bias)
    problem = obstacle(input, weight, bias)
    if problem is None and (
        input.dim() < 2
        or weight.dim() != 2
        or input.shape[-1] != weight.shape[1]
        or (bias is not None and bias.shape != weight.shape[:1])
        or 0 in (*input.shape, *weight.shape)
    ):
        problem = "an uncommon form"
    if problem is not None:
        _note("linear", input, weight, None, SparseParts(False, False), problem)
        return F.linear(input, weight, bias)
    rows = input.reshape(-1, input.shape[-1])
    features = weight.shape[0]
    work = Work(
        "linear",
        rows.numel(),
        1,
        features,
        rows.shape[0] * features,
        rows.numel() * features,
        weight.numel(),
        input.dtype,
    )
    choice, active = _decide("linear", rows, weight, work, 0)
    if active is None:
        return F.linear(input, weight, bias)
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
    window = _pair(kernel_size)
    steps = _pair(stride) if stride is not None and stride != [] else window
    if (
        window is not None
        and (steps, _pair(padding), _pair(dilation)) == (window, (0, 0), (1, 1))
        and not (ceil_mode or return_indices)
        and switch.current_mode() != "off"
        and obstacle(input) is None
        and input.dim() == 4
        and _channel_last(input)
        and input.shape[1] >= 16
        and min(window) > 0
        and window[0] * window[1] <= 255
        and all(size >= side for size, side in zip(input.shape[2:], window, strict=True))
    ):
        return MaxPool.apply(input, window)
    arguments = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return F.max_pool2d(input, *arguments)  # type: ignore[call-overload,arg-type]


def _pair(value: Pair) -> tuple[int, int] | None:
    """Both numbers; None where torch has to say what is wrong."""
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1])) if len(value) in (1, 2) else None


def _autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """As autocast hands them to a product."""
    if not torch.is_autocast_enabled("cpu") or any(
        tensor is not None and tensor.device.type != "cpu" for tensor in tensors
    ):
        return tensors
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(
        tensor.to(dtype)
        if tensor is not None and tensor.is_floating_point() and tensor.dtype != torch.float64
        else tensor
        for tensor in tensors
    )


def _geometry(
    weight: Tensor, stride: Pair, padding: Pair | str, dilation: Pair, groups: int
) -> Geometry | None:
    steps, gaps = _pair(stride), _pair(dilation)
    if weight.dim() != 4 or steps is None or gaps is None:
        return None
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    if padding == "valid":
        return Geometry(kernel, steps, (0, 0), gaps, groups)
    if isinstance(padding, str):
        around = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
        if padding != "same" or steps != (1, 1) or any(size % 2 for size in around):
            return None
        return Geometry(kernel, steps, (around[0] // 2, around[1] // 2), gaps, groups)
    border = _pair(padding)
    return None if border is None else Geometry(kernel, steps, border, gaps, groups)


def _fits(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> bool:
    """Whether the shapes are those of a convolution of images; torch complains of others."""
    if input.dim() != 4 or weight.dim() != 4 or 0 in (*input.shape, *weight.shape):
        return False
    groups = geometry.groups
    return (
        groups > 0
        and input.shape[1] == weight.shape[1] * groups
        and weight.shape[0] % groups == 0
        and min(geometry.stride) > 0
        and min(geometry.padding) >= 0
        and min(geometry.dilation) > 0
        and min(geometry.output(*input.shape[2:])) > 0
        and (bias is None or bias.shape == weight.shape[:1])
    )


def _decide(
    kind: str, x: Tensor, weight: Tensor, work: Work, groups: int
) -> tuple[SparseParts, Active | None]:
    """What to do, and the lists if anything is to be done sparsely."""
    mode = switch.current_mode()
    dense = SparseParts(False, False)
    if mode == "off":
        _note(kind, x, weight, None, dense, "switched off")
        return dense, None
    if mode == "auto" and switch.seems_small(work):
        _note(kind, x, weight, None, dense, "small")
        return dense, None
    gradient = weight.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        x = _dense_in_memory(x)
        counts = count(x)
        active = int(counts.sum())
        choice = switch.choose(work, active, mode, gradient)
        reason = {"auto": "faster by the map", "on": "switched on"}[mode]
        _note(kind, x, weight, active / x.numel(), choice, reason, gradient)
        if not (choice.forward or choice.weight):
            return choice, None
        return choice, list_images(x, counts, groups) if groups else list_rows(x, counts)


def _note(
    kind: str,
    x: Tensor,
    weight: Tensor,
    density: float | None,
    choice: SparseParts,
    reason: str,
    gradient: bool | None = None,
) -> None:
    if not switch.is_recording():
        return
    asked = weight.requires_grad and torch.is_grad_enabled() if gradient is None else gradient
    words = {True: "sparse", False: "dense"}
    gradient_word = words[choice.weight] if asked else "-"
    switch.record(
        Decision(
            *(kind, id(weight), tuple(x.shape), x.dtype, density, words[choice.forward]),
            *(gradient_word, reason),
        )
    )


def _dense_in_memory(x: Tensor) -> Tensor:
    if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


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
            arguments = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
            return F.conv2d(x, weight, bias, *arguments)
        last = _channel_last(x) or _channel_last(weight)
        return conv_forward(x, active, conv_table(weight, geometry.groups), bias, geometry, last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        (grad,) = grads
        geometry: Geometry = ctx.geometry
        mask = list(ctx.needs_input_grad[:3])
        # Whoever wants the gradient's own graph gets torch's formula, which has one.
        ours = mask[1] and ctx.choice.weight and not torch.is_grad_enabled()
        ours = ours and obstacle(grad, x) is None
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
        if ours:
            gw = conv_weight(x, ctx.active, grad, weight, geometry)
        if bias_alone:
            gb = grad.sum((0, 2, 3))
        return gx, gw, gb, None, None, None


def _channel_last(tensor: Tensor) -> bool:
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


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
        return linear_forward(x, active, weight, bias)

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
