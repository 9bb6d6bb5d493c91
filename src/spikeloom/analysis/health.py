"""What is wrong with a network that does not learn: layers that are silent, fire always, or get no
gradient; one answer for everything; a loss that stands still.

A network of spiking neurons can be dead without an error: below the threshold no neuron fires, and
behind a layer that does not fire nothing is learned. Everything here is read off what an evaluation
and the last training step have shown anyway.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SATURATED = 0.98
"""Spikes per neuron and time step from which on a layer says nothing any more."""

FAINT = 1.0
"""Spikes of a whole layer per sample below which it says next to nothing."""

STILL = 1e-4
"""Relative change of the training loss from one epoch to the next that is none."""


_ADVICE = {
    "silent": "no neuron of {} fired for any test sample: what is behind learns nothing from it. "
    "Raise what comes in (gain of weights or BatchNorm, input scale, max instead of average "
    "pooling), lower v_threshold or tau, give more time steps, or lower optimizer.lr",
    "faint": "{} fire less than one spike a sample: next to nothing passes. Remedies as for silent "
    "layers",
    "saturated": "{} fire at nearly every time step, whatever the input is: lower what comes in "
    "(input scale, gain of weights, lr) or raise v_threshold",
    "without_gradient": "no gradient reached {}: the potentials behind are out of reach of the "
    "surrogate (a wider one, a lower v_threshold), a step compares without a surrogate, or "
    "something is detached or masked",
    "one_class": "every test sample is answered with class {}: the scores do not depend on the "
    "input (silent or saturated layers, too high an optimizer.lr)",
    "still": "the training loss did not change over the epoch: no gradient arrives, or "
    "optimizer.lr is far too low",
}


@dataclass(frozen=True)
class Health:
    """What is wrong, all empty for a network that is well.

    `silent`: layers without any spike for any test sample. `faint`: with less than one spike per
    sample. `saturated`: that fire at nearly every step. `without_gradient`: weights whose gradient
    was zero or missing in the last step of the epoch. `frozen`: parameters that are not trained,
    which nothing asked for, and which is no fault. `one_class`: the class that is answered for
    every sample. `still`: the training loss did not change over the epoch.
    """

    silent: tuple[str, ...] = ()
    faint: tuple[str, ...] = ()
    saturated: tuple[str, ...] = ()
    without_gradient: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    one_class: int | None = None
    still: bool = False

    def __bool__(self) -> bool:
        return bool(self.advice())

    def to_dict(self) -> dict[str, Any]:
        """What is wrong, as metrics.jsonl has it; empty if nothing is."""
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        return {key: v for key, v in values.items() if v != [] and v is not None and v is not False}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Health":
        """What `to_dict` gave; keys that are not known are left out."""
        known: dict[str, Any] = {k: values[k] for k in cls.__dataclass_fields__ if k in values}
        for key, value in known.items():
            known[key] = tuple(value) if isinstance(value, list) else value
        return cls(**known)

    def _named(self) -> dict[str, str]:
        """The layers or modules of each kind, in words."""
        kinds = {name: getattr(self, name) for name in ("silent", "faint", "saturated")}
        kinds["without_gradient"] = _modules(self.without_gradient)
        return {kind: _few(names) for kind, names in kinds.items() if names}

    def short(self) -> str:
        """In a few words, for the line of an epoch: "silent: conv.0, conv.4"."""
        named = self._named().items()
        parts = [f"{kind.replace('without_', 'no ')}: {names}" for kind, names in named]
        if self.one_class is not None:
            parts.append(f"answers class {self.one_class} for every sample")
        if self.still:
            parts.append("loss stands still")
        return "; ".join(parts)

    def advice(self) -> dict[str, str]:
        """A line for each thing that is wrong, by its name above: what was seen, what it means, the
        usual remedies."""
        named = self._named()
        if self.one_class is not None:
            named["one_class"] = str(self.one_class)
        if self.still:
            named["still"] = ""
        return {kind: _ADVICE[kind].format(names) for kind, names in named.items()}

    def remarks(self) -> dict[str, str]:
        """The same for what may well be meant."""
        if not self.frozen:
            return {}
        return {
            "frozen": f"{_few(_modules(self.frozen))}: not trained, requires_grad is false there"
        }


class News:
    """What is found epoch after epoch, as lines, each when it is new."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def lines(self, health: Health) -> list[str]:
        """A line for each thing that was not there in the epoch before."""
        kinds = {kind: f"warning: {line}" for kind, line in health.advice().items()}
        kinds |= {kind: f"note: {line}" for kind, line in health.remarks().items()}
        before, self._shown = self._shown, set(kinds)
        return [line for kind, line in kinds.items() if kind not in before]


def diagnose(
    network: "nn.Module",
    rates: Mapping[str, float],
    *,
    spikes: Mapping[str, float] | None = None,
    without_gradient: Sequence[str] = (),
    confusion: "Tensor | None" = None,
    losses: tuple[float | None, float] | None = None,
    frozen_on_purpose: Sequence[str] = (),
) -> Health:
    """What is wrong with `network`, from what was measured.

    Args:
        network: Whose parameters may be frozen.
        rates: Firing rates by layer (`FiringRates.per_layer()`).
        spikes: Spikes by layer and sample, where they are known.
        without_gradient: As `idle_parameters` gives them after a backward pass.
        confusion: `[label, prediction]` counts of test samples.
        losses: Of the epoch before (None for the first) and of this one.
        frozen_on_purpose: Patterns of the names of parameters that are not to learn.
    """
    silent = [layer for layer, rate in rates.items() if rate == 0]
    faint = [layer for layer, count in (spikes or {}).items() if 0 < count < FAINT]
    answered = [] if confusion is None else confusion.sum(0).nonzero().flatten().tolist()
    before, now = losses or (None, 0.0)
    return Health(
        silent=tuple(silent),
        faint=tuple(faint),
        saturated=tuple(layer for layer, rate in rates.items() if rate >= SATURATED),
        without_gradient=tuple(without_gradient),
        frozen=tuple(
            name
            for name, parameter in network.named_parameters()
            if not parameter.requires_grad
            and not any(fnmatchcase(name, pattern) for pattern in frozen_on_purpose)
        ),
        one_class=answered[0] if len(answered) == 1 else None,
        still=before is not None and abs(now - before) <= STILL * abs(before),
    )


def idle_parameters(network: "nn.Module") -> list[str]:
    """Trained weights whose gradient is missing or zero everywhere, after a backward pass.

    Weights are what connects neurons, with two axes or more. Constants (thresholds, gains, time
    constants) are left out: one that rests at a bound of its range has no gradient, and neither has
    a threshold that no potential has come to yet.
    """
    from spikeloom.analysis.rates import neuron_layers

    constants = {id(p) for layer in neuron_layers(network).values() for p in layer.parameters()}
    return [
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
        and parameter.dim() > 1
        and id(parameter) not in constants
        and (parameter.grad is None or not bool(parameter.grad.any()))
    ]


def _modules(parameters: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in parameters))


def _few(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
