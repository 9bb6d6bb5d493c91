"""What a kernel needs of a GPU, found without one: Triton and ptxas compile for any of them."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeloom.compiler.front.step import Step, compute_dtype
from spikeloom.compiler.front.trace import trace
from spikeloom.compiler.gpu.launch import GpuKernel, GpuLaunch
from spikeloom.compiler.gpu.plan import Machine
from spikeloom.compiler.plan.call import Form

_TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
}


@dataclass(frozen=True)
class Needs:
    """Registers of a thread, bytes of them that spill to memory, bytes of shared memory of a
    program."""

    registers: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class Started:
    """A launch with all its arguments."""

    launch: GpuLaunch
    arguments: dict[str, Any]


def launches(
    step: Step, coefs: list[Tensor], rest: list[float], x: Tensor, on: Machine
) -> tuple[Started, Started]:
    """The forward and the backward launch (all gradients) of a step on the input `x`
    `[T, B, ...]`, as they would be made on the machine `on`; `x` may lie anywhere."""
    if not x.numel():
        raise ValueError(f"an input of shape {list(x.shape)} needs no kernel: it has no elements")
    traced = trace(step, compute_dtype(x))
    form = Form.of(x, coefs, x.shape[0], False, tuple(rest))
    kernel = GpuKernel(traced, form, on)
    forward = kernel.launch_forward((), False, False)
    backward = kernel.launch_backward(False, False, True, (True,) * len(coefs))
    packed = [kernel.plan.pack(index, coef) for index, coef in enumerate(coefs)]
    sums = [torch.empty(part.shape, dtype=kernel.dtype) for part in backward.parts]
    g_time = x.stride(0)
    return (
        Started(forward, forward.arguments((x, x, *packed), g_time)),
        Started(backward, backward.arguments((x, x, x, *packed, *sums), g_time)),
    )


def needs(started: Started, capability: int) -> Needs:
    """What the kernel of this launch needs on a GPU of compute capability 80, 90, ...

    Raises RuntimeError under Triton's interpreter, which compiles nothing.
    """
    kernel = compiled(started, capability)
    registers, spilled = _assembled(kernel.asm["ptx"])
    return Needs(registers, spilled, kernel.metadata.shared)


def compiled(started: Started, capability: int) -> Any:
    """The kernel of this launch as Triton compiles it for such a GPU; `asm["ptx"]` is its text."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    launch, arguments = started.launch, started.arguments
    if not isinstance(launch.kernel, JITFunction):
        raise RuntimeError("kernels are interpreted: unset TRITON_INTERPRET to compile them")
    names = launch.kernel.arg_names
    # as the launch specialises: a size of 1 is a constant, and memory is read in whole vectors
    # where sizes and addresses are multiples of 16
    constants = {n: arguments[n] for n in names if _constant(n, arguments[n])}
    signature = {n: _type(arguments[n]) for n in names} | dict.fromkeys(constants, "constexpr")
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, n in enumerate(names)
        if n not in constants and n != "T" and _aligned(arguments[n])
    }
    source = ASTSource(launch.kernel, signature, constants, aligned)
    return triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.warps, "enable_fp_fusion": False},
    )


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        return _TYPES[value.dtype]
    return "i32" if -(1 << 31) <= value < 1 << 31 else "i64"


def _constant(name: str, value: Any) -> bool:
    if name in ("BLOCK", "ROWS", "COLS"):
        return True
    return name != "T" and not isinstance(value, Tensor) and value == 1


def _aligned(value: Any) -> bool:
    return isinstance(value, Tensor) or value % 16 == 0


def _assembled(ptx: str) -> tuple[int, int]:
    """Registers and spilled bytes, as ptxas reports them."""
    import triton

    target = re.search(r"^\.target (sm_\w+)", ptx, re.MULTILINE)
    assert target is not None
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "kernel.ptx"
        text.write_text(ptx)
        command = [program, "-v", "-arch", target[1], text, "-o", text.with_suffix(".o")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = done.stderr + done.stdout
    registers = re.search(r"Used (\d+) registers", report)
    assert registers is not None
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", report)
    return int(registers[1]), sum(map(int, spills))
