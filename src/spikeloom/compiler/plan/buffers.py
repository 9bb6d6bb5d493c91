"""The tensors of a call in the memory order of its kernel: what it reads, and what it will fill."""

from dataclasses import dataclass

from torch import Tensor

from spikeloom.compiler.front.step import compute_dtype
from spikeloom.compiler.plan.call import Call
from spikeloom.compiler.plan.geometry import Layout


@dataclass(frozen=True)
class ForwardBuffers:
    """The input and the initial states (empty at rest), and the results of a forward pass.

    `finals` is empty unless the last states are wanted.
    """

    x: Tensor
    starts: list[Tensor]
    out: Tensor
    finals: list[Tensor]
    records: list[Tensor]

    @staticmethod
    def of(
        call: Call, layout: Layout, record: tuple[str, ...], want_state: bool
    ) -> "ForwardBuffers":
        """Buffers of a call; where it has nothing to compute, the last states are the first."""
        x = layout.bring(call.x, call.x.dtype)
        dtype, names = compute_dtype(x), call.trace.signature.states
        buffers = ForwardBuffers(
            x,
            [layout.bring(start, dtype) for start in call.starts],
            layout.empty(x, x.dtype, call.time_steps),
            [layout.empty(x, dtype) for _ in names] if want_state else [],
            [layout.empty(x, dtype, call.time_steps) for _ in record],
        )
        if call.empty:
            for j, final in enumerate(buffers.finals):
                final.copy_(buffers.starts[j]) if buffers.starts else final.fill_(call.rest[j])
        return buffers

    @property
    def results(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Spikes, last states, records."""
        return self.out, self.finals, self.records


@dataclass(frozen=True)
class BackwardBuffers:
    """The input, and the gradients of the input (None unless wanted) and of the initial states
    (empty unless wanted).

    The gradient of a static input is summed over time, in the precision of a sum.
    """

    x: Tensor
    gx: Tensor | None
    grad_starts: list[Tensor]

    @staticmethod
    def of(
        call: Call, layout: Layout, grad_finals: list[Tensor], want_x: bool, want_starts: bool
    ) -> "BackwardBuffers":
        """Buffers of a call; where it has nothing to compute, gradients pass from the last states
        to the first."""
        x = layout.bring(call.x, call.x.dtype)
        dtype, names = compute_dtype(x), call.trace.signature.states
        gx = None
        if want_x and call.static:
            gx = layout.empty(x, dtype)
        elif want_x:
            gx = layout.empty(x, x.dtype, call.time_steps)
        grad_starts = [layout.empty(x, dtype) for _ in names] if want_starts else []
        if call.empty:
            for j, grad_start in enumerate(grad_starts):
                grad_start.copy_(grad_finals[j]) if grad_finals else grad_start.zero_()
            if gx is not None:
                gx.zero_()
        return BackwardBuffers(x, gx, grad_starts)
