"""Evaluating what is on the disk."""

import pytest
import torch

from spikeloom.data.base import DataSpec, TensorSplit
from spikeloom.data.loader import Loader
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.evaluation.measure import measure
from spikeloom.evaluation.metrics import Score, accuracy, among_best
from spikeloom.nn.classifier import Classifier, Output
from spikeloom.training import evaluate, load_run, train

from .conftest import recorded

CPU = torch.device("cpu")


def spec(classes: int) -> DataSpec:
    return DataSpec("made", (1,), tuple(map(str, range(classes))))


@pytest.fixture
def run(recipe, screen, tmp_path):
    train(recipe("epochs=6"), tmp_path / "run", console=screen.console)
    return tmp_path / "run"


def test_it_finds_what_training_reported(run):
    events = recorded(run)
    best = events[-1]["best"]
    there = next(e for e in events if e["event"] == "epoch" and e["epoch"] == best["epoch"])
    found = evaluate(run)
    assert found.epochs == best["epoch"] + 1
    assert found.samples == 11
    assert found.accuracy == best["test_accuracy"]
    assert found.loss == there["test"]["loss"]
    assert found.firing_rates == there["test"]["firing_rates"]
    assert found.confusion.tolist() == events[-1]["confusion"]
    assert len(found.accuracy_per_timestep) == 2
    assert found.operations.samples == 11
    assert {layer.layer for layer in found.operations.layers} == {"first", "second"}


def test_each_checkpoint_is_its_own_network(run):
    last = [e for e in recorded(run) if e["event"] == "epoch"][-1]
    assert evaluate(run, "last").loss == last["test"]["loss"]
    assert evaluate(run, "previous").epochs == 5


def test_noise_is_the_same_each_time_and_does_harm(run):
    quiet, noisy, again = evaluate(run), evaluate(run, noise=3.0), evaluate(run, noise=3.0)
    assert noisy.loss == again.loss
    assert noisy.loss > quiet.loss


def test_time_steps_can_be_changed(run):
    assert len(evaluate(run, timesteps=5).accuracy_per_timestep) == 5
    with pytest.raises(ConfigError, match="timesteps = 0: give 1 or more"):
        evaluate(run, timesteps=0)


def test_a_network_with_parameters_per_time_step_keeps_its_time(install, recipe, screen, tmp_path):
    class PerStep(Classifier):
        def __init__(self, network, data):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(network.T, 6, data.class_count))

        def forward(self, inputs):
            return Output(inputs.flatten(1) @ self.weight.sum(0))

    install(PerStep)
    train(recipe("epochs=1"), tmp_path / "run", console=screen.console)
    assert evaluate(tmp_path / "run").accuracy_per_timestep == []
    with pytest.raises(ConfigError, match="parameters for each of its time steps"):
        evaluate(tmp_path / "run", timesteps=3)


def test_wrong_requests_are_named(run):
    (run / "checkpoints" / "previous.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint 'previous' \(there is best, last\)"):
        evaluate(run, "previous")
    with pytest.raises(ConfigError, match="noise = -1"):
        evaluate(run, noise=-1.0)
    (run / "checkpoints" / "last.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"last\.pt is cut short"):
        evaluate(run, "last")


def test_a_checkpoint_that_does_not_fit_the_recipe_is_named(run):
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("hidden = 6", "hidden = 7"))
    with pytest.raises(CheckpointError, match="does not fit the network"):
        evaluate(run)


def test_load_run_gives_a_network_ready_to_use(run):
    loaded = load_run(run, timesteps=4)
    assert not loaded.classifier.training
    batch = next(iter(loaded.test_loader().epoch()))
    output = loaded.classifier(batch.inputs)
    assert output.votes is not None
    assert output.votes.shape == (4, 4, 3)


def test_loss_and_accuracy_are_sums_over_samples_not_means_of_means():
    class Identity(Classifier):
        def forward(self, inputs):
            return Output(inputs[:, 0, 0])

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (7, 1, 1, 3), generator=generator).to(torch.uint8)
    split = TensorSplit(images, torch.randint(0, 3, (7,), generator=generator))
    loader = Loader(split, 3, transform=lambda raw, _: raw.float())  # batches of 3, 3, 1
    classifier = Identity()
    classifier.train()
    found = measure(classifier, loader, spec=spec(3), device=CPU)
    scores = images[:, 0, 0].float()
    whole = torch.nn.functional.cross_entropy(scores, split.labels).item()
    assert found.loss == pytest.approx(whole, rel=1e-6)
    right = (scores.argmax(1) == split.labels).sum().item()
    assert found.accuracy == right / 7
    assert found.confusion.sum() == 7
    assert found.confusion.sum(1).tolist() == torch.bincount(split.labels, minlength=3).tolist()
    assert classifier.training


def test_a_tie_goes_to_the_first_class():
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
    assert accuracy(scores, torch.tensor([0, 1])) == 1.0
    score = Score(3, CPU)
    score.add(torch.tensor(0.5), scores, torch.tensor([1, 1]))
    assert score.confusion.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert score.accuracy == 0.5


def test_the_five_largest_scores_are_counted_where_there_are_more_classes():
    class Identity(Classifier):
        def forward(self, inputs):
            return Output(inputs[:, 0, 0])

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 4, (50, 1, 1, 8), generator=generator).to(torch.uint8)  # many ties
    split = TensorSplit(images, torch.randint(0, 8, (50,), generator=generator))
    loader = Loader(split, 7, transform=lambda raw, _: raw.float())
    found = measure(Identity(), loader, spec=spec(8), device=CPU)
    order = images[:, 0, 0].float().sort(dim=1, descending=True, stable=True).indices
    among = (order[:, :5] == split.labels[:, None]).any(1)
    assert 0 < among.sum() < 50
    assert found.top5_accuracy == found.to_dict()["top5_accuracy"] == among.sum().item() / 50
    fewer = TensorSplit(images[..., :5], split.labels % 5)
    few = Loader(fewer, 7, transform=lambda raw, _: raw.float())
    found = measure(Identity(), few, spec=spec(5), device=CPU)
    assert found.top5_accuracy is None and "top5_accuracy" not in found.to_dict()


def test_a_network_that_answers_nothing_has_its_label_among_the_best_as_often_as_by_chance():
    labels = torch.arange(20)
    silent = torch.zeros(20, 20)
    assert among_best(silent, labels, 5) == 5
    assert among_best(silent, labels, 1) == accuracy(silent, labels) * 20


def test_sums_go_on_where_they_were_stored():
    one, two = Score(2, CPU), Score(2, CPU)
    one.add(torch.tensor(0.25), torch.eye(2), torch.tensor([0, 1]))
    two.load(one.state())
    for score in (one, two):
        score.add(torch.tensor(0.5), torch.eye(2), torch.tensor([1, 1]))
    assert one.loss == two.loss == 0.375
    assert two.accuracy == 0.75
