"""Compiled kernels against float64 on the CPU: spikes, and the gradients of the input and of every
constant.

Two passes. The first compares spikes: rounding may carry a potential over the threshold, and from
there on that neuron goes another way, so a small share may differ. The second gives a gradient to
the neurons that agree and none to the others: all its sums must then agree up to rounding.

`spikeloom doctor --kernels` runs all of `cases`.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from spikeloom.neurons import (
    GLIF,
    IF,
    LIF,
    PLIF,
    AdLIF,
    CuLIF,
    FastSigmoid,
    Gaussian,
    Neuron,
    PCuLIF,
    Rectangle,
    Sigmoid,
    Triangle,
)

Layout = Literal["contiguous", "channels_last", "constant"]
Row = dict[str, object]

NEURONS: dict[str, Callable[[int], Neuron]] = {
    "IF": lambda channels: IF(),
    "LIF": lambda channels: LIF(),
    "LIF SuperSpike": lambda channels: LIF(surrogate=FastSigmoid(1.0)),
    "PLIF": lambda channels: PLIF(),
    "PLIF per channel": lambda channels: PLIF(shape=(channels,)),
    "GLIF": lambda channels: GLIF(channels),
    "CuLIF": lambda channels: CuLIF(5.0, 5.0),
    "AdLIF": lambda channels: AdLIF(5.0, shape=(channels,)),
}
"""Each neuron by name, made for a number of channels. SuperSpike is the surrogate that other
libraries have, too."""

VARIANTS: dict[str, Callable[[int], Neuron]] = NEURONS | {
    "PCuLIF": lambda channels: PCuLIF(5.0, 5.0, shape=(channels,)),
    "LIF soft reset": lambda channels: LIF(v_reset=None, surrogate=Sigmoid()),
    "LIF reset with gradient": lambda channels: LIF(detach_reset=False, surrogate=Gaussian()),
    "PLIF undecayed": lambda channels: PLIF(decay_input=False, surrogate=Triangle()),
    "PLIF rectangle": lambda channels: PLIF(surrogate=Rectangle()),
}
"""`NEURONS`, and every reset, surrogate and input rule once."""

SHAPES = ((1, 3, 5), (5, 3, 7, 5, 5), (33, 2, 64, 9, 9), (100, 16, 130))
"""`[T, B, C, ...]`: one step, odd sizes, rows of 81, and long."""

SMALL_SHAPES = ((1, 3, 5), (5, 3, 7, 5, 5), (33, 2, 9))

OTHERWISE = ("LIF", "PLIF", "PLIF per channel", "GLIF", "AdLIF")

DIFFERING = 2e-4
"""Share of the neurons whose spikes may differ somewhere in T: those within rounding of the
threshold."""

ROUNDING = {"float32": 2e-5, "bfloat16": 1e-2, "float16": 2e-3}
"""Largest error of a gradient, in units of its largest value. Gradients of constants are sums in
float32 or better whatever the dtype of the input, but a half-precision gradient of the input is
rounded to it."""


DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Case:
    """One thing to be compared, or measured. `subject`: a key of `VARIANTS`, or of its `family`;
    `shape`: `[T, B, ...]`.
    """

    family: str
    subject: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: Layout = "contiguous"
    device: str = "cpu"

    def input(self) -> Tensor:
        """A current of which about a fifth makes a PLIF with tau 2 fire."""
        x = self._normal(7) * 1.5
        return x[0].expand(self.shape) if self.layout == "constant" else x

    def gradient(self) -> Tensor:
        """What comes from above: normal values in the shape, dtype and layout of the spikes."""
        return self._normal(8)

    def _normal(self, seed: int) -> Tensor:
        # drawn where it is used: the tensors of a GPU would take a CPU minutes
        generator = torch.Generator(self.device).manual_seed(seed)
        x = torch.randn(self.shape, generator=generator, device=self.device)
        x = x.to(DTYPES[self.dtype])
        if self.layout == "channels_last" and x.dim() == 5:
            x = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        return x

    def with_shape(self, shape: tuple[int, ...]) -> "Case":
        return replace(self, shape=shape)

    def columns(self) -> dict[str, object]:
        """What names the case in a row."""
        return {
            "family": self.family,
            "subject": self.subject,
            "shape": "x".join(map(str, self.shape)),
            "dtype": self.dtype,
            "layout": self.layout,
            "device": torch.device(self.device).type,
        }


def cases(device: str, small: bool = False) -> Iterator[Case]:
    """Every variant on every shape; half precision, channels-last and constant currents on one,
    for the neurons named in `OTHERWISE`.
    """
    shapes = SMALL_SHAPES if small else SHAPES
    for name in VARIANTS:
        for shape in shapes:
            yield Case("agreement", name, shape, device=device)
    for name in OTHERWISE:
        yield Case("agreement", name, shapes[1], "bfloat16", device=device)
        yield Case("agreement", name, shapes[1], "float16", device=device)
        yield Case("agreement", name, shapes[1], layout="channels_last", device=device)
        yield Case("agreement", name, shapes[1], layout="constant", device=device)


def compare(case: Case, backend: str = "auto") -> Row:
    """A row: the share of neurons with other spikes, the largest error of a gradient, and in `note`
    what is wrong, if anything is.
    """
    torch.manual_seed(3)
    neuron = VARIANTS[case.subject](case.shape[2])
    x, g = case.input(), case.gradient()
    ours = with_backend(neuron, backend).to(case.device)
    exact = copy.deepcopy(with_backend(neuron, "eager")).double()
    row = case.columns() | {"contender": "spikeloom"}
    choice = ours.choice(x.device, DTYPES[case.dtype])
    row |= {"backend": choice.backend, "reference": "eager, float64, cpu"}
    if choice.backend == "eager":
        return row | {"note": f"absent: {choice.reason}"}
    try:
        spikes, _ = _run(ours, x, g)
        exact_spikes, _ = _run(exact, x, g.double().cpu())
        same = (spikes.double().cpu() == exact_spikes).all(0)
        _, got = _run(ours, x, g * same.to(g))
        _, want = _run(exact, x, g.double().cpu() * same)
    except Exception as error:  # the other cases are still compared
        first = (str(error).splitlines() or [""])[0]
        return row | {"note": f"wrong: {type(error).__name__}: {first[:160]}"}
    differing = 1 - same.double().mean().item()
    errors = {name: _error(got[name], want[name]) for name in want}
    worst = max(errors, key=lambda name: errors[name])
    limit = ROUNDING[case.dtype]
    problems = []
    # in a layer of a hundred neurons one is more than the share allows
    if differing * same.numel() > max(1.0, DIFFERING * same.numel()):
        problems.append(f"{differing:.2%} of the neurons have other spikes")
    if not errors[worst] <= limit:
        problems.append(f"the gradient of {worst} is off by {errors[worst]:.1e} of its largest")
    return row | {
        "neurons": same.numel(),
        "other_spikes": f"{differing:.1e}",
        "gradient_error": f"{errors[worst]:.1e}",
        "worst": worst,
        "note": f"wrong: {'; '.join(problems)}" if problems else "",
    }


def with_backend(neuron: Neuron, backend: Any) -> Neuron:
    """A copy of `neuron` that runs on `backend`."""
    other = copy.deepcopy(neuron)
    other.backend = backend
    return other


def _run(neuron: Neuron, x: Tensor, g: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Spikes and gradients, in the dtype and on the device of the gradient `g`."""
    base = x[0] if x.stride(0) == 0 else x  # a constant current stays one
    leaf = base.detach().to(g).clone().requires_grad_()
    leaves = {"x": leaf} | dict(neuron.named_parameters())
    neuron.zero_grad(set_to_none=True)
    spikes = neuron(leaf.expand(x.shape))
    if spikes.requires_grad:  # in one step a current may not come as far as the spikes
        spikes.backward(g)
    gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
        for name, value in leaves.items()
    }
    return spikes.detach(), gradients


def _error(got: Tensor, want: Tensor) -> float:
    largest = want.abs().max().item()
    error = (got.double().cpu() - want).abs().max().item()
    return error / largest if largest else error
