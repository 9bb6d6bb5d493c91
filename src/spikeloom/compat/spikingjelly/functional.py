"""SpikingJelly's functions on networks, sequences and losses."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def reset_net(net: nn.Module) -> None:
    """Every module of `net` forgets what it remembers."""
    for module in net.modules():
        if callable(getattr(module, "reset", None)):
            module.reset()  # type: ignore[operator]


def detach_net(net: nn.Module) -> None:
    """Cut the history of every memory of `net`: truncated backpropagation through time."""
    for module in net.modules():
        if callable(getattr(module, "detach", None)):
            module.detach()  # type: ignore[operator]


def set_step_mode(net: nn.Module, step_mode: str) -> None:
    """Let every module of `net` take one step ("s") or a sequence ("m"); what stands inside a
    container that has a mode of its own stays as it is.
    """
    if getattr(net, "step_mode", None) is not None:
        net.step_mode = step_mode  # type: ignore[assignment]
    if not getattr(net, "keeps_mode_inside", False):
        for child in net.children():
            set_step_mode(child, step_mode)


def set_backend(net: nn.Module, backend: str, instance: Any = (nn.Module,)) -> None:
    """Kept for the code that calls it: whatever the backend is called, kernels of ours run."""
    for module in net.modules():
        if isinstance(module, instance) and hasattr(module, "backend"):
            module.backend = backend  # type: ignore[assignment]


def set_monitor(net: nn.Module, monitor_state: bool) -> None:
    for module in net.modules():
        if callable(getattr(module, "set_monitor", None)):
            module.set_monitor(monitor_state)  # type: ignore[operator]


def _through(modules: Any, x: Any) -> Any:
    if isinstance(modules, (list, tuple, nn.Sequential)):
        for module in modules:
            x = module(x)
        return x
    return modules(x)


def multi_step_forward(x_seq: Tensor, single_step_module: Any) -> Tensor:
    """Step by step through a module, or one after the other through several."""
    return torch.stack([_through(single_step_module, x) for x in x_seq.unbind(0)])


def chunk_multi_step_forward(split_size: int, x_seq: Tensor, multi_step_module: Any) -> Tensor:
    return torch.cat([multi_step_module(x) for x in x_seq.split(split_size)])


def seq_to_ann_forward(x_seq: Tensor, stateless_module: Any) -> Tensor:
    """`[T, N, ...]` through a module without state, as `[T * N, ...]`."""
    y = _through(stateless_module, x_seq.flatten(0, 1))
    return y.view(*x_seq.shape[:2], *y.shape[1:])  # type: ignore[no-any-return]


def kernel_dot_product(x: Tensor, y: Tensor, kernel: str = "linear", *args: float) -> Tensor:
    kernels: dict[str, Callable[[], Tensor]] = {
        "linear": lambda: x.mm(y.t()),
        "polynomial": lambda: x.mm(y.t()).pow(args[0]),
        "sigmoid": lambda: torch.sigmoid(args[0] * x.mm(y.t())),
        "gaussian": lambda: torch.exp(-_distances(x, y) / (2 * args[0] * args[0])),
    }
    if kernel not in kernels:
        raise NotImplementedError(f"kernel={kernel!r}: expected one of {', '.join(kernels)}")
    return kernels[kernel]()


def _distances(x: Tensor, y: Tensor) -> Tensor:
    squares = x.square().sum(1, keepdim=True) + y.square().sum(1)
    return squares - 2 * x.mm(y.t())


def spike_similar_loss(
    spikes: Tensor,
    labels: Tensor,
    kernel_type: str = "linear",
    loss_type: str = "mse",
    *args: float,
) -> Tensor:
    spikes = spikes.flatten(start_dim=1)
    similarity = kernel_dot_product(spikes, spikes, kernel_type, *args)
    if kernel_type == "linear":
        lengths = spikes.norm(p=2, dim=1, keepdim=True)
        similarity = similarity / (lengths.mm(lengths.t()) + 1e-8)
    labels = labels.float()
    expected = labels.mm(labels.t()).clamp_max(1)
    losses = {"mse": F.mse_loss, "l1": F.l1_loss, "bce": F.binary_cross_entropy}
    if loss_type not in losses:
        raise NotImplementedError(f"loss_type={loss_type!r}: expected one of {', '.join(losses)}")
    return losses[loss_type](similarity, expected)


def temporal_efficient_training_cross_entropy(x_seq: Tensor, target: Tensor) -> Tensor:
    """Cross entropy at every step, `x_seq` `[T, N, C, ...]`, averaged."""
    x = x_seq.movedim(0, 2)
    shape = [1, x.shape[2], *[1] * (x.dim() - 3)]
    return F.cross_entropy(x, target.unsqueeze(1).repeat(shape))


def set_threshold_margin(
    output_layer: Any,
    label_one_hot: Tensor,
    eval_threshold: float = 1.0,
    threshold0: float = 0.9,
    threshold1: float = 1.1,
) -> None:
    if output_layer.training:
        high = label_one_hot == 1
        output_layer.v_threshold = torch.where(high, threshold1, threshold0)
    else:
        output_layer.v_threshold = eval_threshold


def redundant_one_hot(labels: Tensor, num_classes: int, n: int) -> Tensor:
    codes = [F.one_hot(labels * n + i, num_classes * n).float() for i in range(n)]
    return torch.stack(codes).sum(0)


def first_spike_index(spikes: Tensor) -> Tensor:
    with torch.no_grad():
        return spikes.cumsum(dim=-1).cumsum(dim=-1) == 1


def fused_conv2d_weight_of_convbn2d(conv2d: nn.Conv2d, bn2d: nn.BatchNorm2d) -> Tensor:
    scale = bn2d.weight / (bn2d.running_var + bn2d.eps).sqrt()  # type: ignore[operator]
    return (conv2d.weight.transpose(0, 3) * scale).transpose(0, 3)


def fused_conv2d_bias_of_convbn2d(conv2d: nn.Conv2d, bn2d: nn.BatchNorm2d) -> Tensor:
    scale = bn2d.weight / (bn2d.running_var + bn2d.eps).sqrt()  # type: ignore[operator]
    return bn2d.bias - bn2d.running_mean * scale  # type: ignore[operator]


@torch.no_grad()
def fuse_convbn2d(conv2d: nn.Conv2d, bn2d: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution in place of a convolution without bias and the norm after it."""
    fused = nn.Conv2d(
        conv2d.in_channels,
        conv2d.out_channels,
        conv2d.kernel_size,  # type: ignore[arg-type]
        conv2d.stride,  # type: ignore[arg-type]
        conv2d.padding,  # type: ignore[arg-type]
        conv2d.dilation,  # type: ignore[arg-type]
        conv2d.groups,
        padding_mode=conv2d.padding_mode,
    )
    fused.weight.copy_(fused_conv2d_weight_of_convbn2d(conv2d, bn2d))
    fused.bias.copy_(fused_conv2d_bias_of_convbn2d(conv2d, bn2d))  # type: ignore[union-attr]
    return fused


def kaiming_normal_conv_linear_weight(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, a=math.sqrt(5))


def delay(x_seq: Tensor, delay_steps: int) -> Tensor:
    """The sequence later by `delay_steps`, silent before."""
    silence = torch.zeros_like(x_seq[:delay_steps])
    return torch.cat([silence, x_seq[: max(0, len(x_seq) - delay_steps)]])
