"""The hybrid pipeline by files: ANN, `spikeloom calibrate`, SNN; on a folder of images."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch
from PIL import Image

from spikeloom.cli.calibrate import calibrate_run
from spikeloom.data import registry
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.evaluation.evaluation import accuracy_at_start, load_run
from spikeloom.methods.catalog import load_recipe
from spikeloom.methods.dsr.config import DsrNetwork
from spikeloom.methods.dsr.networks import build
from spikeloom.methods.dsr.thresholds import calibrate, write_thresholds
from spikeloom.report.examination import Examination
from spikeloom.report.examine import examine
from spikeloom.report.page import single
from spikeloom.run.reading import read
from spikeloom.training import evaluate, train

SMALL = [
    "training.threads=1",
    "training.backend=eager",
    "data.batch_size=32",
    "data.workers=0",
    "channels=4",
    "blocks=[1,1]",
    "logging.tensorboard=false",
    "schedule.warmup_steps=0",
    "epochs=1",
]


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory) -> Path:
    """Digits as coloured images of two classes, in ImageNet's layout."""
    root = tmp_path_factory.mktemp("images")
    digits = registry.load("digits", None)
    for split, data, per_class in (("train", digits.train, 40), ("val", digits.test, 10)):
        for label in (0, 1):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in (data.labels == label).nonzero()[:per_class, 0].tolist():
                pixels = data.read(torch.tensor([i]))[0, 0].numpy()
                Image.fromarray(pixels).convert("RGB").resize((32, 32)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def ann_run(image_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ann"
    recipe = load_recipe(
        "dsr/imagenet-ann", [*SMALL[:-1], *_images(image_folder), "T_max=6", "lr=0.05", "epochs=6"]
    )
    train(recipe, folder)
    return folder


def _images(root: Path) -> list[str]:
    return [
        "data=imagefolder",
        f"data.root={root}",
        "data.images.size=32",
        "data.images.shorter_side=32",
    ]


def test_pipeline_end_to_end(image_folder, ann_run, tmp_path):
    file = tmp_path / "thresholds.safetensors"
    ann = load_run(ann_run)
    values = calibrate_run(ann, file, batches=2, batch_size=16)
    accuracy = ann.measure(ann.classifier, "float32").accuracy
    assert accuracy > 0.5
    with safetensors.safe_open(file, "pt") as stored:  # type: ignore[attr-defined]
        assert stored.metadata()["samples"] == "32, train split, in random order"
        assert {n: float(stored.get_tensor(n)) for n in stored.keys()} == values  # noqa: SIM118

    recipe = load_recipe(
        "dsr/imagenet-snn-if",
        [*SMALL, *_images(image_folder), "T=8", f"ann={ann_run}", f"thresholds={file}"],
    )
    before = accuracy_at_start(recipe, ann)
    assert len(before) == 8 and before[-1] > 0.5
    folder = tmp_path / "snn"
    train(recipe, folder)
    after = evaluate(folder)
    assert len(after.accuracy_per_timestep) == 8
    assert after.accuracy_per_timestep[-1] == after.accuracy
    found = examine(read(folder))
    assert isinstance(found, Examination) and found.origin is not None
    assert found.origin.latency == tuple(before)
    assert found.origin.accuracy == before[-1]
    assert found.origin.source_accuracy == accuracy
    assert "before training" in single(read(folder), found)
    # The run does not need the files it started from.
    file.unlink()
    found = examine(read(folder))
    assert isinstance(found, Examination) and found.origin is not None
    assert "thresholds.safetensors does not exist" in found.origin.missing
    assert "not measured" in single(read(folder), found)
    assert evaluate(folder, timesteps=4).accuracy_per_timestep[:4] == pytest.approx(
        after.accuracy_per_timestep[:4]
    )


def test_calibration_is_the_same_each_time_and_follows_its_options(ann_run, tmp_path):
    run = load_run(ann_run)

    def values(**options) -> dict[str, float]:
        return calibrate_run(run, tmp_path / "t", batches=1, batch_size=20, **options)

    first = values()
    assert values() == first and values(seed=5) != first
    assert values(split="test", order="file") == values(split="test", order="file", seed=1)
    highest, median = values(fraction=1.0), values(fraction=0.5)
    assert all(highest[name] >= first[name] >= median[name] for name in first)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("preresnet18", "layer1.0.relu2"), ("vgg11", "layer1.2"), ("compact", "body.layers.3")],
)
def test_quantile_is_the_element_of_all_values_in_order(name, layer):
    torch.manual_seed(0)
    blocks = None if name == "compact" else (1,)
    network = DsrNetwork(name=name, T=1, neuron="relu", channels=3, blocks=blocks)
    spec = replace(registry.load("digits", None).spec, shape=(1, 16, 16))
    net = build(network, spec).eval()
    seen: list[torch.Tensor] = []
    relu = net.get_submodule(f"body.{layer}")
    relu.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten()))
    images = torch.rand(12, 1, 16, 16)
    for fraction in (0.999, 0.9, 0.25, 1.0):
        seen.clear()
        found = calibrate(net, images.split(5), 12, fraction)[layer]
        ordered = torch.cat(seen).relu().sort().values
        index = min(int(fraction * len(ordered)), len(ordered) - 1)
        assert found == ordered[index].double()


def test_the_command_prints_thresholds_and_accuracies(image_folder, ann_run):
    command = [sys.executable, "-m", "spikeloom", "calibrate", str(ann_run), "--json"]
    overrides = [*SMALL, *_images(image_folder), "T=3"]
    options = ["--batches", "1", "--batch-size", "8", "--check", "dsr/imagenet-snn-lif"]
    done = subprocess.run([*command, *options, *overrides], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["samples"] == 8 and len(answer["accuracy_before_training"]) == 3
    assert Path(answer["file"]).is_file()


def _snn(**options):
    network = DsrNetwork(name="preresnet18", T=2, neuron="lif", channels=3, blocks=(1,), **options)
    return build(network, registry.load("digits", None).spec)


def test_thresholds_of_lif_are_activations_times_delta_t(tmp_path):
    file = tmp_path / "t.safetensors"
    names = ["layer1.0.relu1", "layer1.0.relu2", "relu1", "relu2", "relu3"]
    values = {name: torch.tensor(2.0 + i).double() for i, name in enumerate(names)}
    write_thresholds(file, values, {})
    net = _snn(thresholds=str(file), delta_t=0.25)
    net.start()
    found = {name.removeprefix("body."): p for name, p in net.named_parameters()}
    for name, value in values.items():
        assert found[f"{name}.threshold"].item() == pytest.approx(float(value) / 4)

    del values["relu3"]
    write_thresholds(file, values, {})
    with pytest.raises(CheckpointError, match="not in both: relu3"):
        _snn(thresholds=str(file)).start()


@pytest.mark.parametrize("name", ["nowhere", "nowhere.safetensors", "nowhere.pth"])
def test_missing_files_are_named(tmp_path, name):
    with pytest.raises(CheckpointError, match="does not exist"):
        _snn(ann=str(tmp_path / name)).start()


def test_what_cannot_be_calibrated_is_refused(ann_run, tmp_path):
    with pytest.raises(ConfigError, match="calibrated on an ANN"):
        calibrate(_snn(), [], 1, 0.999)
    with pytest.raises(ConfigError, match="the train split of imagefolder has 80"):
        calibrate_run(load_run(ann_run), tmp_path / "t", batches=100)
    with pytest.raises(ConfigError, match="above 0, up to 1"):
        calibrate_run(load_run(ann_run), tmp_path / "t", batches=1, fraction=1.5)
