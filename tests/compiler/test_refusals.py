"""Steps that cannot become a kernel: the error names the operation and the line, `auto` runs
eagerly."""

import warnings

import pytest
import torch
from torch import Tensor

from spikeloom.compiler import dispatch, explain
from spikeloom.errors import StepError
from spikeloom.neurons import LIF, Neuron, Surrogate


class Base(Neuron):
    def fire(self, h: Tensor) -> tuple[Tensor, Tensor]:
        s = self.surrogate(h - 1.0)
        return s, h * (1 - s)


class CumulativeSum(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + torch.cumsum(x, 0))


class Noise(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x + 0.0 * torch.rand_like(x))


class Mean(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x - x.mean())


class Shifted(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x.roll(1))


class Rounded(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + torch.div(x, 0.5, rounding_mode="trunc"))


class OtherDtype(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x.to(torch.int32).to(x.dtype))


class OddSurrogate(Surrogate):
    def derivative(self, u: Tensor) -> Tensor:
        return torch.exp(-u.abs()).cumsum(0)


class ByOddSurrogate(Base):
    def __init__(self) -> None:
        super().__init__(surrogate=OddSurrogate())

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x)


@pytest.mark.parametrize(
    ("kind", "operation", "line"),
    [
        (CumulativeSum, "aten::cumsum", "return self.fire(v + torch.cumsum(x, 0))"),
        (Noise, "aten::rand_like", "return self.fire(v + x + 0.0 * torch.rand_like(x))"),
        (Mean, "aten::mean", "return self.fire(v + x - x.mean())"),
        (Shifted, "aten::roll", "return self.fire(v + x.roll(1))"),
        (Rounded, "rounding_mode='trunc'", "torch.div(x, 0.5"),
        (OtherDtype, "torch.int32", "x.to(torch.int32)"),
        (ByOddSurrogate, "aten::cumsum", "return torch.exp(-u.abs()).cumsum(0)"),
    ],
)
def test_an_operation_that_is_not_elementwise(
    kind: type[Neuron], operation: str, line: str
) -> None:
    neuron = kind()
    neuron.backend = "cpu"
    with pytest.raises(StepError) as caught:
        neuron(torch.zeros(2, 3))
    text = str(caught.value)
    assert text.startswith(f"backend='cpu' cannot be used: step of {kind.__name__} uses ")
    assert operation in text
    assert "test_refusals.py:" in text and line in text
    assert 'use backend="eager"' in text
    assert "\n" not in text


class Older(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return g * (u.abs() < 0.5)


class Newer(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return (u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    backward = Older.backward


class ByFunction(Neuron):
    function: type[torch.autograd.Function] = Older

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v * 0.5 + x
        s = self.function.apply(h - 1.0)
        return s, h * (1 - s)


class ByNewer(ByFunction):
    function = Newer


def test_a_function_of_the_older_form_is_told_what_to_become() -> None:
    with pytest.raises(
        StepError, match=r"Function of the older form at test_refusals.py:.*setup_c"
    ):
        ByFunction(backend="cpu")(torch.zeros(2, 3))
    x, grads = torch.linspace(-1, 3, 12).view(4, 3), []
    for backend in ("cpu", "eager"):
        current = x.clone().requires_grad_()
        spikes = ByNewer(backend=backend)(current)
        (spikes * x).sum().backward()
        grads.append(torch.stack([spikes.detach(), current.grad]))
    torch.testing.assert_close(*grads)


TABLE = torch.tensor([1.0, 2.0])


class ClosesOverParameter(Base):
    def __init__(self) -> None:
        super().__init__()
        self.leak = torch.nn.Parameter(torch.tensor(0.5))

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v * self.leak + x)


class ClosesOverBuffer(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bias", torch.tensor(0.5))

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x + self.bias)


class ClosesOverAttribute(Base):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.tensor(0.25)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x + self.shift)


class ClosesOverGlobal(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x * TABLE)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (ClosesOverParameter, "self.leak"),
        (ClosesOverBuffer, "self.bias"),
        (ClosesOverAttribute, "self.shift"),
        (ClosesOverGlobal, "TABLE"),
    ],
)
def test_a_tensor_that_is_not_a_coef(kind: type[Neuron], what: str) -> None:
    neuron = kind()
    neuron.backend = "cpu"
    with pytest.raises(StepError, match=r"return it from coefs\(\)") as caught:
        neuron(torch.zeros(2, 3))
    assert f"step of {kind.__name__} reads {what} directly" in str(caught.value)


class Branches(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        if x.sum() > 0:
            v = v * 0.5
        return self.fire(v + x)


class ReadsValue(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x * float(x.max()))


class InPlace(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        v.mul_(0.5)
        return self.fire(v + x)


class InPlaceOnAlias(Base):
    """`h` changes through another name: refused, since the graph would not show it."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v + x
        h.detach().sub_(x)
        return self.fire(h)


class TooFew(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return (self.fire(v + x)[0],)


class TooMany(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return (*self.fire(v + x), x)


class Product(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x @ torch.eye(3))


class Broken(Base):
    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return self.fire(v + x.no_such_method())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Branches, "asks for the value of a tensor at test_refusals.py:"),
        (Branches, "use torch.where"),
        (ReadsValue, "asks for the value of a tensor at test_refusals.py:"),
        (InPlace, "v.mul_(0.5)"),
        (InPlaceOnAlias, "aten::sub_"),
        (TooFew, "returned 1 tensors: expected 2, (spikes, v)"),
        (TooMany, "returned 3 tensors: expected 2, (spikes, v)"),
        (Product, "x @ torch.eye(3)"),
        (Broken, "no_such_method"),
    ],
)
def test_what_cannot_be_traced(kind: type[Neuron], text: str) -> None:
    neuron = kind()
    neuron.backend = "cpu"
    with pytest.raises(StepError) as caught:
        neuron(torch.zeros(2, 3))
    assert kind.__name__ in str(caught.value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.kernels
def test_auto_falls_back_with_one_warning_and_equal_results() -> None:
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) * 2
    neuron = CumulativeSum()
    with pytest.warns(UserWarning, match="runs eagerly, many times slower: .*aten::cumsum") as seen:
        spikes = neuron(x)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(CumulativeSum()(x), spikes)
    neuron.backend = "eager"
    assert torch.equal(neuron(x), spikes)
    assert spikes.sum() > 0


def test_the_eager_backend_runs_anything_silently() -> None:
    neuron = Noise()
    neuron.backend = "eager"
    assert neuron(torch.full((2, 3), 2.0)).sum() > 0


def test_an_unknown_backend_is_named() -> None:
    neuron = LIF()
    neuron.backend = "cuda"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="backend='cuda': expected one of auto, eager, cpu"):
        neuron(torch.zeros(2, 3))


@pytest.mark.kernels
def test_explain_names_backend_and_reason_of_every_neuron() -> None:
    eager = LIF(backend="eager")
    insisting = Mean()
    insisting.backend = "cpu"
    net = torch.nn.ModuleDict(
        {"a": LIF(), "b": Mean(), "c": eager, "d": LIF(backend="cpu"), "e": insisting}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explanation = explain(net)
    rows = {row[0]: row for row in explanation}
    assert rows["a"][1:] == ("LIF", "cpu", "CPU tensors")
    assert rows["b"][1:3] == ("Mean", "eager") and "aten::mean" in rows["b"][3]
    assert rows["c"][1:] == ("LIF", "eager", "asked for")
    assert rows["d"][1:] == ("LIF", "cpu", "asked for")
    assert rows["e"][2] == "none" and "aten::mean" in rows["e"][3]
    lines = str(explanation).splitlines()
    assert lines[0].split() == ["neuron", "kind", "backend", "because"]
    assert len(lines) == 6
    assert explain(LIF()).rows[0][0] == "(itself)"


@pytest.mark.kernels
def test_explain_for_other_devices_and_dtypes() -> None:
    (row,) = explain(LIF(), device="meta")
    assert row[2:] == ("eager", "no kernel for device 'meta'")
    (row,) = explain(LIF(backend="cpu"), device="meta")
    assert row[2] == "none"
    (row,) = explain(LIF(backend="gpu"), device="cpu")
    assert row[2] == "none" and "no gpu kernel for device 'cpu'" in row[3]
    (row,) = explain(LIF(), device="mps")
    assert row[2:] == ("eager", "no kernel for device 'mps'")
    (row,) = explain(LIF(), dtype=torch.complex64)
    assert row[2:] == ("eager", "no kernel for torch.complex64")


@pytest.mark.kernels
def test_cuda_tensors_take_triton_where_it_can_be_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing: dict[str, str | None] = {"triton": None}
    monkeypatch.setattr(dispatch, "_missing", missing.get)
    (row,) = explain(LIF(), device="cuda", dtype=torch.bfloat16)
    assert row[2:] == ("gpu", "CUDA tensors")
    (row,) = explain(LIF(backend="cpu"), device="cuda")
    assert row[2] == "none" and "no cpu kernel for device 'cuda'" in row[3]
    missing["triton"] = "triton cannot be imported"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (row,) = explain(LIF(), device="cuda")
    assert row[2:] == ("eager", "triton cannot be imported")


def test_source_is_a_readable_module_that_compiles() -> None:
    text = LIF().source()
    compile(text, "kernel", "exec")
    assert "def forward_segment(" in text and "def adjoint_segment(" in text
    assert "np.float32" in text and "np.float64" not in text
    assert "np.float64" in LIF().source(dtype=torch.float64)
    assert "load_bf16" in LIF().source(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"dtype=torch\.int64: expected one of torch\.float32"):
        LIF().source(dtype=torch.int64)
    with pytest.raises(ValueError, match="backend='tpu'"):
        LIF().source("tpu")  # type: ignore[arg-type]


def test_gpu_source_needs_no_gpu() -> None:
    text = LIF().source("gpu")
    compile(text, "kernel", "exec")
    assert "def run_forward(" in text and "def run_backward(" in text
    assert "tl.float32" in text and "tl.float64" not in text
    assert "tl.float64" in LIF().source("gpu", dtype=torch.float64)


def test_source_of_a_step_that_cannot_be_compiled_says_why() -> None:
    with pytest.raises(StepError, match="aten::mean"):
        Mean().source()


@pytest.mark.kernels
def test_equal_neurons_share_a_kernel_and_others_do_not() -> None:
    cpu, single = torch.device("cpu"), torch.float32
    program = LIF(tau=3.25).choice(cpu, single).program
    assert LIF(tau=3.25).choice(cpu, single).program == program
    assert LIF(tau=3.5).choice(cpu, single).program != program
    assert LIF(tau=3.25, v_reset=None).choice(cpu, single).program != program
    assert LIF(tau=3.25).choice(cpu, torch.float64).program != program


@pytest.mark.kernels
def test_a_constant_that_changes_all_the_time_is_reported() -> None:
    class Swept(LIF):
        pass

    cpu = torch.device("cpu")
    for i in range(dispatch.MANY_VARIANTS - 1):
        Swept(tau=2 + i).choice(cpu, torch.float32)
    with pytest.warns(UserWarning, match=r"Swept has been compiled with 16 .*coefs\(\)"):
        Swept(tau=1000.0).choice(cpu, torch.float32)


def test_equal_constants_in_many_neurons_are_one_kernel(recwarn: pytest.WarningsRecorder) -> None:
    class Stamped(LIF):
        pass

    for i in range(dispatch.MANY_VARIANTS + 1):
        neuron = Stamped()
        neuron.label = f"layer {i}"  # no part of the arithmetic
        neuron.choice(torch.device("cpu"), torch.float32)
    assert not recwarn.list
