"""Compiled neurons inside PyTorch's machinery: autograd, torch.func, torch.compile, operators'
contracts."""

import pytest
import torch
from agreement import assert_same_bits
from torch import Tensor
from zoo import POOL, random_values

import spikeloom as sl
from spikeloom.compiler import function
from spikeloom.neurons import PLIF, ATan

SHAPE = (5, 3, 4, 40)


def plif(backend: str = "cpu") -> PLIF:
    neuron = POOL["plif per channel"].make(SHAPE)
    neuron.backend = backend
    return neuron


def current(seed: int = 1) -> Tensor:
    return random_values(SHAPE, seed).float()


def test_a_second_derivative_is_refused_in_words() -> None:
    neuron, x = plif(), current().requires_grad_()
    (gx,) = torch.autograd.grad((neuron(x) * current(2)).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative: .* backend='eager'"):
        gx.square().sum().backward()


def test_create_graph_alone_changes_nothing() -> None:
    neuron, x = plif(), current().requires_grad_()
    loss = (neuron(x) * current(2)).sum()
    (plain,) = torch.autograd.grad(loss, x, retain_graph=True)
    (kept,) = torch.autograd.grad(loss, x, create_graph=True)
    assert torch.equal(plain, kept)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    x = current()
    neuron = plif()
    assert not neuron.requires_grad_(False)(x).requires_grad
    neuron.requires_grad_(True)
    neuron(x).sum().backward()
    frozen = plif().requires_grad_(False)
    leaf = x.clone().requires_grad_()
    frozen(leaf).sum().backward()
    both, both_leaf = plif(), x.clone().requires_grad_()
    both(both_leaf).sum().backward()
    assert frozen.w.grad is None
    torch.testing.assert_close(neuron.w.grad, both.w.grad, rtol=1e-6, atol=0)
    torch.testing.assert_close(leaf.grad, both_leaf.grad, rtol=1e-6, atol=0)


def test_no_grad_and_inference_mode() -> None:
    neuron, x = plif(), current()
    expected = neuron(x).detach()
    with torch.no_grad():
        assert torch.equal(neuron(x), expected)
    with torch.inference_mode():
        assert torch.equal(neuron(x), expected)


def test_a_state_alone_passes_gradients() -> None:
    """A loss on the final potential, none on the spikes."""
    found = []
    for backend in ("cpu", "eager"):
        neuron, x = plif(backend), current().requires_grad_()
        _, (v,) = neuron(x, neuron.initial_state(x))
        found.append(torch.autograd.grad(v.square().sum(), (x, neuron.w)))
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_two_halves_with_the_state_between_equal_the_whole() -> None:
    neuron, x = plif(), current().requires_grad_()
    g = current(3)
    whole = neuron(x)
    first, state = neuron(x[:2], neuron.initial_state(x))
    second, _ = neuron(x[2:], state)
    halves = torch.cat([first, second])
    assert_same_bits(halves.detach(), whole.detach(), "spikes")
    for a, b in zip(
        torch.autograd.grad((whole * g).sum(), (x, neuron.w)),
        torch.autograd.grad((halves * g).sum(), (x, neuron.w)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_one_tensor_as_two_coefs() -> None:
    class Twice(type(POOL["two states, learnable alpha"].make(SHAPE))):
        """The same parameter decays the current and leaks the potential; its gradient is the
        sum."""

        def coefs(self) -> dict[str, Tensor]:
            return super().coefs() | {"decay": self.leak}

    grads = []
    for backend in ("cpu", "eager"):
        neuron = Twice(SHAPE, backend=backend)
        neuron(current()).square().sum().backward()
        grads.append(neuron.leak.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-5)


# PyTorch warns of its own use of older parts of itself
old_parts = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning",
    "ignore:.*should not be instantiated:DeprecationWarning",
)


@old_parts
def test_torch_func_runs_eagerly_and_right() -> None:
    neuron, x = plif("auto"), current()

    def loss(value: Tensor) -> Tensor:
        return (neuron(value) * current(2)).sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected, rtol=1e-5, atol=1e-6)
    # one sample at a time: [T, ...] under vmap becomes [T, 1, ...]
    alone = torch.func.vmap(lambda s: neuron(s.unsqueeze(1)).squeeze(1), in_dims=1, out_dims=1)(x)
    assert torch.equal(alone, neuron(x))


@old_parts
def test_forward_mode_runs_eagerly_and_right() -> None:
    """A compiled step has no forward derivative: it would be silently zero."""
    neuron = PLIF(detach_reset=False, surrogate=ATan(learnable=True, spiking=False))
    x, direction, step = current().double(), current(4).double(), 1e-6
    neuron = neuron.double()
    _, tangent = torch.func.jvp(neuron, (x,), (direction,))
    with torch.no_grad():
        numeric = (neuron(x + step * direction) - neuron(x - step * direction)) / (2 * step)
    torch.testing.assert_close(tangent, numeric, rtol=1e-5, atol=1e-6)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, direction)
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(neuron(dual)).tangent, tangent)


@old_parts
def test_forward_and_reverse_mode_agree_on_spikes() -> None:
    """The surrogate's rule, constants that learn included, holds in both directions."""
    neuron = PLIF(detach_reset=False, surrogate=ATan(learnable=True)).double()
    x, direction, g = (current(seed).double() for seed in (1, 4, 5))
    parameters = dict(neuron.named_parameters())

    def function(value: Tensor, constants: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(neuron, constants, (value,))

    changes = {name: torch.ones_like(value) for name, value in parameters.items()}
    _, tangent = torch.func.jvp(function, (x, parameters), (direction, changes))
    leaf = x.clone().requires_grad_()
    grads = torch.autograd.grad((neuron(leaf) * g).sum(), (leaf, *parameters.values()))
    reverse = (grads[0] * direction).sum() + sum(grad.sum() for grad in grads[1:])
    torch.testing.assert_close((tangent * g).sum(), reverse, rtol=1e-9, atol=0)


def test_a_backend_that_was_named_refuses_transforms() -> None:
    with pytest.raises(Exception, match=r"inside a torch\.func transform"):
        torch.func.grad(lambda value: plif("cpu")(value).sum())(current())


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.kernels
@old_parts
def test_torch_compile_keeps_the_kernel_whole(fresh_dynamo: None) -> None:
    layers = torch.nn.Linear(40, 40), plif("auto")

    def net(x: Tensor) -> Tensor:
        linear, neuron = layers
        return torch.tanh(neuron(linear(x))).sum()

    parameters = [*layers[0].parameters(), *layers[1].parameters()]
    expected = torch.autograd.grad(net(current()), parameters)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(compiled(current()), parameters)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def _arguments(static: bool) -> tuple:
    neuron = POOL["plif per channel"].make(SHAPE)
    program = neuron.choice(torch.device("cpu"), torch.float32).program
    x = current()[0] if static else current()
    return program, x, [torch.zeros(SHAPE[1:])], [neuron.w.detach().sigmoid()]


CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


@pytest.mark.parametrize("static", [False, True])
def test_the_operators_keep_their_contracts(static: bool) -> None:
    program, x, starts, coefs = _arguments(static)
    common = (SHAPE[0], static, [0.0])
    torch.library.opcheck(
        torch.ops.spikeloom.steps.default,
        (program, x, starts, coefs, *common, "", True),
        test_utils=CHECKS,
    )
    torch.library.opcheck(
        torch.ops.spikeloom.steps_backward.default,
        (
            *(program, current(5), [torch.ones(SHAPE[1:])], x, starts, coefs),
            *(*common, True, [True]),
        ),
        test_utils=CHECKS,
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "gaps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fake_tensors_have_the_strides_of_real_ones(layout: str, dtype: torch.dtype) -> None:
    """torch.compile plans memory by the fake result."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    program, x, _, coefs = _arguments(False)
    x = x.to(dtype)
    if layout == "channels last":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    elif layout == "gaps":
        x = torch.cat([x, x], 3)[..., :40]
    rest = (program, [], coefs, SHAPE[0], False, [0.0], "v,h", True)

    def steps(value: Tensor) -> list[Tensor]:
        name, starts, values, *others = rest
        return torch.ops.spikeloom.steps(name, value, starts, values, *others)

    real = steps(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = steps(mode.from_tensor(x))
    assert len(real) == len(fake) == 4
    for a, b in zip(real, fake, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


@pytest.mark.parametrize("shape", [(0, 3, 4, 40), (5, 0, 4, 40), (5, 3, 4, 0), (5, 3, 0, 4)])
def test_empty_inputs(shape: tuple[int, ...]) -> None:
    found = []
    for backend in ("cpu", "eager"):
        neuron = PLIF(shape=shape[2:3], backend=backend)
        x = torch.zeros(shape, requires_grad=True)
        start = (torch.full(shape[1:], 0.5, requires_grad=True),)
        spikes, (v,) = neuron(x, start)
        grads = torch.autograd.grad(spikes.sum() + 2 * v.sum(), (x, *start))
        found.append((spikes, v, *grads))
        assert neuron.run(x, record=("v", "h")).records["h"].shape == x.shape
    for actual, expected in zip(*found, strict=True):
        assert actual.shape == expected.shape
        assert torch.equal(actual, expected)


def test_a_single_step_equals_eager() -> None:
    x = current()[:1]
    assert torch.equal(plif()(x), plif("eager")(x))


@pytest.mark.parametrize("name", ["plif per channel", "two states, learnable alpha"])
@pytest.mark.parametrize("shape", [(6, 3, 4, 40), (6, 3, 5)])
def test_records_are_the_sequence_of_states(name: str, shape: tuple[int, ...]) -> None:
    neuron = POOL[name].make(shape)
    x = random_values(shape, 1, ties=True).float()
    wanted = (*neuron.states, "h")
    run = neuron.run(x, record=wanted)
    neuron.backend = "eager"
    expected = neuron.run(x, record=wanted)
    assert tuple(run.records) == wanted
    for key in wanted:
        assert_same_bits(run.records[key].detach(), expected.records[key].detach(), key)
        assert run.records[key].shape == shape
    for state, last in zip(neuron.states, run.state, strict=False):
        assert torch.equal(run.records[state][-1], last)


def test_a_coef_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"coef 'k' of shape \[3\] does not fit .* \[5, 3, 4, 40\]"
    ):
        PLIF(shape=(3,), backend="cpu")(current())
    neuron = POOL["two states, learnable alpha"].make((6, *SHAPE[1:]))
    with pytest.raises(ValueError, match="has T=5: the first axis must be T"):
        neuron(current())


def test_equal_programs_are_registered_once() -> None:
    program = plif().choice(torch.device("cpu"), torch.float32).program
    assert program is not None
    assert function.trace_of(program).signature.name == "PLIF"
    other = plif().choice(torch.device("cpu"), torch.float32).program
    assert other == program


class _Names(sl.Neuron):
    """Names that a kernel might use itself."""

    states = ("v", "g", "g_v")

    def __init__(self) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor([0.3, 0.6, 0.9]))

    def coefs(self) -> dict[str, torch.Tensor]:
        return {name: self.p.sigmoid() for name in ("out", "m", "g_time", "scratch")}

    def step(self, x, a, b, c, *, out, m, g_time, scratch):
        h = a * out + x * m + b * scratch * 0.1 + c * 0.1 * g_time
        s = self.surrogate(h - 0.2)
        return s, h * (1 - s), b * 0.9 + x, c * 0.5 + h


def test_names_of_a_step_are_never_those_of_its_kernel() -> None:
    x = torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    results = []
    for backend in ("eager", "cpu"):
        neuron = _Names()
        neuron.backend = backend
        leaf = x.clone().requires_grad_()
        spikes = neuron(leaf)
        spikes.sum().backward()
        results.append((spikes, leaf.grad, neuron.p.grad))
    assert torch.equal(results[0][0], results[1][0])
    for eager, compiled in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(compiled, eager)


def test_two_values_of_one_name_are_refused() -> None:
    class Twice(_Names):
        states = ("x", "g", "g_v")

    with pytest.raises(ValueError, match="two values called 'x'"):
        Twice()(torch.zeros(2, 1, 3))


@pytest.mark.kernels
@old_parts
def test_a_compiled_graph_runs_what_the_step_reads_now(fresh_dynamo: None) -> None:
    class Leaky(sl.Neuron):
        leak = 0.5

        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            h = v * self.leak + x
            s = self.surrogate(h - 1.0)
            return s, h * (1 - s)

    neuron, other = Leaky(), Leaky()
    x = random_values((6, 3, 5), 3).float() * 2
    for each in (neuron, other):  # the layers of a network, compiled one by one
        each.compile(backend="aot_eager")
        assert torch.equal(each(x), each.forward(x))
    before = neuron(x)
    other.leak = 0.0
    Leaky.leak = 0.95
    after, leaf = neuron(x), x.clone().requires_grad_()
    assert not torch.equal(after, before) and torch.equal(after, neuron.forward(x))
    assert torch.equal(other(x), other.forward(x)) and not torch.equal(other(x), after)
    neuron(leaf).sum().backward()
    (expected,) = torch.autograd.grad(neuron.forward(y := x.clone().requires_grad_()).sum(), y)
    torch.testing.assert_close(leaf.grad, expected)
    Leaky.step = lambda self, x, v: (self.surrogate(x.flip(-1)), v)  # type: ignore[method-assign]
    with (
        pytest.warns(UserWarning, match="aten::flip"),
        pytest.raises(RuntimeError, match=r"changed since torch\.compile"),
    ):
        neuron(x)
