"""The key of a compiled step is what the step read: change any of it, and the result is that of
the eager step; change anything else, and nothing is traced again."""

import copy
import enum
import gc
import os
import pickle
import random
import types
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.compiler import dispatch
from spikeloom.errors import StepError

THRESHOLD = 0.5
LEVELS = [0.5]
settings = types.ModuleType("settings")
settings.threshold = 0.5  # type: ignore[attr-defined]


class Mode(enum.Enum):
    LOW = 0.3
    HIGH = 0.9


@dataclass(frozen=True)
class Frozen:
    threshold: float

    def half(self) -> float:
        return self.threshold / 2


class Base(sl.Neuron):
    """Fires where h reaches what `theta()` says."""

    value: Any = 0.5

    def __init_subclass__(cls) -> None:
        cls.__name__ = "Base"  # a kernel carries the name: like this, equal steps share one

    def theta(self) -> float:
        return self.value

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v * 0.5 + x
        s = self.surrogate(h - self.theta())
        return s, h * (1 - s)


class OfClass(Base):
    value = 0.5


class OfGlobal(Base):
    def theta(self) -> float:
        return THRESHOLD


class OfModule(Base):
    def theta(self) -> float:
        return settings.threshold


class OfList(Base):
    def theta(self) -> float:
        return LEVELS[0]


class OfProperty(Base):
    @property
    def inner(self) -> float:
        return self.value * 2

    def theta(self) -> float:
        return self.inner


class OfParent(OfGlobal):
    def theta(self) -> float:
        return super().theta()


class OfMode(Base):
    def theta(self) -> float:
        return self.value.value


class OfHalf(Base):
    def theta(self) -> float:
        return self.value.half()


class OfKey(Base):
    def theta(self) -> float:
        return self.value["theta"]


class OfKind(Base):
    value = 0.5

    def theta(self) -> float:
        return type(self).value


class Settings:
    theta = 0.5

    class Inner:
        theta = 0.5


class OfInnerClass(Base):
    def theta(self) -> float:
        return Settings.Inner.theta


class OfAlias(Base):
    def theta(self) -> float:
        settings = Settings
        return settings.theta


@dataclass(frozen=True)
class Gained:
    gain = 1.0

    def half(self) -> float:
        return 0.5 * self.gain * THRESHOLD / THRESHOLD


class OfItem(Base):
    def theta(self) -> float:
        return self.value[0].half()


@dataclass(frozen=True)
class Scaled:
    def half(self) -> float:
        return THRESHOLD


@dataclass(frozen=True)
class Propertied:
    @property
    def level(self) -> float:
        return THRESHOLD

    def half(self) -> float:
        return self.level


Propertied.USUAL = Propertied()  # type: ignore[attr-defined]


def noted() -> float:
    return noted.theta  # type: ignore[attr-defined]


noted.theta = 0.5  # type: ignore[attr-defined]


class OfFunctionsAttribute(Base):
    def theta(self) -> float:
        return noted()


class OfFunction(Base):
    def theta(self) -> float:
        return self.value()


class OfDefault(Base):
    def theta(self, value: float = 0.5) -> float:
        return value


def closing_over(value: float) -> tuple[Base, Callable[[float], None]]:
    def change(new: float) -> None:
        nonlocal value
        value = new

    class OfClosure(Base):
        def theta(self) -> float:
            return value

    return OfClosure(), change


X = torch.rand(8, 4, 32, generator=torch.Generator().manual_seed(0))


def agrees(neuron: Base) -> Tensor:
    """The spikes, checked against those of the eager step, with no word of running eagerly."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spikes = neuron(X)
    eager = copy.deepcopy(neuron)
    eager.backend = "eager"
    assert torch.equal(spikes, eager(X))
    return spikes


def _set(neuron: Base, value: Any) -> None:
    neuron.value = value


CHANGES: dict[str, tuple[Callable[[], Base], Callable[[Any], None]]] = {
    "attribute": (Base, lambda n: _set(n, 0.9)),
    "of the class": (OfClass, lambda n: setattr(OfClass, "value", 0.9)),
    "hidden by one of its own": (OfClass, lambda n: _set(n, 0.2)),
    "global": (OfGlobal, lambda n: globals().update(THRESHOLD=0.9)),
    "global of a parent's method": (OfParent, lambda n: globals().update(THRESHOLD=0.2)),
    "in another module": (OfModule, lambda n: setattr(settings, "threshold", 0.9)),
    "in a list": (OfList, lambda n: LEVELS.__setitem__(0, 0.9)),
    "behind a property": (OfProperty, lambda n: _set(n, 0.3)),
    "strictness of the surrogate": (
        lambda: _with(Base(), value=float(X[0, 0, 0])),
        lambda n: setattr(n.surrogate, "strict", True),
    ),
    "enum": (lambda: _with(OfMode(), value=Mode.LOW), lambda n: _set(n, Mode.HIGH)),
    "frozen dataclass": (
        lambda: _with(OfHalf(), value=Frozen(1.0)),
        lambda n: _set(n, Frozen(1.8)),
    ),
    "item of a dict": (
        lambda: _with(OfKey(), value={"theta": 0.5}),
        lambda n: n.value.update(theta=0.9),
    ),
    "type(self) of the class": (OfKind, lambda n: setattr(OfKind, "value", 0.9)),
    "class in a class of a global": (
        OfInnerClass,
        lambda n: setattr(Settings.Inner, "theta", 0.9),
    ),
    "class of a global by another name": (OfAlias, lambda n: setattr(Settings, "theta", 0.9)),
    "class of a frozen dataclass": (
        lambda: _with(OfHalf(), value=Gained()),
        lambda n: setattr(Gained, "gain", 1.8),
    ),
    "global of an item's method": (
        lambda: _with(OfItem(), value=(Scaled(),)),
        lambda n: globals().update(THRESHOLD=0.7),
    ),
    "class of an item": (
        lambda: _with(OfItem(), value=(Gained(),)),
        lambda n: setattr(Gained, "gain", 0.6),
    ),
    "global of an item's property": (
        lambda: _with(OfItem(), value=(Propertied(),)),
        lambda n: globals().update(THRESHOLD=0.4),
    ),
    "attribute of a function": (OfFunctionsAttribute, lambda n: setattr(noted, "theta", 0.9)),
    "function": (
        lambda: _with(OfFunction(), value=lambda: 0.5),
        lambda n: _set(n, lambda: 0.9),
    ),
    "default of an argument": (
        OfDefault,
        lambda n: setattr(OfDefault.theta, "__defaults__", (0.9,)),
    ),
}


def _with(neuron: Base, value: Any) -> Base:
    neuron.value = value
    return neuron


@pytest.mark.parametrize("case", CHANGES)
def test_a_value_that_changes_is_another_kernel(case: str) -> None:
    make, change = CHANGES[case]
    neuron = make()
    before = agrees(neuron)
    change(neuron)
    assert not torch.equal(agrees(neuron), before)
    agrees(make() if "of" in case else copy.deepcopy(neuron))


def test_a_variable_around_the_step() -> None:
    neuron, change = closing_over(0.5)
    other, _ = closing_over(0.9)
    neuron.backend = other.backend = "cpu"
    before = neuron(X)
    assert torch.equal(before, _with(Base(), 0.5)(X))
    assert torch.equal(other(X), _with(Base(), 0.9)(X))
    change(0.9)
    assert torch.equal(neuron(X), other(X))


def test_a_step_that_is_edited() -> None:
    """As a notebook reloads it: another function, or other code in the same one."""

    class Edited(Base):
        def theta(self) -> float:
            return 0.5

    def other(self: Edited) -> float:
        return 0.9

    neuron = Edited()
    before = agrees(neuron)
    Edited.theta.__code__ = other.__code__
    assert not torch.equal(agrees(neuron), before)
    Edited.theta = lambda self: 0.5  # type: ignore[method-assign]
    assert torch.equal(agrees(neuron), before)
    neuron.theta = lambda: 0.9  # type: ignore[method-assign]
    assert not torch.equal(agrees(neuron), before)


def test_values_that_python_calls_equal_are_told_apart() -> None:
    class Sign(Base):
        def theta(self) -> float:
            return 0.5 if str(self.value) == "0.0" else 0.9

    for value in (0.0, -0.0, False, 0):
        agrees(_with(Sign(), value))


@dataclass
class Loose:
    threshold: float


class OfObject(Base):
    def theta(self) -> float:
        return self.value.threshold


def test_many_objects_that_come_and_go() -> None:
    results = set()
    for value in (1.0, 1.8, 0.6) * 5:
        neuron = _with(OfHalf(), Frozen(value))
        results.add(float(agrees(neuron).sum()))
        del neuron
        gc.collect()
    assert len(results) == 3


TABLE = torch.tensor(0.5)
NOTES: list[float] = []


class ReadsTensor(Base):
    def theta(self) -> Any:
        return TABLE


class ReadsItem(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.tensor(0.5))

    def theta(self) -> float:
        return float(self.level)


class ReadsNested(Base):
    def theta(self) -> Any:
        return self.value["theta"]


class ReadsBuffers(ReadsItem):
    def theta(self) -> Any:
        return self._buffers["level"]


class ReadsDict(Base):
    def theta(self) -> float:
        return self.__dict__["value"]


class ReadsVariable(Base):
    def theta(self) -> float:
        return float(os.environ.get("THETA", "0.5"))


class ReadsGlobals(Base):
    def theta(self) -> float:
        return globals()["THRESHOLD"]


class ReadsShape(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(x * 32 / x.shape[-1], v)


class Draws(Base):
    def theta(self) -> float:
        return random.random()


class Stores(Base):
    def theta(self) -> float:
        self.seen = 1
        return 0.5


class Appends(Base):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[float] = []

    def theta(self) -> float:
        self.notes.append(0.5)
        return 0.5


class AppendsOutside(Base):
    def theta(self) -> float:
        NOTES.append(0.5)
        return 0.5


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: _with(OfObject(), Loose(0.5)), r"reads self\.value, a Loose, .* plain number"),
        (ReadsTensor, r"reads TABLE directly.* coefs\(\)"),
        (ReadsItem, r"reads self\.level directly.* coefs\(\)"),
        (lambda: _with(ReadsNested(), {"theta": torch.tensor(0.5)}), r"reads self\.value, a dict"),
        (ReadsBuffers, r"a tensor of its own directly.* coefs\(\)"),
        (lambda: _with(ReadsDict(), 0.5), r"reads self\.__dict__: name the attribute"),
        (ReadsVariable, "reads os: what it answers differs"),
        (ReadsGlobals, r"reads globals\(\)"),
        (ReadsShape, "computes with the shape of its input"),
        (Draws, "reads random: what it answers differs"),
        (Stores, r"stores self\.seen"),
        (Appends, r"changes self\.notes in place"),
        (AppendsOutside, "changes NOTES in place"),
    ],
)
def test_what_has_no_value_is_refused_by_name(make: Callable[[], Base], text: str) -> None:
    neuron = make()
    neuron.backend = "cpu"
    with pytest.raises(StepError, match=text):
        neuron(X)
    assert not vars(neuron).get("notes") and not NOTES and "seen" not in vars(neuron)
    neuron.backend = "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert neuron(X).sum() > 0
    NOTES.clear()


def test_an_object_changed_in_place_is_never_a_stale_kernel() -> None:
    neuron = _with(OfObject(), Loose(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = neuron(X)
        neuron.value.threshold = 0.9
        assert torch.equal(neuron(X), _with(Base(), 0.9)(X))
    assert not torch.equal(neuron(X), before)


def test_what_the_step_does_not_read_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = Base()
    agrees(neuron)
    traces = []
    monkeypatch.setattr(dispatch, "_in_quiet", lambda work: traces.append(work))
    kept = []
    for number in range(5):
        neuron.calls = number
        neuron.info = {"spikes": neuron(X)}
        kept.append(weakref.ref(neuron.info["spikes"].untyped_storage()))
    neuron.info = None
    gc.collect()
    assert not traces
    assert not any(ref() is not None for ref in kept)


def test_nothing_keeps_a_neuron_or_its_class_alive() -> None:
    class Short(Base):
        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            s = self.surrogate(x + v - self.value)
            return s, v * (1 - s)

    neuron = Short()
    neuron(X)
    refs = weakref.ref(neuron), weakref.ref(Short)
    del neuron, Short
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_a_copy_and_a_pickle_carry_no_kernels() -> None:
    neuron = Base()
    agrees(neuron)
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        other.value = 0.9
        assert torch.equal(agrees(other), _with(Base(), 0.9)(X))


class Noisy(sl.Neuron):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v * 0.5 + x + 0.1 * torch.rand_like(x)
        s = self.surrogate(h - 0.7)
        return s, h * (1 - s)


def test_tracing_draws_no_random_number_of_the_caller() -> None:
    torch.manual_seed(3)
    expected = Noisy(backend="eager")(X)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(Noisy()(X), expected)


MODES: dict[str, Callable[[], Any]] = {
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no gradient": torch.no_grad,
    "inference": torch.inference_mode,
    "another device": lambda: torch.device("meta"),
}


@pytest.mark.kernels
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("mode", MODES)
def test_a_first_call_in_a_mode_leaves_a_kernel_behind(mode: str) -> None:
    class Fresh(Base):
        pass

    neuron = Fresh()
    x = X.clone().requires_grad_()
    with MODES[mode]():
        neuron(x)
    assert neuron.choice(torch.device("cpu"), torch.float32).backend == "cpu"
    agrees(neuron)


def test_a_failure_of_the_moment_is_not_kept() -> None:
    class Waits(Base):
        def theta(self) -> float:
            return self.late  # type: ignore[attr-defined]

    neuron = Waits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AttributeError):
            neuron(X)
    neuron.late = 0.5
    agrees(neuron)
