"""Every gradient in its place: constant currents, records, batches of gradients; and what PyTorch
is told of the operators is true."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from zoo import LAYOUTS, POOL, random_values

import spikeloom as sl
from spikeloom.neurons import LIF, PLIF

IMAGE = torch.rand(2, 6, generator=torch.Generator().manual_seed(0)) * 2
T = 5


def _leaf(neuron: nn.Module) -> list[Tensor]:
    x = IMAGE.expand(T, 2, 6).requires_grad_()
    neuron(x).sum().backward()
    return [x.grad]


def _asked(neuron: nn.Module) -> list[Tensor]:
    x = IMAGE.clone().requires_grad_().expand(T, 2, 6)
    return list(torch.autograd.grad(neuron(x).sum(), x))


def _both_asked(neuron: nn.Module) -> list[Tensor]:
    image = IMAGE.clone().requires_grad_()
    x = image.expand(T, 2, 6)
    return list(torch.autograd.grad(neuron(x).sum(), (x, image)))


def _kept(neuron: nn.Module) -> list[Tensor]:
    image = IMAGE.clone().requires_grad_()
    x = image.expand(T, 2, 6)
    x.retain_grad()
    neuron(x).sum().backward()
    return [x.grad, image.grad]


def _hooked(neuron: nn.Module) -> list[Tensor]:
    seen = []
    image = IMAGE.clone().requires_grad_()
    x = image.expand(T, 2, 6)
    x.register_hook(lambda grad: seen.append(grad.clone()))
    spikes = neuron(x)
    del x
    spikes.sum().backward()
    return [*seen, image.grad]


def _module_hook(neuron: nn.Module) -> list[Tensor]:
    seen = []
    neuron.register_full_backward_hook(lambda module, gx, g: seen.append(gx[0].clone()))
    image = IMAGE.clone().requires_grad_()
    neuron(image.expand(T, 2, 6)).sum().backward()
    return [*seen, image.grad]


def _expanded_twice(neuron: nn.Module) -> list[Tensor]:
    x = IMAGE.expand(T, 2, 6).requires_grad_()
    neuron(x.expand(T, 2, 6)).sum().backward()
    return [x.grad]


def _nobody(neuron: nn.Module) -> list[Tensor]:
    image = IMAGE.clone().requires_grad_()
    neuron(image.expand(T, 2, 6)).sum().backward()
    return [image.grad]


LOOKS = (_leaf, _asked, _both_asked, _kept, _hooked, _module_hook, _expanded_twice, _nobody)


@pytest.mark.parametrize("look", LOOKS)
def test_the_gradient_of_a_constant_current(look: Callable[[nn.Module], list[Tensor]]) -> None:
    actual, expected = look(PLIF(backend="cpu")), look(PLIF(backend="eager"))
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("name", ["plif per channel", "two states, learnable alpha"])
def test_losses_on_records_have_gradients(name: str, static: bool) -> None:
    shape = (5, 3, 4, 40)
    base = random_values(shape[1:] if static else shape, 1).float()
    found = []
    for backend in ("cpu", "eager"):
        neuron = POOL[name].make(shape)
        neuron.backend = backend
        leaf = base.clone().requires_grad_()
        x = leaf.expand(shape)
        start = tuple(torch.full(shape[1:], 0.25, requires_grad=True) for _ in neuron.states)
        clock = (torch.tensor(0),) if neuron.time_coefs else ()
        run = neuron.run(x, (*start, *clock), record=("h", "v"))
        loss = run.spikes.mean() + (run.records["h"] ** 2).mean() + run.records["v"].mean()
        loss = loss + run.state[0].sum() / 7
        wanted = [leaf, *start, *(p for p in neuron.parameters())]
        found.append(torch.autograd.grad(loss, wanted, allow_unused=True))
    for a, b in zip(*found, strict=True):
        if b is None:
            assert a is None or not a.any()
        else:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_batch_of_gradients_at_once() -> None:
    """The Jacobian of a neuron in one call: is_grads_batched."""
    found = []
    for backend in ("cpu", "eager"):
        neuron = PLIF(backend=backend)
        x = random_values((3, 2, 4), 1).float().requires_grad_()
        g = torch.eye(24).reshape(24, 3, 2, 4)
        found.append(torch.autograd.grad(neuron(x), (x, neuron.w), g, is_grads_batched=True))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def _operands(layout: str, dtype: torch.dtype) -> tuple[str, Tensor, list[Tensor]]:
    shape = (5, 3, 4, 40)
    neuron = POOL["plif per channel"].make(shape)
    program = neuron.choice(torch.device("cpu"), torch.float32).program
    view = LAYOUTS[layout](shape)
    x = view.view(random_values(view.base_shape, 3).to(dtype))
    assert program is not None
    return program, x, [neuron.w.detach().sigmoid()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fakes_are_true_for_every_layout(layout: str, dtype: torch.dtype) -> None:
    program, x, coefs = _operands(layout, dtype)
    starts = [torch.zeros(x.shape[1:])]

    def both(to: Callable[[Tensor], Tensor]) -> list[Tensor]:
        current, begin = to(x), list(map(to, starts))
        rest = (5, False, [0.0])
        return [
            *torch.ops.spikeloom.steps(program, current, begin, coefs, *rest, "v,h", True),
            *torch.ops.spikeloom.steps_backward(
                program,
                to(x.clone()),
                list(map(to, starts)),
                current,
                begin,
                coefs,
                *rest,
                True,
                [True],
            ),
        ]

    real = both(lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = both(mode.from_tensor)
    for a, b in zip(real, fake, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


@pytest.mark.parametrize("layout", ["time last", "sliced", "one sample for the batch"])
def test_operators_keep_their_contract_in_every_layout(layout: str) -> None:
    program, x, coefs = _operands(layout, torch.float32)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(
        torch.ops.spikeloom.steps.default,
        (program, x, [], coefs, 5, False, [0.0], "", False),
        test_utils=checks,
    )
    torch.library.opcheck(
        torch.ops.spikeloom.steps_backward.default,
        (program, torch.ones(x.shape), [], x, [], coefs, 5, False, [0.0], True, [True]),
        test_utils=checks,
    )


EXPORTED: dict[str, Callable[[], nn.Module]] = {
    "plif": lambda: sl.nn.Sequential(nn.Linear(8, 6), PLIF(), nn.Linear(6, 3), LIF()),
    "learned steepness": lambda: sl.nn.Sequential(
        nn.Linear(8, 6), LIF(surrogate=sl.ATan(learnable=True))
    ),
    "gated": lambda: sl.nn.Sequential(nn.Linear(8, 6), sl.GLIF(6, 4)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_exported_is_the_eager_step(name: str) -> None:
    net = EXPORTED[name]().eval()
    x = random_values((4, 2, 8), 1).float() * 3
    exported = torch.export.export(copy.deepcopy(net), (x,))
    assert "ops.spikeloom" not in exported.graph_module.code
    traced = torch.jit.trace(copy.deepcopy(net), (x,))
    assert "spikeloom::" not in str(traced.inlined_graph)
    saved = io.BytesIO()
    torch.jit.save(traced, saved)
    loaded = torch.jit.load(io.BytesIO(saved.getvalue()))
    with torch.no_grad():
        assert torch.equal(exported.module()(x), net(x))
        assert torch.equal(traced(x), net(x))
    gradients = []
    for each in (net, loaded):
        leaf = x.clone().requires_grad_()
        y = each(leaf)
        gradients += torch.autograd.grad(y.mul(random_values(y.shape, 2)).sum(), leaf)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
