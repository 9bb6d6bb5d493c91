"""`Linear(N, N)` and a layer of LIF: the benchmark that open-neuromorphic published, corrected.

One matrix product for all time steps, then the neurons; batch 16, no bias, an input without
gradient, a random gradient from above. What is corrected: everybody computes the same neuron on the
same weights, and spikes and gradients are checked; the device is waited for; the first axis is time
for everybody, and everybody walks through it; the row states the precision of the matrix product;
the linear layer alone is a line of its own, and a library's neurons alone are a column; peak memory
is reset before it is read.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.cases import NEURONS, Case
from benchmarks.contenders import half_state, networks, version
from benchmarks.neurons import both
from benchmarks.peers import Network
from benchmarks.runner import Contender, Results, Row, Times, Tolerance, Trial
from benchmarks.timing import Run
from spikeloom.analysis.agreement import with_backend
from spikeloom.run.device import keep_freed_memory

MATMUL = {"float32": "float32, highest", "tf32": "float32, high (TF32)", "bfloat16": "bfloat16"}
"""The matrix product of a case's dtype: PyTorch's float32 matmul precision, or autocast."""

TOLERANCE = Tolerance(spikes=1e-4, gradients=1e-2, elementwise=False)
"""Against float64: rounding of the product carries a few neurons over the threshold, and the
gradient of their weights with them."""

COMPILED_STEPS = 4
"""torch.compile unrolls time: with more steps its compilation takes minutes."""


class Stack(nn.Module):
    """The linear layer, then a network on its currents `[T, B, N]`; or the layer alone."""

    def __init__(self, layer: nn.Linear, network: Network | None, dtype: str) -> None:
        super().__init__()
        self.layer = layer
        self.network = network
        self.autocast = dtype == "bfloat16"

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            current = self.layer(x)
            return current if self.network is None else self.network(current)


def trial(case: Case, compile_eager: bool = False, backend: str = "auto") -> Trial:
    """Who competes: as for neurons alone; the linear layer without neurons is the floor."""
    keep_freed_memory()
    steps, _, size = case.shape
    generator = torch.Generator(case.device).manual_seed(7)
    made = {"generator": generator, "device": case.device}
    x, g = (torch.randn(case.shape, **made) for _ in range(2))
    layer = nn.Linear(size, size, bias=False, device=case.device)
    with torch.no_grad():  # currents of the same size as in the other families
        layer.weight.copy_(torch.randn(size, size, **made) * (1.5 / size**0.5))
    neuron = NEURONS[case.subject](size).to(case.device)
    half = torch.bfloat16 if case.dtype == "bfloat16" else torch.float32
    found = networks(neuron, x[:1, :1].to(half), False, backend)
    stacks = {name: Stack(layer, one, case.dtype) for name, one in found.by_name.items()}
    if compile_eager and steps <= COMPILED_STEPS:
        whole = Stack(layer, with_backend(neuron, "eager"), case.dtype)
        stacks["torch.compile"] = torch.compile(whole, dynamic=False)  # type: ignore[assignment]
        found.about["torch.compile"] = {"version": version("torch")}
    elif compile_eager:
        found.absent["torch.compile"] = f"unrolls {steps} time steps: minutes of compilation"

    def expected() -> Results:
        if case.dtype != "float32":
            return _results(stacks["eager"], layer, x, g, case.dtype)
        exact = copy.deepcopy(layer).double()
        stack = Stack(exact, with_backend(neuron, "eager").double(), case.dtype)
        return _results(stack, exact, x.double(), g.double(), case.dtype)

    with torch.no_grad(), _matmul(case.dtype):
        current = Stack(layer, None, case.dtype)(x)

    def alone(name: str) -> dict[str, Run]:
        """The neurons on the currents that the layer gives them."""
        network = found.by_name.get(name)
        return {} if network is None else {"neurons": both(network, current, g.to(half))}

    variants: dict[str, Callable[[], Results]] = {}
    if case.dtype == "bfloat16":
        low = Stack(layer, partial(half_state, neuron), case.dtype)
        words = f"its state is {case.dtype}, and it agrees with that loop"
        variants[words] = partial(_results, low, layer, x, g, case.dtype)
    return Trial(
        columns=case.columns() | {"matmul": MATMUL[case.dtype]},
        contenders=[
            Contender("linear only", _runs(Stack(layer, None, case.dtype), layer, x, g, case)),
            *(
                Contender(
                    name,
                    alone(name) | _runs(stack, layer, x, g, case),
                    partial(_results, stack, layer, x, g, case.dtype),
                    found.about.get(name, {}),
                )
                for name, stack in stacks.items()
            ),
        ],
        reference="eager, float64" if case.dtype == "float32" else f"eager, {case.dtype}",
        expected=expected,
        figures=_figures,
        tolerance=TOLERANCE,
        absent=found.absent,
        device=case.device,
        variants=variants,
    )


def _figures(name: str, times: Times) -> Row:
    forward, training = times[name]["forward"], times[name]["training"]
    floor, alone = times["linear only"]["training"].best, times[name].get("neurons")
    return {
        "forward_ms": round(forward.best * 1000, 3),
        "training_ms": round(training.best * 1000, 3),
        "training_median_ms": round(training.median * 1000, 3),
        "neurons_ms": round(alone.best * 1000, 3) if alone else "",
        "times_linear": round(training.best / floor, 3),
    }


@contextmanager
def _matmul(dtype: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _results(stack: nn.Module, layer: nn.Linear, x: Tensor, g: Tensor, dtype: str) -> Results:
    layer.weight.grad = None
    with _matmul(dtype):
        spikes = stack(x)
        spikes.backward(g.to(spikes.dtype))
    gradient, layer.weight.grad = layer.weight.grad, None
    assert gradient is not None
    return Results(spikes.detach(), {"weight": gradient})


def _runs(stack: nn.Module, layer: nn.Linear, x: Tensor, g: Tensor, case: Case) -> dict[str, Run]:
    def forward() -> None:
        with torch.no_grad(), _matmul(case.dtype):
            stack(x)

    upstream = {g.dtype: g}

    def training() -> None:
        layer.weight.grad = None
        with _matmul(case.dtype):
            output = stack(x)
            if output.dtype not in upstream:
                upstream[output.dtype] = g.to(output.dtype)
            output.backward(upstream[output.dtype])

    return {"forward": forward, "training": training}
