import pytest
import torch

from spikeloom.data.base import DataSpec
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.methods.catalog import dump, load_recipe, methods, parse, recipe_names
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.importing import read_checkpoint, read_thresholds
from spikeloom.methods.dsr.networks import DsrClassifier, build

# network, neuron, sample, classes, parameters, thresholds among them
PUBLISHED = [
    ("preresnet18", "lif", (3, 32, 32), 10, 11_176_945, 19),
    ("preresnet18", "if", (3, 32, 32), 100, 11_223_295, 19),
    ("vgg11", "lif", (2, 48, 48), 10, 9_476_327, 9),
    ("imagenet-preresnet18", "relu", (3, 224, 224), 1000, 11_691_640, 0),
    ("imagenet-preresnet18", "if", (3, 224, 224), 1000, 11_691_660, 20),
    ("imagenet-preresnet34", "lif", (3, 224, 224), 1000, 21_799_836, 36),
    ("imagenet-preresnet50", "if", (3, 224, 224), 1000, 25_559_212, 52),
]


def spec(shape=(3, 8, 8), classes=5, kind="static") -> DataSpec:
    return DataSpec("made-up", shape, tuple(str(i) for i in range(classes)), kind)  # type: ignore[arg-type]


def small(neuron="if", T=4, **options) -> DsrClassifier:
    settings = {"channels": 4, "blocks": (1, 1), "threshold": None, **options}
    if neuron == "relu":
        T = 1
    torch.manual_seed(0)
    return build(DsrNetwork(name="preresnet18", T=T, neuron=neuron, **settings), spec())  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "neuron", "shape", "classes", "count", "thresholds"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name, neuron, shape, classes, count, thresholds):
    kind = "events" if shape[0] == 2 else "static"
    network = DsrNetwork(name=name, T=1 if neuron == "relu" else 2, neuron=neuron)
    with torch.device("meta"):
        net = build(network, spec(shape, classes, kind))
    assert sum(p.numel() for p in net.parameters()) == count
    assert len(net.spiking) == thresholds


@pytest.mark.parametrize("neuron", ["if", "lif"])
def test_every_parameter_learns(neuron):
    net = small(neuron, threshold=1.0 if neuron == "if" else 0.1)
    images = torch.linspace(-2, 2, 6 * 3 * 64).view(6, 3, 8, 8).sin() * 2
    net.loss(net(images), torch.tensor([0, 1, 2, 3, 4, 0])).backward()
    # A bias ahead of BatchNorm shifts its mean only, and one threshold may saturate nowhere.
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in silent if not n.endswith(("bias", "threshold"))] == []


@pytest.mark.parametrize("neuron", ["if", "lif"])
def test_votes_are_the_terms_of_the_scores(neuron):
    net = small(neuron, T=6, threshold=0.5 if neuron == "if" else 0.05).eval()
    with torch.no_grad():
        output = net(torch.randn(3, 3, 8, 8) * 2)
        short = small(neuron, T=3, threshold=0.5 if neuron == "if" else 0.05).eval()
        first = short(torch.zeros(3, 3, 8, 8))
    assert output.votes is not None and first.votes is not None
    assert output.votes.shape == (6, 3, 5) and first.votes.shape == (3, 3, 5)
    torch.testing.assert_close(output.votes.sum(0), output.scores)


@pytest.mark.parametrize("neuron", ["if", "lif"])
def test_first_votes_of_a_long_run_decide_like_a_short_run(neuron):
    threshold = 0.5 if neuron == "if" else 0.05
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2
    long = small(neuron, T=7, threshold=threshold).eval()
    short = small(neuron, T=3, threshold=threshold).eval()
    with torch.no_grad():
        votes, scores = long(images).votes, short(images).scores
    assert votes is not None and scores.any()
    part = votes[:3].sum(0)
    torch.testing.assert_close(part / part.sum(), scores / scores.sum())


def test_an_image_equals_the_same_frame_at_every_step():
    network = DsrNetwork(name="preresnet18", T=3, neuron="if", channels=4, blocks=(1,))
    image = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    nets = []
    for kind in ("static", "events"):
        torch.manual_seed(0)
        nets.append(build(network, spec((3, 4, 4), kind=kind)))
    once, frames = nets
    a, b = once(image), frames(image.repeat(3, 1, 1, 1, 1))
    torch.testing.assert_close(a.scores, b.scores)
    for (name, x), (_, y) in zip(once.named_buffers(), frames.named_buffers(), strict=True):
        torch.testing.assert_close(x, y, msg=name)


def test_an_ann_has_the_names_of_its_spiking_network():
    ann, snn = small("relu"), small("if")
    assert ann.state_dict().keys() == {
        name for name in snn.state_dict() if not name.endswith("threshold")
    }
    assert ann(torch.randn(2, 3, 8, 8)).votes is None


def test_optimizer_steps_leave_thresholds_at_their_bound():
    net = small("if", threshold_bound=0.5)
    with torch.no_grad():
        net.spiking[0].threshold.fill_(-1.0)
    net.after_step()
    assert net.spiking[0].threshold.item() == 0.5


def test_threshold_gradient_can_be_the_published_sum_over_processes(monkeypatch):
    import torch.distributed as dist

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    for how, factor in (("mean", 1.0), ("sum", 3.0)):
        net = small("if", threshold_reduction=how)
        net.spiking[0].threshold.grad = torch.tensor(2.0)
        net.before_step()
        assert net.spiking[0].threshold.grad == 2.0 * factor


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({"name": "preresnet18", "T": 2}, spec((3, 20, 20)), "multiple of 32"),
        ({"name": "vgg11", "T": 2}, spec((3, 16, 16)), "halves its input 5 times"),
        ({"name": "vgg11", "T": 2}, spec((700,), kind="events"), "takes samples"),
        ({"name": "vgg11", "T": 1, "neuron": "relu"}, spec((2, 48, 48), kind="events"), "images"),
    ],
)
def test_networks_that_do_not_fit_their_data_are_refused(settings, data, message):
    with pytest.raises(ConfigError, match=message):
        build(DsrNetwork(**settings), data)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("neuron=relu", "set T = 1"),
        ("blocks=[]", "at least one stage"),
        ("threshold=0.0001", "threshold_bound"),
        ("network=resnet", "preresnet18"),
        ("alpha=2", "alpha"),
    ],
)
def test_impossible_recipes_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("dsr/cifar10-preresnet18-lif", [override])


# recipe -> T, threshold, alpha, bound, lr, epochs, batch
SETTINGS = {
    "dsr/cifar10-preresnet18-lif": (20, 0.3, 0.3, 5e-4, 0.1, 200, 128),
    "dsr/cifar10-preresnet18-if": (20, 6.0, 0.5, 0.01, 0.1, 200, 128),
    "dsr/cifar100-preresnet18-lif": (20, 0.3, 0.3, 5e-4, 0.1, 200, 128),
    "dsr/cifar100-preresnet18-if": (20, 6.0, 0.5, 0.01, 0.1, 200, 128),
    "dsr/cifar10-dvs-vgg11-lif": (20, 0.3, 0.3, 5e-4, 0.05, 300, 128),
    "dsr/cifar10-dvs-vgg11-if": (20, 6.0, 0.5, 0.01, 0.05, 300, 128),
    "dsr/cifar10-t5-lif": (5, 0.6, 0.5, 0.001, 0.05, 200, 128),
    "dsr/cifar10-t5-if": (5, 6.0, 0.5, 0.01, 0.05, 200, 128),
    "dsr/imagenet-snn-if": (50, None, 0.5, 0.01, 1e-3, 90, 144),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_published_settings(name):
    recipe = load_recipe(name)
    network = recipe.network
    assert isinstance(network, DsrNetwork)
    assert (
        network.T,
        network.threshold,
        network.alpha,
        network.threshold_bound,
        recipe.optimizer.lr,
        recipe.training.epochs,
        recipe.data.batch_size,
    ) == SETTINGS[name]
    assert recipe.schedule.name == "cosine" and recipe.schedule.T_max == recipe.training.epochs
    assert recipe.schedule.warmup_steps == (5000 if "imagenet" in name else 400)
    assert network.delta_t == (0.1 if name == "dsr/cifar10-t5-lif" else 0.05)


def test_all_recipes_survive_being_written():
    names = [name for name in recipe_names() if name.startswith("dsr/")]
    assert set(SETTINGS) < set(names) and "dsr/imagenet-ann" in names
    for name in names:
        assert parse(dump(load_recipe(name))) == load_recipe(name)


def _published(net: DsrClassifier, prefix: str = "module.") -> dict[str, torch.Tensor]:
    return {
        prefix + name.removeprefix("body.").replace("threshold", "Vth"): torch.randn_like(value)
        if value.is_floating_point()
        else value + 7
        for name, value in net.state_dict().items()
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_checkpoints_are_read(tmp_path, prefix):
    net, path = small("lif"), tmp_path / "model.pth"
    state = _published(net, prefix)
    torch.save({"epoch": 3, "state_dict": state, "acc": 91.0}, path)
    found = methods()["dsr"].read_checkpoint(path, net)
    net.load_state_dict(found)
    for name, value in state.items():
        ours = "body." + name.removeprefix(prefix).replace("Vth", "threshold")
        assert torch.equal(net.state_dict()[ours], value)


def test_checkpoints_with_fixed_thresholds_keep_ours(tmp_path):
    net, path = small("lif"), tmp_path / "model.pth"
    torch.save({n: v for n, v in _published(net).items() if not n.endswith("Vth")}, path)
    found = read_checkpoint(path, net)
    assert found["body.relu1.threshold"] == net.state_dict()["body.relu1.threshold"]


def test_checkpoints_of_another_network_are_refused(tmp_path):
    net, path = small("lif"), tmp_path / "model.pth"
    state = _published(net)
    state["module.extra"] = torch.zeros(1)
    del state["module.conv1.weight"]
    state["module.linear.bias"] = torch.zeros(9)
    torch.save({"state_dict": state}, path)
    with pytest.raises(CheckpointError, match=r"lacks body.conv1.weight; .*body.extra.*\[9\]"):
        read_checkpoint(path, net)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read as saved tensors"):
        read_checkpoint(path, net)


def test_published_threshold_files_are_read(tmp_path):
    path = tmp_path / "resnet18_Vth.dict"
    torch.save({"storein1": torch.tensor(2.0), "layer2[1].storein2": (torch.tensor(3.0),)}, path)
    assert read_thresholds(path) == {"relu1": 2.0, "layer2.1.relu2": 3.0}
    torch.save({"threshold1": 2.0}, path)
    with pytest.raises(CheckpointError, match="'threshold1'"):
        read_thresholds(path)
