"""A step for tensors of one form: what depends on shapes alone is worked out once and held."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from spikeloom.compiler import emit
from spikeloom.compiler.front.step import HALF
from spikeloom.compiler.front.trace import Trace
from spikeloom.compiler.plan.call import Form
from spikeloom.compiler.plan.geometry import find_plan


class Part(NamedTuple):
    """Sums that parts of a backward kernel have added to the gradient of a coef: `[copies, T or 1,
    width]`, or `turned`, `[copies, width, T or 1]`."""

    shape: tuple[int, ...]
    turned: bool = False


class Launch(Protocol):
    """A kernel with the arguments that do not change, ready to be started."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The sums of the wanted coefs, in their order, which a backward kernel adds to."""
        ...

    def run(self, tensors: Iterable[Tensor], g_time: int) -> None:
        """Starts it on tensors, in the order of `BoundKernel.forward_names` or `backward_names`.

        `g_time`: elements from one time step of the spikes' gradient to the next.
        """
        ...


class BoundKernel(ABC):
    """The forward and the backward kernel of a step, bound to tensors of one form.

    A target says how a kernel is launched; memory order, results, and what a call with nothing to
    compute answers are the same for all.
    """

    sum_dtype: torch.dtype
    """In which a kernel adds up the gradients of coefs."""

    def __init__(self, trace: Trace, form: Form) -> None:
        self.trace, self.form = trace, form
        signature = trace.signature
        self.states = emit.state_names(signature.states)
        self.coefs = emit.coef_names(signature.coefs)
        self.plan = find_plan(
            signature, form.step_shape, form.step_strides, form.time_steps, form.coef_shapes
        )
        self.layout = self.plan.layout
        names = enumerate(signature.coefs)
        self.vectors = frozenset(name for i, name in names if self.plan.is_vector(i))
        self.dtype = torch.float32 if form.dtype in HALF else form.dtype
        size, times = self.layout.size, form.time_steps
        fits = self.layout.fits_strides(form.step_strides)
        far = form.static or times <= 1 or form.strides[0] >= size or form.strides[0] == 0
        self._x_fits = fits and far
        self.x_time = size
        """Elements from one time step of the input to the next."""
        if form.static:
            self.x_time = 0
        elif times > 1 and self._x_fits:
            self.x_time = form.strides[0]
        # coefs that are read where they lie, if they are contiguous; those of one value always are
        self._flat = [
            kind == "scalar" or (kind == "channel" and self.plan.nest == "row")
            for kind in self.plan.kinds
        ]
        self._plain = set(self.plan.kinds) <= {"scalar"} and not any(self.plan.per_time)
        self._empty = form.empty
        shape, strides = (times, *self.layout.shape), (size, *self.layout.strides)
        self._strides = strides
        self._new_spikes = self.allocator(shape, strides, form.dtype)
        self._new_record = self.allocator(shape, strides, self.dtype)
        self._new_state = self.allocator(self.layout.shape, self.layout.strides, self.dtype)
        # the gradient of a constant current is summed over time, in the precision of a sum
        self._new_gx = self._new_state if form.static else self._new_spikes
        self._forward, self._backward = cache(self.launch_forward), cache(self.launch_backward)

    def allocator(
        self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype
    ) -> Callable[[], Tensor]:
        """What makes uninitialised tensors for results."""
        return partial(torch.empty_strided, shape, strides, dtype=dtype, device=self.form.device)

    @abstractmethod
    def launch_forward(self, record: tuple[str, ...], want_state: bool, started: bool) -> Launch:
        """The forward kernel. `started`: from given states."""

    @abstractmethod
    def launch_backward(
        self, started: bool, ended: bool, want_x: bool, want_coefs: tuple[bool, ...]
    ) -> Launch:
        """The backward kernel. `ended`: gradients come from the final states too."""

    def forward_names(self, record: tuple[str, ...], want_state: bool, started: bool) -> list[str]:
        """What the tensors of a forward launch are called: arrays of states with their purpose."""
        return [
            *("x", "out"),
            *(f"{var}start" for var in self.states if started),
            *(f"{var}final" for var in self.states if want_state),
            *self.coefs,
            *(f"record_{name}_" for name in record),
        ]

    def backward_names(
        self, started: bool, ended: bool, want_x: bool, want_coefs: tuple[bool, ...]
    ) -> list[str]:
        """What the tensors of a backward launch are called."""
        pairs = zip(self.coefs, want_coefs, strict=True)
        return [
            *("x", "g", *["gx"] * want_x),
            *(f"{var}start" for var in self.states if started),
            *(f"{var}grad_final" for var in self.states if ended),
            *(f"{var}grad_start" for var in self.states if started),
            *self.coefs,
            *(f"part_{var}" for var, want in pairs if want),
        ]

    def forward(
        self,
        x: Tensor,
        starts: tuple[Tensor, ...],
        coefs: tuple[Tensor, ...],
        record: tuple[str, ...],
        want_state: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Spikes, final states (empty unless wanted), and one sequence per name in `record`.

        `starts` is empty for samples that begin at rest.
        """
        out = self._new_spikes()
        finals = [self._new_state() for _ in self.states] if want_state else []
        records = [self._new_record() for _ in record] if record else []
        if self._empty:
            for j, final in enumerate(finals):
                final.copy_(starts[j]) if starts else final.fill_(self.form.rest[j])
            return out, finals, records
        launch = self._forward(record, want_state, bool(starts))
        if not self._x_fits:
            x = self.layout.bring(x, self.form.dtype)
        if starts:
            starts = self._in_order(starts)
        if not self._plain:
            coefs = self._packed(coefs)
        launch.run((x, out, *starts, *finals, *coefs, *records), 0)
        return out, finals, records

    def backward(
        self,
        x: Tensor,
        starts: tuple[Tensor, ...],
        coefs: tuple[Tensor, ...],
        want_x: bool,
        want_coefs: tuple[bool, ...],
        grad_spikes: Tensor,
        *grad_finals: Tensor,
    ) -> list[Tensor | None]:
        """Gradients of the input, of the initial states given, and of the coefs; None for those
        that are not wanted.

        There are no `grad_finals` where no gradient comes from the final states.
        """
        form = self.form
        gx = [self._new_gx()] if want_x else []
        grad_starts = [self._new_state() for _ in starts] if starts else []
        if self._empty:
            return self._backward_of_nothing(gx, grad_starts, grad_finals, want_coefs)
        launch = self._backward(bool(starts), bool(grad_finals), want_x, want_coefs)
        if not self._x_fits:
            x = self.layout.bring(x, form.dtype)
        g, g_time = grad_spikes, self._strides[0]
        if g.stride() != self._strides or g.dtype is not form.dtype:
            g = self.layout.bring(g, form.dtype)
            g_time = g.stride(0) if form.time_steps > 1 else g_time
        if starts:
            starts = self._in_order(starts)
        if grad_finals:
            grad_finals = self._in_order(grad_finals)
        if not self._plain:
            coefs = self._packed(coefs)
        parts = []
        for part in launch.parts:
            parts.append(torch.zeros(part.shape, dtype=self.sum_dtype, device=form.device))
        launch.run((x, g, *gx, *starts, *grad_finals, *grad_starts, *coefs, *parts), g_time)
        results: list[Tensor | None] = [None, *grad_starts]
        if want_x:
            results[0] = gx[0] if gx[0].dtype is form.dtype else gx[0].to(form.dtype)
        sums = iter(zip(launch.parts, parts, strict=True))
        for index, want in enumerate(want_coefs):
            if not want:
                results.append(None)
                continue
            (_, turned), part = next(sums)
            total = part[0] if len(part) == 1 else part.sum(0, dtype=torch.float64)
            total = total.t() if turned else total
            shape = form.coef_shapes[index]
            grad = total.view(shape) if self._plain else self.plan.unpack(index, total, shape)
            results.append(grad.to(self.dtype))
        return results

    def _backward_of_nothing(
        self,
        gx: list[Tensor],
        grad_starts: list[Tensor],
        grad_finals: tuple[Tensor, ...],
        want_coefs: tuple[bool, ...],
    ) -> list[Tensor | None]:
        """Gradients pass from the last states to the first; all others are zero."""
        for j, grad in enumerate(grad_starts):
            grad.copy_(grad_finals[j]) if grad_finals else grad.zero_()
        zeros = [
            torch.zeros(shape, dtype=self.dtype, device=self.form.device) if want else None
            for shape, want in zip(self.form.coef_shapes, want_coefs, strict=True)
        ]
        first = gx[0].zero_().to(self.form.dtype) if gx else None
        return [first, *grad_starts, *zeros]

    def _in_order(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """States, or gradients of them, in memory order."""
        strides = self.layout.strides
        return tuple(
            [
                state
                if state.stride() == strides and state.dtype is self.dtype
                else self.layout.bring(state, self.dtype)
                for state in states
            ]
        )

    def _packed(self, coefs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The coefs as the kernel reads them."""
        return tuple(
            [
                coef if flat and coef.is_contiguous() else self.plan.pack(index, coef.detach())
                for index, (flat, coef) in enumerate(zip(self._flat, coefs, strict=True))
            ]
        )
