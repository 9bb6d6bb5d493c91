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
from spikeloom.compiler.gpu.launch import Launch, prepare_backward, prepare_forward
from spikeloom.compiler.gpu.plan import Machine
from spikeloom.compiler.plan.call import Call, Form, TraceKey

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


def launches(
    step: Step, coefs: list[Tensor], rest: list[float], x: Tensor, on: Machine
) -> tuple[Launch, Launch]:
    """The forward and the backward launch (all gradients) of a step on the input `x`
    `[T, B, ...]`, as they would be made on the machine `on`; `x` may lie anywhere."""
    traced = trace(step, compute_dtype(x))
    text = f"{step.signature}\n{traced.forward.text()}\n{traced.adjoint.text()}"
    form = Form.of(x, coefs, x.shape[0], False, tuple(rest))
    call = Call(TraceKey(text, traced), form, x, [], coefs)
    forward, _ = prepare_forward(call, (), False, on)
    wanted = [True] * len(coefs)
    backward, _ = prepare_backward(call, torch.empty_like(x), [], True, False, wanted, on)
    if forward is None or backward is None:
        raise ValueError(f"an input of shape {list(x.shape)} needs no kernel: it has no elements")
    return forward, backward


def needs(launch: Launch, capability: int) -> Needs:
    """What the kernel of this launch needs on a GPU of compute capability 80, 90, ...

    Raises RuntimeError under Triton's interpreter, which compiles nothing.
    """
    kernel = compiled(launch, capability)
    registers, spilled = _assembled(kernel.asm["ptx"])
    return Needs(registers, spilled, kernel.metadata.shared)


def compiled(launch: Launch, capability: int) -> Any:
    """The kernel of this launch as Triton compiles it for such a GPU; `asm["ptx"]` is its text."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    if not isinstance(launch.kernel, JITFunction):
        raise RuntimeError("kernels are interpreted: unset TRITON_INTERPRET to compile them")
    names = launch.kernel.arg_names
    # as the launch specialises: a size of 1 is a constant, and memory is read in whole vectors
    # where sizes and addresses are multiples of 16
    constants = {n: launch.arguments[n] for n in names if _constant(n, launch.arguments[n])}
    signature = {n: _type(launch.arguments[n]) for n in names} | dict.fromkeys(
        constants, "constexpr"
    )
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, n in enumerate(names)
        if n not in constants and n != "T" and _aligned(launch.arguments[n])
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
