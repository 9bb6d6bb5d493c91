"""A linear layer and its neurons in one call, for few samples at a time: a network that is
streamed one time step after the other."""

import threading
from array import array
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from spikeloom.compiler.cpu.pieces import copied_in, copied_out, only_if
from spikeloom.compiler.cpu.writer import Parameter
from spikeloom.compiler.emit import indent
from spikeloom.compiler.front.trace import Trace
from spikeloom.synapses.active import real
from spikeloom.synapses.steps import Kernel, Neurons, State, step_segment, step_writer

MOST = 64
"""Rows of a call at most."""


@cache
def _step_kernel(trace: Trace, dtype: torch.dtype, vectors: frozenset[str]) -> Kernel:
    """Parts are samples. The current of one sample at one step, and its states, are scratch."""
    writer = step_writer(trace, dtype, vectors)
    writer.calls["compiler.cpu.rows"] = "active", "add_long_rows"
    count = len(writer.states)
    at = [f"{j} * F" for j in range(count)]
    call, text = step_segment(
        writer, ("scratch", f"{count} * F"), ("out", "(t * B + sample) * F"), at
    )
    current = f"{count} * F"
    body = [
        "m = F",
        "for sample in range(first, last):",
        *indent(copied_in(writer, at, "sample * F", "F")),
        "    for t in range(T):",
        "        heard = active(x, u8(t * x_time + sample * x_sample), inputs, places, kept)",
        "        counts[t * B + sample] = heard",
        "        if heard > limit:",
        "            return",
        f"        copy(scratch[{current} : {current} + F], bias[0:F])",
        f"        add_long_rows(F, scratch, {current}, table, places, kept, heard)",
        *indent(call, 2),
        *indent(only_if("want_final", copied_out(writer, at, "sample * F", "F", "final"))),
    ]
    parameters: list[Parameter] = [
        *((name, "integer") for name in ("T", "B", "F", "inputs", "limit")),
        *(("x", "storage"), ("x_time", "integer"), ("x_sample", "integer")),
        *(("table", "storage"), ("bias", "storage"), ("out", "storage")),
        *(("places", "places"), ("kept", "storage"), ("counts", "places")),
    ]
    return Kernel("Linear step", writer, text, parameters, body)


class LinearStep:
    """y_t = spikes of the neurons at  W x_t + b, for few samples and time steps: rows of W of the
    inputs that are not zero, then the step, in one call. On the calling thread."""

    def __init__(self, neurons: Neurons, by_input: Tensor, bias: Tensor | None) -> None:
        """`by_input`: the weights, `[inputs, features]` in memory."""
        self.neurons = neurons
        self.inputs, self.features = by_input.shape
        self.table = by_input
        self.bias = by_input.new_zeros(self.features) if bias is None else bias.contiguous()
        self.kernel = _step_kernel(neurons.trace, neurons.dtype, neurons.vectors)
        kind = real(neurons.dtype)
        self._places, self._values = np.empty(self.inputs, np.int32), np.empty(self.inputs, kind)
        self._scratch = np.empty((len(neurons.rest) + 1) * self.features, kind)
        self._scratch_at = self._scratch.ctypes.data
        self._counts = array("i", [0] * MOST)
        self._words = self.kernel.words(
            neurons,
            {
                **{"F": self.features, "inputs": self.inputs},
                **{"table": by_input.data_ptr(), "bias": self.bias.data_ptr()},
                **{"places": self._places.ctypes.data, "kept": self._values.ctypes.data},
                "counts": self._counts.buffer_info()[0],
            },
        )
        self._words_at = self._words.buffer_info()[0]
        self._start_at, self._final_at = (self.kernel.states(what) for what in ("start", "final"))
        at = self.kernel.at
        self._sizes_at = [at[name] for name in ("T", "B", "limit", "x_time", "x_sample")]
        self._flags_at = at["has_start"], at["want_final"]
        self._tensors_at = at["x"], at["out"]
        self._sizes: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def __call__(
        self, x: Tensor, state: Sequence[Tensor] | None, want_state: bool, limit: int
    ) -> tuple[Tensor, State, list[int]]:
        """Spikes `[T, B, features]`, the state after them, and how many inputs were active in each
        row, for `x` `[T, B, inputs]`, contiguous, of at most `MOST` rows. No answer if there were
        more than `limit`. `state`: `[B, features]` each."""
        time_steps, batch, inputs = x.shape
        dtype, features = x.dtype, self.features
        out = torch.empty(time_steps, batch, features, dtype=dtype)
        finals: State = ()
        with self._lock:
            words = self._words
            sizes = (time_steps, batch, limit, batch * inputs, inputs)
            if sizes != self._sizes:
                self._sizes = sizes
                for place, value in zip(self._sizes_at, sizes, strict=True):
                    words[place] = value
            x_at, out_at = self._tensors_at
            words[x_at], words[out_at] = x.data_ptr(), out.data_ptr()
            start_at, final_at = self._flags_at
            words[start_at], words[final_at] = bool(state), want_state
            if state:
                state = [
                    each
                    if each.dtype == dtype and each.is_contiguous()
                    else each.to(dtype).contiguous()
                    for each in state
                ]
                for place, each in zip(self._start_at, state, strict=True):
                    words[place] = each.data_ptr()
            if want_state:
                finals = tuple([torch.empty(batch, features, dtype=dtype) for _ in self._final_at])
                for place, each in zip(self._final_at, finals, strict=True):
                    words[place] = each.data_ptr()
            self.kernel.run(self._words_at, 0, batch, self._scratch_at)
            counts = self._counts[: time_steps * batch].tolist()
        return out, finals, counts
