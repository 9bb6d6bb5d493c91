"""Starting from weights, going on for longer, and threads that do not share random numbers."""

import threading
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from run_folders import assert_same_run
from spikeloom.data import registry
from spikeloom.data.loader import Loader
from spikeloom.errors import CheckpointError, ConfigError, RunError
from spikeloom.run.checkpoint import read
from spikeloom.training import resume, train
from spikeloom.training.trainer import Trainer

from .conftest import TinyClassifier, recorded


@pytest.fixture
def first(recipe, screen, tmp_path):
    return train(recipe("epochs=2"), tmp_path / "first", console=screen.console).folder


def begun(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights with which each training begins."""
    seen: list[dict[str, torch.Tensor]] = []
    epoch = Trainer.train_epoch

    def noted(self: Trainer) -> None:
        if self.position.global_step == 0:
            seen.append({k: v.clone() for k, v in self.classifier.state_dict().items()})
        epoch(self)

    monkeypatch.setattr(Trainer, "train_epoch", noted)
    return seen


@pytest.mark.parametrize("file", ["", "weights.safetensors", "checkpoints/best.pt"])
def test_weights_of_another_run(first, recipe, screen, tmp_path, monkeypatch, file):
    seen = begun(monkeypatch)
    train(recipe(f"start={first / file}"), tmp_path / "run", console=screen.console)
    weights = load_file(first / "weights.safetensors")
    assert all(torch.equal(seen[0][name], value) for name, value in weights.items())
    assert f"starting from {first / file}" in screen.text


def test_other_classes_get_a_new_head(first, install, recipe, screen, tmp_path, monkeypatch):
    def wider(network: Any, data: Any) -> TinyClassifier:
        classifier = TinyClassifier(network, replace(data, classes=tuple("abcde")))
        return classifier

    monkeypatch.setattr(
        Trainer, "finish_epoch", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    seen = begun(monkeypatch)
    install(wider)
    with pytest.raises((KeyboardInterrupt, IndexError, RuntimeError)):
        train(recipe(f"start={first}"), tmp_path / "run", console=screen.console)
    assert "second.weight, second.bias begin anew ([3, 6] there, [5, 6] here)" in screen.text
    kept = load_file(first / "weights.safetensors")["first.weight"]
    assert not seen or torch.equal(seen[0]["first.weight"], kept)


def test_weights_that_do_not_fit_are_refused_with_no_run_begun(first, recipe, screen, tmp_path):
    with pytest.raises(CheckpointError, match="start: nowhere does not exist"):
        train(recipe("start=nowhere"), tmp_path / "a", console=screen.console)
    assert not (tmp_path / "a").exists()
    (first / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="is damaged"):
        train(recipe(f"start={first}"), tmp_path / "b", console=screen.console)


def test_frozen_parameters_and_statistics_stay_and_are_resumed(first, recipe, screen, tmp_path):
    frozen = ("start={ name = '%s', freeze = ['first.*', 'norm.*'] }" % first,)  # noqa: UP031
    whole = train(recipe(*frozen), tmp_path / "run", console=screen.console).folder
    before, after = (load_file(run / "weights.safetensors") for run in (first, whole))
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {name for name in before if name.startswith(("first", "norm"))} <= same
    assert "second.weight" not in same
    train(recipe("epochs=1", *frozen), tmp_path / "cut", console=screen.console)
    resume(tmp_path / "cut", epochs=3, console=screen.console)
    assert_same_run(tmp_path / "cut", whole)


@pytest.mark.parametrize(
    ("pattern", "text"), [("conv.*", "no parameter matches"), ("*", "nothing")]
)
def test_patterns_that_cannot_be_meant(recipe, screen, tmp_path, pattern, text):
    with pytest.raises(ConfigError, match=text):
        train(recipe(f"start.freeze=['{pattern}']"), tmp_path / "run", console=screen.console)


def rates(run: Any) -> list[float]:
    return [event["lr"] for event in recorded(run) if event["event"] == "epoch"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("keep", [1.0, 0.5, 0.0, 0.5]),  # the wave rises again
        ("stretch", [1.0, 0.5, 0.5, 0.1464466]),
        ("restart", [1.0, 0.5, 1.0, 0.5]),
    ],
)
def test_more_epochs_and_their_learning_rates(recipe, screen, tmp_path, how, expected):
    cosine = ("schedule=cosine", "T_max=2", "epochs=2", "lr=1.0")
    run = train(recipe(*cosine), tmp_path / "run", console=screen.console).folder
    resume(run, epochs=4, schedule=how, console=screen.console)
    assert rates(run) == pytest.approx(expected)
    assert read(run / "checkpoints/last.pt")["recipe"] == (run / "recipe.toml").read_text()
    resume(run, console=screen.console)  # answers its result


def test_a_change_of_schedule_that_is_killed_is_a_change_not_made(
    recipe, screen, tmp_path, monkeypatch
):
    cosine = ("schedule=cosine", "T_max=2", "epochs=2")
    run = train(recipe(*cosine), tmp_path / "run", console=screen.console).folder
    before = (run / "recipe.toml").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume(run, epochs=4, schedule="stretch", console=screen.console)
    assert (run / "recipe.toml").read_text() == before
    assert resume(run, console=screen.console).epochs == 2


def test_what_would_change_the_past_is_refused(first, screen):
    with pytest.raises(RunError, match=r"optimizer.lr cannot change .* start=.*first"):
        resume(first, overrides=["lr=0.5"], console=screen.console)
    assert resume(first, overrides=["epochs=3", "watch=off"], console=screen.console).epochs == 3


def test_a_changed_data_set_is_told(first, screen):
    tiny = registry.source("tiny")
    load = type(tiny).load

    def changed(self: Any, *given: Any) -> Any:
        data = load(self, *given)
        data.train.inputs[0] += 1
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tiny), "load", changed)
        resume(first, epochs=3, console=screen.console)
    assert "the data set is not the one that this run began with" in screen.text


def test_balanced_sampling_draws_every_class_alike():
    from spikeloom.data.base import TensorSplit

    labels = torch.tensor([0] * 90 + [1] * 10)
    split = TensorSplit(torch.zeros(100, 1, 1, 1, dtype=torch.uint8), labels)
    loader = Loader(split, 10, shuffle=True, balanced=True)
    drawn = torch.cat([labels[loader.order(epoch)] for epoch in range(20)])
    assert 0.46 < drawn.double().mean() < 0.54
    assert torch.equal(loader.order(3), loader.order(3))


def test_runs_in_threads_do_not_share_random_numbers(recipe, screen, tmp_path):
    full = recipe("logging.every_steps=1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [
            threading.Thread(
                target=train, args=(full, tmp_path / str(i)), kwargs={"console": screen.console}
            )
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i in (1, 2):
        assert_same_run(tmp_path / str(i), tmp_path / "0")
    assert any("waiting for it" in str(warning.message) for warning in caught)
