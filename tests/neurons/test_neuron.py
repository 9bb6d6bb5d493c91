"""The base class: what a neuron of one's own gets, and what every neuron answers."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.neurons import GLIF, IF, LIF, PLIF, ATan, Neuron, Sigmoid


class Mine(sl.Neuron):  # as in the README
    states = ("v",)

    def __init__(self, channels):
        super().__init__()
        self.leak = torch.nn.Parameter(torch.zeros(channels))

    def coefs(self):
        return {"k": self.leak.sigmoid()}

    def step(self, x, v, *, k):
        h = v + (x - v) * k
        s = self.surrogate(h - 1.0)
        return s, h * (1 - s)


@pytest.mark.kernels
def test_a_neuron_of_ones_own_compiles_with_gradients() -> None:
    x = torch.randn(7, 3, 6, 40, generator=torch.Generator().manual_seed(1)) * 2 + 0.5
    found = []
    for backend in ("cpu", "eager"):
        neuron = Mine(6)
        neuron.backend = backend
        with torch.no_grad():
            neuron.leak.copy_(torch.linspace(-2, 2, 6))
        leaf = x.clone().requires_grad_()
        spikes = neuron(leaf)
        (spikes * x).sum().backward()
        found.append((spikes.detach(), leaf.grad, neuron.leak.grad))
    assert torch.equal(found[0][0], found[1][0])
    for actual, expected in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert found[0][2].shape == (6,) and bool((found[0][2] != 0).all())
    assert Mine(6).choice(x.device, x.dtype).backend == "cpu"


def test_forward_and_run_agree() -> None:
    neuron = PLIF(3.0)
    x = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(2)) + 1
    start = (torch.full((3, 5), 0.5),)
    spikes = neuron(x)
    assert spikes.shape == x.shape and spikes.dtype == x.dtype
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(neuron.run(x).spikes, spikes)
    with_state, state = neuron(x, start)
    run = neuron.run(x, start, record=("h",))
    assert torch.equal(run.spikes, with_state) and torch.equal(run.state[0], state[0])
    assert list(run.records) == ["h"] and run.records["h"].shape == x.shape
    hooked = neuron(x, start, ("h",))
    assert torch.equal(hooked.records["h"], run.records["h"])
    assert torch.equal(neuron(x, neuron.initial_state(x))[0], spikes)


@pytest.mark.parametrize(
    ("dtype", "state_dtype"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_the_state_at_rest(dtype: torch.dtype, state_dtype: torch.dtype) -> None:
    (v,) = LIF(v_reset=-0.5).initial_state(torch.zeros(4, 2, 3, dtype=dtype))
    assert v.shape == (2, 3) and v.dtype == state_dtype
    assert v.unique().tolist() == [-0.5]
    (v,) = IF(v_reset=None).initial_state(torch.zeros(4, 2, 3))
    assert v.unique().tolist() == [0.0]


def test_nothing_is_remembered_between_calls() -> None:
    neuron = LIF()
    x = torch.full((3, 1, 2), 1.2)
    assert torch.equal(neuron(x), neuron(x))
    assert LIF().state_dict() == {}
    assert list(PLIF().state_dict()) == ["w"]
    assert list(Mine(3).state_dict()) == ["leak"]


def test_copies_and_pickles_work_alike() -> None:
    x = torch.randn(7, 3, 6, generator=torch.Generator().manual_seed(3)) + 1
    neuron = PLIF(shape=(6,), surrogate=ATan(learnable=True))
    with torch.no_grad():
        neuron.w.copy_(torch.linspace(-2, 2, 6))
    expected = neuron(x).detach()
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron)), copy.copy(neuron)):
        assert torch.equal(other(x), expected)
    deep = copy.deepcopy(neuron)
    with torch.no_grad():
        deep.w.fill_(5.0)
    assert torch.equal(neuron(x), expected)
    fresh = PLIF(shape=(6,), surrogate=ATan(learnable=True))
    fresh.load_state_dict(neuron.state_dict())
    assert torch.equal(fresh(x), expected)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda n: n(torch.zeros(3)), ValueError, r"input of shape \[3\]: expected \[T, B, ...\]"),
        (
            lambda n: n(torch.zeros(3, 2, dtype=torch.int64)),
            TypeError,
            r"LIF got an input of torch\.int64: expected floats, use x\.float\(\)",
        ),
        (
            lambda n: n.run(torch.zeros(3, 2), record=("w",)),
            ValueError,
            "LIF has no 'w' to record: it has v, h",
        ),
        (
            lambda n: n(torch.zeros(3, 2, 5), (torch.zeros(2),)),
            ValueError,
            r"shapes \[\[2\]\]: expected one tensor of shape \[2, 5\] for each of v",
        ),
        (
            lambda n: n(torch.zeros(3, 2), (torch.zeros(2), torch.zeros(2))),
            ValueError,
            r"shapes \[\[2\], \[2\]\]: expected one tensor of shape \[2\] for each of v",
        ),
        (
            lambda n: n(torch.zeros(3, 2, dtype=torch.complex64)),
            TypeError,
            r"LIF got an input of torch\.complex64",
        ),
    ],
)
def test_wrong_input_is_named(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(LIF())


class Unfinished(Neuron):
    states = ("i", "v")


def test_a_neuron_without_a_step_says_what_to_write() -> None:
    neuron = Unfinished()
    neuron.backend = "eager"
    with pytest.raises(TypeError, match=r"Unfinished must override step\(x, i, v\)"):
        neuron(torch.zeros(2, 3))


def test_settings_are_shown() -> None:
    shown = repr(LIF(3.0, v_reset=None))
    assert "v_threshold=1.0, v_reset=None, detach_reset=True, tau=3.0" in shown
    assert "ATan(alpha=2)" in shown


class Windowed(Neuron):
    """Closes over constants of every sort that an attribute can be."""

    def __init__(self, window=(0.5, 1.5), gains=None, offset=0.0, shape=torch.tanh, gate=None):
        super().__init__()
        self.window = window
        self.gains = gains or [1.0, {"late": 1.0}]
        self._offset = offset
        self.shape = shape
        self.gate = gate or Sigmoid(2.0, spiking=False)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        low, high = self.window
        early, late = self.gains
        h = (v + x * early).clamp(low - 2, high) * late["late"] + self._offset
        s = self.surrogate(self.shape(h) - 0.5)
        return s, h * (1 - s) * self.gate(h)


@pytest.mark.kernels
@pytest.mark.parametrize(
    "change",
    [
        {"window": (0.5, 0.6)},
        {"gains": [0.5, {"late": 1.0}]},
        {"gains": [1.0, {"late": 0.5}]},
        {"offset": 0.25},
        {"shape": torch.sin},
        {"gate": Sigmoid(8.0, spiking=False)},
    ],
)
def test_every_constant_that_a_step_reads_makes_its_own_kernel(change: dict) -> None:
    """Two neurons of one class must not share a kernel unless they compute the same."""
    device = torch.device("cpu")
    plain, changed = Windowed(), Windowed(**change)
    program = plain.choice(device, torch.float32).program
    assert program is not None
    assert Windowed().choice(device, torch.float32).program == program
    assert changed.choice(device, torch.float32).program != program


@pytest.mark.kernels
def test_a_list_changed_later_is_seen() -> None:
    neuron = Windowed()
    device = torch.device("cpu")
    before = neuron.choice(device, torch.float32).program
    neuron.gains[0] = 0.125
    assert neuron.choice(device, torch.float32).program != before


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize(("time_wise", "pieces"), [(True, [1, 5]), (False, [2, 2, 2])])
def test_constants_per_step_follow_the_clock_of_the_state(backend, time_wise, pieces):
    torch.manual_seed(0)
    neuron = GLIF(3, 6, gate="random", time_wise=time_wise, backend=backend)
    for raw in neuron.parameters():
        raw.data.uniform_(-1, 1)
    x = torch.rand(6, 2, 3, requires_grad=True)
    whole = neuron(x)
    whole.sum().backward()
    expected, x.grad = x.grad, None
    parts, state = [], None
    for piece in x.split(pieces):
        spikes, state = neuron(piece, state)
        parts.append(spikes)
    torch.cat(parts).sum().backward()
    assert torch.equal(torch.cat(parts), whole) and whole.sum() > 0
    assert torch.allclose(x.grad, expected)
    with pytest.raises(ValueError, match="1 more after 6"):
        neuron(x[:1].detach(), state)


def test_none_is_a_state():
    neuron = LIF()
    x = torch.rand(4, 2, 3)
    (spikes, state), (same, _) = neuron(x, None), neuron(x, neuron.initial_state(x))
    assert torch.equal(spikes, same) and state[0].shape == (2, 3)
    assert isinstance(neuron(x), torch.Tensor)


class Odd(Neuron):
    """`answer` makes something of the spikes and the potential."""

    def __init__(self, answer, coefs=None) -> None:
        super().__init__()
        self.answer, self._coefs = answer, coefs or {}

    def coefs(self) -> dict:
        return self._coefs

    def step(self, x: Tensor, v: Tensor, **coefs: Tensor):
        h = v * 0.5 + x
        return self.answer(self.surrogate(h - 1), h)


@pytest.mark.filterwarnings("ignore:a neuron runs eagerly")
@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda s, h: s, r"returned a Tensor: expected 2, \(spikes, v\)"),
        (lambda s, h: (s, h, h), r"returned 3 values: expected 2, \(spikes, v\)"),
        (lambda s, h: (s, 0.0), "returned a float for v: expected a tensor in the shape of x"),
        (lambda s, h: None, "returned a NoneType: expected 2"),
    ],
)
def test_a_step_that_answers_something_else_is_told(backend: str, answer, said: str):
    neuron = Odd(answer)
    neuron.backend = backend
    with pytest.raises((TypeError, ValueError), match=f"step of Odd {said}"):
        neuron(torch.rand(4, 2, 3))


def test_states_and_coefs_that_are_no_tuples_and_tensors_are_told():
    x = torch.rand(4, 2, 3)
    with pytest.raises(TypeError, match="LIF got a tensor as its state: expected a tuple"):
        LIF()(x, torch.zeros(2, 3))
    with pytest.raises(TypeError, match="state 0 of LIF is a float: expected a tensor"):
        LIF()(x, (0.0,))
    with pytest.raises(TypeError, match=r"coefs\(\)\['k'\] of Odd is a float: expected a tensor"):
        Odd(lambda s, h: (s, h), {"k": 0.5})(x)
