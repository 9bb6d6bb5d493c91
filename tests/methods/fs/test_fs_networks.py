import pytest
import torch
from torch import Tensor, nn

from spikeloom.data.base import DataSpec
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.methods.fs.config import FsNetwork
from spikeloom.methods.fs.importing import read_checkpoint
from spikeloom.methods.fs.networks import FsClassifier, build
from spikeloom.neurons import AdLIF, CuLIF, Neuron, PCuLIF
from spikeloom.nn import BatchNorm, Delay, Dropout, Recurrent

# name, form, hidden, shape of a sample, classes, learned parameters
PUBLISHED = [
    ("fc", "kernel", (256, 256), (700,), 20, 252_928),
    ("fc", "kernel", (256,), (700,), 20, 185_856),
    ("fc", "kernel", (256, 256), (64,), 11, 87_808),
    ("fc", "autograd", (256,), (700,), 20, 250_368),
    ("fc", "autograd", (256, 256), (700,), 20, 381_952),
    ("fc", "autograd", (256, 256), (64,), 11, 216_832),
    ("dvsgesture", "kernel", (256, 256), (2, 32, 32), 10, 1_288_576),
    ("dvsgesture", "autograd", (256, 256), (2, 32, 32), 10, 1_288_576),
    ("dvsplane", "kernel", (256, 256), (2, 60, 76), 4, 2_224_704),
    ("dvsplane", "autograd", (256, 256), (2, 60, 76), 4, 2_224_704),
]


def spec(shape: tuple[int, ...], classes: int = 3, kind: str = "events") -> DataSpec:
    return DataSpec("made-up", shape, tuple(map(str, range(classes))), kind)  # type: ignore[arg-type]


def small(shape: tuple[int, ...] = (6,), **options) -> FsClassifier:
    options = {"name": "fc", "T": 8, "hidden": (5, 4), "output_neuron": (6.0, 6.0, 1.0), **options}
    return build(FsNetwork(**options), spec(shape))


def sample(shape: tuple[int, ...] = (6,), T: int = 8, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.poisson(torch.full((T, batch, *shape), 0.7), generator=generator)


@pytest.mark.parametrize(("name", "form", "hidden", "shape", "classes", "count"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name, form, hidden, shape, classes, count):
    with torch.device("meta"):
        net = build(FsNetwork(name=name, T=2, form=form, hidden=hidden), spec(shape, classes))
    assert sum(p.numel() for p in net.parameters()) == count


def test_layers_of_both_forms():
    kernel, autograd = small(), small(form="autograd")
    kinds = {
        form: [type(m) for m in net.modules()] for form, net in (("k", kernel), ("a", autograd))
    }
    assert [kinds["k"].count(kind) for kind in (AdLIF, CuLIF, PCuLIF)] == [2, 1, 0]
    assert [kinds["k"].count(kind) for kind in (BatchNorm, Dropout, Recurrent)] == [2, 2, 0]
    assert [kinds["a"].count(kind) for kind in (AdLIF, CuLIF, PCuLIF)] == [0, 0, 3]
    assert [kinds["a"].count(kind) for kind in (BatchNorm, Dropout, Recurrent)] == [0, 0, 2]
    kernel, autograd = (
        small((2, 16, 20), name="dvsplane", form=form) for form in ("kernel", "autograd")
    )
    for net, neuron, pool in ((kernel, CuLIF, nn.MaxPool2d), (autograd, PCuLIF, nn.AvgPool2d)):
        assert {type(m) for m in net.modules() if isinstance(m, Neuron)} == {neuron}
        assert sum(isinstance(m, pool) for m in net.modules()) == 2
        assert sum(isinstance(m, Recurrent) for m in net.modules()) == 1


@pytest.mark.parametrize("form", ["kernel", "autograd"])
@pytest.mark.parametrize("readout", ["first-spike", "rate"])
@pytest.mark.parametrize("name", ["fc", "dvsplane"])
def test_every_parameter_gets_a_gradient(form, readout, name):
    torch.manual_seed(0)
    shape = (6,) if name == "fc" else (2, 16, 20)
    T = 8 if name == "fc" else 24  # long enough for spikes to reach the last of seven layers
    net = small(
        shape,
        name=name,
        form=form,
        readout=readout,
        T=T,
        hidden_neuron=(5.0, 5.0, 0.05),
        output_neuron=(5.0, 5.0, 0.05),
        window=4.0,
    )
    output = net(sample(shape, T))
    assert output.scores.shape == (4, 3) and output.spikes is not None
    assert output.spikes.shape == (T, 4, 3)
    net.loss(output, torch.tensor([0, 1, 2, 0])).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


def test_silent_label_costs_only_in_training():
    net = small(output_neuron=(5.0, 5.0, 1e6), dropout=0.0, batchnorm=False)  # never fires
    labels = torch.tensor([0, 1, 2, 0])
    output = net(sample())
    assert (output.scores < -8).all()
    training = net.loss(output, labels)
    evaluation = net.eval().loss(output, labels)
    times = -output.scores[torch.arange(4), labels].detach()
    expected = 0.01 * (torch.exp(0.02 * times) - 1).mean()
    torch.testing.assert_close((training - evaluation).detach(), expected)


def test_votes_elect_the_class_of_the_scores():
    torch.manual_seed(1)
    for readout in ("first-spike", "rate"):
        net = small(readout=readout, hidden_neuron=(5.0, 5.0, 0.1)).eval()
        output = net(sample(batch=32))
        assert output.votes is not None
        assert torch.equal(output.votes.sum(0).argmax(1), output.scores.argmax(1))


def test_constants_stay_in_their_bounds():
    net = small()
    neuron = net.get_submodule("hidden.neuron1")
    assert isinstance(neuron, AdLIF)
    with torch.no_grad():
        neuron.a.fill_(1.5)
        neuron.b.fill_(-0.5)
    assert neuron.constants()["a"].max() == 1 and neuron.constants()["b"].min() == 0
    net.before_step()
    assert neuron.a.max() == 1 and neuron.b.min() == 0
    net = small(form="autograd", output_neuron=(1000.0, 2.0, 1.0))
    net.after_step()
    assert net.output_neuron.constants()["tau_m"].item() == pytest.approx(199.5, abs=0.1)
    assert net.output_neuron.constants()["tau_s"].item() == pytest.approx(3.26, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neuron": "adlif", "form": "autograd"}, "kernel"),
        ({"hidden_neuron": (1.0, 5.0, 0.5)}, "above 1 time step"),
        ({"hidden": ()}, "hidden"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FsNetwork(name="fc", T=4, **options)


def test_data_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"network\.name = fc"):
        build(FsNetwork(name="dvsgesture", T=4), spec((700,)))
    with pytest.raises(ConfigError, match="larger samples"):
        build(FsNetwork(name="dvsplane", T=4), spec((2, 4, 4)))
    with pytest.raises(ConfigError, match="T=8"):
        small()(sample(T=7))


def published_state(net: FsClassifier) -> dict[str, Tensor]:
    """What the published kernel program would have saved for this fully connected network."""
    names = {"linear": "0.0", "norm": "0.1", "neuron": "1"}
    ends = {"membrane": "decay_mem", "adaptation": "decay_osc"}
    state = {}
    for name, value in net.state_dict().items():
        parts = name.split(".")
        if parts[0] == "output":
            state["fc_layers.2.0.weight"] = value
            continue
        kind, layer = parts[1][:-1], int(parts[1][-1]) - 1
        shaped = value[None] if kind == "neuron" else value
        state[f"fc_layers.{layer}.{names[kind]}.{ends.get(parts[2], parts[2])}"] = shaped
    return state


def test_published_checkpoint_is_read(tmp_path):
    torch.manual_seed(5)
    net, other = small(), small()
    saved = {
        "epoch": 3,
        "best_acc": 90.0,
        "sim_params": {"T": 8, "neuron_params1": {"tau_m": 5.0}},
        "model_state_dict": published_state(other),
        "best_model_state_dict": {f"module.{k}": v for k, v in published_state(net).items()},
    }
    torch.save(saved, tmp_path / "net.pt")
    found = read_checkpoint(tmp_path / "net.pt", other)
    other.load_state_dict(found)
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_convolutional_checkpoint_of_the_autograd_form_is_read(tmp_path):
    torch.manual_seed(5)
    net = small((2, 16, 20), name="dvsplane", form="autograd")
    layers = ("conv1", "conv2", "pool1", "conv3", "pool2", "fc1", "fc2")
    neurons = [m for m in net.modules() if isinstance(m, PCuLIF)]
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    state = {}
    for layer, neuron in zip(layers, neurons, strict=True):
        state[f"{layer}.alpha"] = neuron.synapse[None]
        state[f"{layer}.beta"] = neuron.membrane[None]
        state[f"{layer}.th"] = torch.tensor([neuron.v_threshold])
        if layer.startswith("conv"):
            state[f"{layer}.w"] = weights.pop(0)
    own = dict(net.named_parameters())
    state["fc1.w"] = own["hidden.linear1.weight"].T
    state["fc1.v"] = own["hidden.neuron1.recurrent.weight"].T
    state["fc2.w"] = own["output.weight"].T
    torch.save({"model_state_dict": state}, tmp_path / "net.pt")
    found = read_checkpoint(tmp_path / "net.pt", net)
    for name, value in net.state_dict().items():
        assert torch.equal(found[name], value), name
    state["conv1.th"] = torch.tensor([0.7])
    torch.save({"model_state_dict": state}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"fires at 0\.5"):
        read_checkpoint(tmp_path / "net.pt", net)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    net = small()
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pt", net)
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "text.pt", net)
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="expected tensors by name"):
        read_checkpoint(tmp_path / "empty.pt", net)
    torch.save(published_state(net), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="does not fit"):
        read_checkpoint(tmp_path / "net.pt", small(hidden=(5, 3)))
    with pytest.raises(CheckpointError, match="autograd form"):
        read_checkpoint(tmp_path / "net.pt", small(form="autograd"))


def test_delays_stand_before_every_linear_layer_and_learn() -> None:
    net = small(delays=3, delay_decay=0.5)
    layers = [layer for layer in net.modules() if isinstance(layer, Delay)]
    assert [len(layer.delay) for layer in layers] == [6, 5, 4]
    weights, delays = net.parameter_groups()
    assert delays["lr_scale"] == 100 and delays["weight_decay"] == 0
    assert len(list(net.parameters())) == len(weights["params"]) + len(delays["params"])
    net.loss(net(sample()), torch.tensor([0, 1, 2, 0])).backward()
    assert all(layer.delay.grad is not None and layer.delay.grad.any() for layer in layers[:1])
    before = layers[0].sigma.item()
    net.after_step()
    assert layers[0].sigma.item() == before / 2
    with pytest.raises(ValueError, match="convolutions have none"):
        FsNetwork(name="dvsplane", T=4, delays=3)


def test_an_image_becomes_one_spike_a_pixel_then_silence():
    network = FsNetwork(name="fc", T=8, coded=4, hidden=(5,), output_neuron=(6.0, 6.0, 1.0))
    net = build(network, spec((1, 2, 2), kind="static"))
    images = torch.tensor([[[[1.0, 0.7], [0.34, 0.05]]]])
    current = net.current(images)
    assert current.shape == (8, 1, 1, 2, 2)
    assert current.flatten(1).nonzero().tolist() == [[0, 0], [1, 1], [2, 2]]  # 0.05 never fires
    output = net(images)
    assert output.spikes is not None and output.spikes.shape == (8, 1, 3)
    with pytest.raises(ValueError, match="intensities in \\[0, 1\\]"):
        net(images - 1)
    with pytest.raises(ValueError, match="coded = 9: expected at most T = 8"):
        FsNetwork(name="fc", T=8, coded=9)
