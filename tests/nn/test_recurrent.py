"""The recurrent layer, in one kernel and step by step, against the equation in plain PyTorch."""

import copy

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.neurons import LIF, PLIF, AdLIF, CuLIF, Neuron, PCuLIF
from spikeloom.nn import Recurrent, Sequential

FEATURES = 9


class Graded(Neuron):
    """Fires by how much it is over its threshold; a coef of the user's own per neuron."""

    states = ("v", "slow")

    def __init__(self, backend="auto"):
        super().__init__(backend=backend)
        self.leak = nn.Parameter(torch.linspace(-1, 1, FEATURES))
        self.gain = nn.Parameter(torch.tensor(0.7))

    def rest(self):
        return {"slow": 0.25}

    def coefs(self):
        return {"k": self.leak.sigmoid(), "gain": self.gain}

    def step(self, x, v, slow, *, k, gain):
        h = v + (x - v) * k - slow * 0.1
        s = self.surrogate(h - 0.6) * h * gain
        return s, h - s, slow * 0.8 + s * 0.2


NEURONS = {
    "lif": lambda b: LIF(backend=b),
    "plif": lambda b: PLIF(tau=2.0, backend=b),
    "culif": lambda b: CuLIF(3.0, 2.0, v_threshold=0.4, backend=b),
    "pculif": lambda b: PCuLIF(
        4.0, 3.0, shape=(FEATURES,), form="direct", delay=2, v_threshold=0.5, backend=b
    ),
    "adlif": lambda b: AdLIF(3.0, shape=(FEATURES,), v_threshold=0.5, backend=b),
    "graded": lambda b: Graded(backend=b),
}


def equation(layer, x, state=None):
    """s_t, v_t = step(x_t + R s_{t-1}, v_{t-1}), or with the feedback in a state."""
    *own, heard = layer.initial_state(x) if state is None else state
    spikes = []
    for current in x.unbind():
        feedback = heard @ layer.recurrent.weight.T
        if layer.into == "input":
            current = current + feedback
        else:
            place = layer.neuron.states.index(layer.into)
            own[place] = own[place] + feedback
        fired, own = layer.neuron(current.unsqueeze(0), tuple(own))
        own, heard = list(own), fired[0]
        spikes.append(heard)
    return torch.stack(spikes), (*own, heard)


def twins(name, into, dtype=torch.float64):
    """A layer whose neurons compile, and the same with eager ones."""
    layers = []
    for backend in ("auto", "eager"):
        torch.manual_seed(3)
        layer = Recurrent(NEURONS[name](backend), FEATURES, into=into).to(dtype)
        with torch.no_grad():
            layer.recurrent.weight.mul_(2)
        layers.append(layer)
    kernel, reference = layers
    assert kernel.choice(torch.device("cpu"), dtype).backend == "cpu"
    return kernel, reference


def close(a, b, tolerance):
    scale = b.detach().abs().max().item() if b.numel() else 0.0
    assert torch.allclose(a, b, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.kernels
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(
    ("name", "into"),
    [
        ("lif", "input"),
        ("plif", "v"),
        ("culif", "i"),
        ("pculif", "input"),
        ("adlif", "w"),
        ("graded", "input"),
        ("graded", "slow"),
    ],
)
def test_the_kernel_and_its_gradients_are_those_of_the_equation(name, into, with_state):
    kernel, reference = twins(name, into)
    states = kernel.neuron.states
    x = torch.rand(12, 7, FEATURES, dtype=torch.float64) * 1.6
    start = [torch.rand(7, FEATURES, dtype=torch.float64) * 0.4 for _ in states]
    start.append((torch.rand(7, FEATURES) < 0.3).double())
    results = []
    for layer, run in ((kernel, kernel), (reference, lambda *a: equation(reference, *a))):
        current = x.clone().requires_grad_()
        begin = [value.clone().requires_grad_() for value in start] if with_state else []
        out = run(current, tuple(begin)) if begin else run(current)
        spikes, end = out if isinstance(out, tuple) else (out, ())
        values = (spikes, *end) if begin else (spikes,)
        generator = torch.Generator().manual_seed(1)
        total = torch.zeros((), dtype=torch.float64)
        for value in values:
            total = total + (value * torch.randn(value.shape, generator=generator)).sum()
        total.backward()
        grads = [leaf.grad for leaf in (current, *begin, *layer.parameters())]
        results.append((values, grads))
    (values, grads), (wanted, wanted_grads) = results
    assert 0 < wanted[0].count_nonzero() < wanted[0].numel()
    for a, b in zip(values, wanted, strict=True):
        close(a, b, 1e-12)
    for a, b in zip(grads, wanted_grads, strict=True):
        close(a, b, 1e-10)


@pytest.mark.kernels
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 1, 3), (3, 4, 16), (20, 9, 37), (0, 2, 3), (4, 0, 3)]
)
@pytest.mark.parametrize("drive", [0.0, 0.6, 3.0])
def test_any_size_and_any_density(shape, drive):
    torch.manual_seed(0)
    layer = Recurrent(LIF(), shape[2]).double()
    eager = Recurrent(LIF(backend="eager"), shape[2]).double()
    eager.load_state_dict(layer.state_dict())
    x = torch.rand(shape, dtype=torch.float64) * drive * 2
    currents = [x.clone().requires_grad_() for _ in range(2)]
    ours = layer(currents[0])
    theirs = equation(eager, currents[1])[0] if shape[0] else currents[1].clone()
    assert torch.equal(ours, theirs)
    for out in (ours, theirs):
        (out * torch.arange(1.0, out.numel() + 1, dtype=out.dtype).view_as(out)).sum().backward()
    close(currents[0].grad, currents[1].grad, 1e-10)
    if shape[0] > 1:
        close(layer.recurrent.weight.grad, eager.recurrent.weight.grad, 1e-10)


@pytest.mark.kernels
@pytest.mark.parametrize(("name", "into"), [("lif", "input"), ("plif", "v")])
def test_pieces_equal_the_whole(name, into):
    layer, _ = twins(name, into)
    x = torch.rand(10, 3, FEATURES, dtype=torch.float64) * 1.6
    whole, end = layer(x, None)
    assert torch.equal(whole, layer(x))
    state, pieces = layer.initial_state(x), []
    for part in x.split([1, 4, 5]):
        spikes, state = layer(part, state)
        pieces.append(spikes)
    assert torch.equal(torch.cat(pieces), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, end, strict=True))


@pytest.mark.kernels
def test_memory_order_threads_and_neighbours_do_not_change_a_bit():
    layer, _ = twins("adlif", "w")
    x = torch.rand(30, 800, FEATURES, dtype=torch.float64) * 1.6
    weights = torch.rand(30, 800, FEATURES)
    results = []
    for threads in (1, 2, 3):
        for current in (x, x.transpose(0, 1).contiguous().transpose(0, 1), x.mT.contiguous().mT):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                layer.zero_grad()
                current = current.detach().requires_grad_()
                spikes = layer(current)
                (spikes * weights).sum().backward()
            finally:
                torch.set_num_threads(before)
            results.append([spikes, current.grad, *(p.grad for p in layer.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert torch.equal(layer(x[:, 5:6])[:, 0], results[0][0][:, 5])


@pytest.mark.kernels
def test_a_current_that_is_constant_in_time_gets_the_sum_of_its_gradients():
    kernel, reference = twins("lif", "input")
    image = torch.rand(2, FEATURES, dtype=torch.float64) * 3
    grads = []
    for run in (kernel, lambda x: equation(reference, x)[0]):
        leaf = image.clone().requires_grad_()
        (run(leaf.expand(6, 2, FEATURES)) * torch.arange(6.0).view(6, 1, 1)).sum().backward()
        grads.append(leaf.grad)
    close(*grads, 1e-12)


@pytest.mark.kernels
def test_explain_says_what_runs_and_hooks_see_every_step():
    layer, _ = twins("lif", "input", torch.float32)
    x = torch.rand(5, 2, FEATURES) * 2
    rows = {row[0]: row for row in sl.explain(Sequential(layer))}
    assert rows["0"][2:] == ("cpu", "all time steps in one kernel")
    fused, calls = layer(x), []
    handle = layer.neuron.register_forward_hook(lambda *_: calls.append(1))
    assert "hooks" in next(iter(sl.explain(layer)))[3]
    assert torch.equal(layer(x), fused) and len(calls) == 5
    handle.remove()
    assert layer(x) is not None and len(calls) == 5


@pytest.mark.kernels
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_what_the_kernel_cannot_do_runs_step_by_step():
    layer, _ = twins("lif", "input", torch.float32)
    x = torch.rand(5, 2, FEATURES) * 2

    def reason(device="cpu", dtype=torch.float32):
        return layer.choice(torch.device(device), dtype).reason

    assert "bfloat16" in reason(dtype=torch.bfloat16) and "'cuda'" in reason("cuda")
    with torch.autocast("cpu"):
        assert "autocast" in reason()
        assert layer(x).shape == x.shape
    half = copy.deepcopy(layer).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    gradient = torch.func.grad(lambda x: layer(x).sum())(x)
    x.requires_grad_()
    layer(x).sum().backward()
    close(gradient, x.grad, 1e-5)
    compiled = torch.compile(layer, backend="eager")
    assert torch.equal(compiled(x), layer(x))
    nn.utils.parametrizations.spectral_norm(layer.recurrent)
    layer.eval()
    assert "kernel" in reason() and torch.equal(layer(x), equation(layer, x)[0])


def test_feedback_into_a_state_acts_one_step_sooner():
    neuron = CuLIF(2.0, 2.0, v_threshold=0.2)
    x = torch.zeros(8, 1, 1)
    x[0] = 5.0

    def response(into: str) -> torch.Tensor:
        layer = Recurrent(neuron, 1, into=into)
        nn.init.constant_(layer.recurrent.weight, -100.0)
        return layer(x)[:, 0, 0]

    free = neuron(x)[:, 0, 0]
    assert free.tolist()[:4] == [0, 1, 1, 1]
    assert response("input").tolist()[:4] == [0, 1, 1, 0]
    assert response("i").tolist()[:4] == [0, 1, 0, 0]


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="'input' or a state of LIF"):
        Recurrent(LIF(), 3, into="i")
    with pytest.raises(ValueError, match=r"expected \[T, B, 3\]"):
        Recurrent(LIF(), 3)(torch.zeros(2, 2, 4))
    with pytest.raises(ValueError, match=r"coef .k. of shape .9.*.3. .per channel"):
        Recurrent(Graded(), 3)(torch.zeros(2, 2, 3))
    layer = Recurrent(LIF(), 3)
    with pytest.raises(ValueError, match="state"):
        layer(torch.zeros(2, 2, 3), layer.initial_state(torch.zeros(2, 1, 3)))
