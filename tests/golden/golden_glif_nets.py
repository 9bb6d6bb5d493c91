"""Rebuilds golden blocks and networks of GLIF from the arrays alone."""

import numpy as np
import torch
from golden_glif import RAW, Arrays
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.methods.glif.blocks import MEETING, BasicBlock, MembraneBlock, Parts, SewBlock
from spikeloom.methods.glif.config import GlifNetwork
from spikeloom.methods.glif.networks import GlifClassifier, build
from spikeloom.neurons import Neuron
from spikeloom.nn import Sequential


class Bottleneck(nn.Module):
    """N(conv1x1 - tdBN - N - conv3x3(stride) - tdBN - N - conv1x1 - tdBN(a2)  +  shortcut), half as
    wide inside.

    In the authors' code, where no network uses it, and so in none of ours. `pooled`: the shortcut
    averages 2x2 positions (or stride x stride) before its convolution, which then has stride 1.
    """

    time_first = True

    def __init__(
        self, parts: Parts, inputs: int, outputs: int, stride: int = 1, *, pooled: bool = False
    ) -> None:
        super().__init__()
        width = outputs // 2
        self.body = Sequential(
            parts.conv1x1(inputs, width),
            parts.neuron(width),
            parts.conv3x3(width, width, stride),
            parts.neuron(width),
            parts.conv1x1(width, outputs, alpha=MEETING),
        )
        if pooled:
            conv = parts.conv1x1(inputs, outputs, alpha=MEETING)
            self.downsample = Sequential(Sequential(nn.AvgPool2d(stride), *conv))
        else:
            self.downsample = parts.shortcut(inputs, outputs, stride)
        self.lif = parts.neuron(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.body(x) + self.downsample(x))


def set_backend(net: nn.Module, backend: str) -> None:
    for module in net.modules():
        if isinstance(module, Neuron):
            module.backend = backend  # type: ignore[assignment]


def load(net: nn.Module, state: Arrays) -> None:
    """Every value, under the same name. The norm's constant `Vth` and the fused neuron's unused
    `gamma` are the published code's alone."""
    ours = net.state_dict()
    extra = {name for name in state if name not in ours}
    assert all(name.endswith((".Vth", ".gamma")) for name in extra), extra
    assert ours.keys() <= state.keys()
    net.load_state_dict({n: torch.from_numpy(np.asarray(v)) for n, v in state.items() if n in ours})


def block(case: Arrays, backend: str, dtype: torch.dtype, name: str) -> nn.Module:
    """The block whose state the case holds; its form is that of the names and shapes in it."""
    state = {key.removeprefix("sd."): value for key, value in case.items() if key[:3] == "sd."}
    per_channel = any(k.endswith(".gamma") and v.ndim == 1 for k, v in state.items())
    fused = not any(key.endswith(".alpha") for key in state)
    network = GlifNetwork(
        name="sew7" if "conv.0.0.0.weight" in state else "resnet18",
        T=len(case["x"]),
        neuron="glif-f" if fused else "glif",
        per="channel" if per_channel else "layer",
        norm="bn" if "conv.0.0.0.weight" in state else "tdbn",
        connect=name.lower() if name.lower() in ("add", "and", "iand") else "add",  # type: ignore[arg-type]
    )
    parts, inputs = Parts(network), case["x"].shape[2]
    made: nn.Module
    if network.name == "sew7":
        made = SewBlock(parts, inputs, len(state["conv.0.0.0.weight"]))
    else:
        outputs = case["f64.out"].shape[2]
        stride = case["x"].shape[3] // case["f64.out"].shape[3]
        if "lif.tau" not in state:
            made = MembraneBlock(parts, inputs, outputs, stride)
        elif "body.4.0.weight" in state:
            pooled = "downsample.0.2.weight" in state
            made = Bottleneck(parts, inputs, outputs, stride, pooled=pooled)
        else:
            made = BasicBlock(parts, inputs, outputs, stride)
    # First the dtype: some of the published parameters are float64 to begin with.
    made.to(dtype)
    load(made, state)
    set_backend(made, backend)
    return made.train()


def network(arrays: Arrays, backend: str, dtype: torch.dtype) -> GlifClassifier:
    """The classifier in training mode, with the weights that the README's formula makes."""
    names = [str(name) for name in arrays["param_names"]]
    T, classes = int(arrays["T"]), arrays["f64.logits"].shape[1]
    events = arrays["x"].ndim == 5
    blocks = 1 + max((int(n.split(".")[1]) for n in names if n.startswith("features.")), default=0)
    before_addition = any(name.endswith("body.3.0.weight") for name in names)
    if events:
        kind = "sew7-wide"
    elif before_addition:
        kind = {8: "resnet18ms", 16: "resnet34ms"}[blocks]
    else:
        kind = {8: "resnet18", 16: "resnet34"}[blocks]
    config = GlifNetwork(
        name=kind,  # type: ignore[arg-type]
        T=T,
        per="channel" if any(name.endswith("alpha") for name in names) else "layer",
        norm="bn" if events else "tdbn",
    )
    shape = tuple(arrays["x"].shape[-3:])
    spec = DataSpec(
        "golden", shape, tuple(map(str, range(classes))), "events" if events else "static"
    )
    net = build(config, spec)
    parameters = dict(net.named_parameters())
    assert set(parameters) == set(names)
    for i, name in enumerate(names):
        value = _formula(name, tuple(parameters[name].shape), int(arrays["seed"]), i, events)
        assert np.isclose(value.astype(np.float64).sum(), arrays["param_checksum"][i], rtol=1e-6)
        parameters[name].data.copy_(torch.from_numpy(value))
    set_backend(net, backend)
    # The published layout of memory, and with it the published order of summation.
    return net.to(dtype, memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]


def inputs(arrays: Arrays, dtype: torch.dtype) -> Tensor:
    """Images `[B, C, H, W]`, or frames `[T, B, 2, H, W]` (stored batch first)."""
    x = torch.from_numpy(arrays["x"]).to(dtype)
    return x.transpose(0, 1) if x.dim() == 5 else x


def _formula(name: str, shape: tuple[int, ...], seed: int, i: int, events: bool) -> np.ndarray:
    r = np.random.RandomState(1000 * seed + i).standard_normal(shape)
    last = name.rpartition(".")[2]
    if last in RAW:
        base = {"leak": -np.log(31), "conduct": np.log(9)}
        if not events:
            base = {"tau": -np.log(3), "leak": -np.log(15)}
        value = base.get(last, 0.0) + 0.3 * r
    elif len(shape) == 4:
        value = r * np.sqrt(2 / (shape[0] * shape[2] * shape[3]))
    elif len(shape) == 2:
        value = 0.1 * r
    else:
        value = 1 + 0.1 * r if last == "weight" else 0.1 * r
    return np.asarray(value).astype(np.float32)
