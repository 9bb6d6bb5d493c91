"""What takes part in a training: it does what it says, and a run with it is as exact as without."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor

from spikeloom.components.callbacks import Callback, Training
from spikeloom.config.schema import CallbackConfig
from spikeloom.config.section import _registered, register
from spikeloom.data.base import Batch
from spikeloom.errors import ConfigError, RunError
from spikeloom.run.checkpoint import read
from spikeloom.training import evaluate, resume, train
from spikeloom.training.trainer import Trainer

from .conftest import TinyClassifier, recorded


def test_the_average_is_what_is_evaluated_and_kept(recipe, screen, tmp_path, monkeypatch):
    seen: list[dict[str, Tensor]] = []
    step = Trainer.train_step

    def watched(self: Trainer, batches: list[Batch]) -> Any:
        result = step(self, batches)
        seen.append({k: v.clone() for k, v in self.classifier.state_dict().items()})
        return result

    monkeypatch.setattr(Trainer, "train_step", watched)
    full = recipe("epochs=1", 'callbacks=[{ kind = "ema", decay = 0.75 }]')
    run = train(full, tmp_path / "run", console=screen.console).folder
    expected = seen[0]["first.weight"]
    for state in seen[1:]:
        expected = expected * 0.75 + state["first.weight"] * 0.25
    kept = load_file(run / "weights.safetensors")
    torch.testing.assert_close(kept["first.weight"], expected)
    assert kept["norm.num_batches_tracked"] == len(seen)
    # the checkpoint goes on from the raw weights, evaluations use the average
    assert torch.equal(
        read(run / "checkpoints/last.pt")["model"]["first.weight"], seen[-1]["first.weight"]
    )
    recorded_accuracy = recorded(run)[-1]["best"]["test_accuracy"]
    assert evaluate(run).accuracy == recorded_accuracy


def test_a_training_ends_when_nothing_becomes_better(recipe, screen, tmp_path):
    stop = 'callbacks=[{ kind = "early_stopping", patience = 2 }]'
    full = recipe("epochs=40", stop, "lr=1e-9", "every_epochs=7")
    result = train(full, tmp_path / "run", console=screen.console)
    assert result.epochs < 40
    assert "no better epoch in the 2 after epoch" in screen.text
    # a finished run answers its result, also after it was stopped early
    assert resume(tmp_path / "run", console=screen.console).epochs == result.epochs
    assert read(tmp_path / "run/checkpoints/last.pt")["epoch"] == result.epochs


def test_fewer_time_steps_first_and_all_of_them_in_evaluations(
    recipe, screen, tmp_path, monkeypatch
):
    steps: list[tuple[bool, int]] = []
    forward = TinyClassifier.forward

    def noted(self: TinyClassifier, inputs: Tensor) -> Any:
        steps.append((self.training, self.time_steps))
        return forward(self, inputs)

    monkeypatch.setattr(TinyClassifier, "forward", noted)
    full = recipe("epochs=3", 'callbacks=[{ kind = "time_curriculum", epochs = 2 }]')
    train(full, tmp_path / "run", console=screen.console)
    assert {t for training, t in steps if not training} == {2}
    of_training = [t for training, t in steps if training]
    assert of_training == [1] * (2 * len(of_training) // 3) + [2] * (len(of_training) // 3)
    with pytest.raises(ConfigError, match="this network has 2 time steps"):
        long = recipe('callbacks=[{ kind = "time_curriculum", steps = [1, 8] }]')
        train(long, tmp_path / "long", console=screen.console)


def test_mixtures_keep_the_mean_and_weigh_both_labels(recipe, screen, tmp_path, monkeypatch):
    batches: list[tuple[Batch, Batch]] = []
    from spikeloom.components.callbacks import _Mixup

    change = _Mixup.change

    def noted(self: _Mixup, training: Training, batch: Batch) -> Batch:
        batches.append((batch, change(self, training, batch)))
        return batches[-1][1]

    monkeypatch.setattr(_Mixup, "change", noted)
    train(
        recipe("epochs=1", 'callbacks=[{ kind = "mixup" }]'),
        tmp_path / "run",
        console=screen.console,
    )
    for before, after in batches:
        assert 0.5 <= after.share <= 1 and after.other is not None
        assert sorted(after.other.tolist()) == sorted(before.targets.tolist())
        torch.testing.assert_close(after.inputs.mean(0), before.inputs.mean(0))
    assert len({after.share for _, after in batches}) == len(batches)


@pytest.fixture
def outside():
    """A callback of another package: noise on the inputs that grows with the steps done."""

    class Counting(Callback):
        def __init__(self) -> None:
            self.steps = 0

        def change(self, training: Training, batch: Batch) -> Batch:
            return replace(batch, inputs=batch.inputs + 0.01 * self.steps)

        def after_step(self, training: Training) -> None:
            self.steps += 1

        def state(self) -> dict[str, Any]:
            return {"steps": self.steps}

        def load(self, state: dict[str, Any]) -> None:
            self.steps = state["steps"]

    @register
    class Drift(CallbackConfig):
        """A drift of the inputs."""

        kind: str = Field(default="drift", description="drift of the inputs")

        def build(self) -> Callback:
            return Counting()

    yield
    del _registered[CallbackConfig]["drift"]


def test_a_callback_from_outside_is_saved_and_resumed(outside, recipe, screen, tmp_path):
    from run_folders import assert_same_run

    drift = ('callbacks=[{ kind = "drift" }]', "checkpoint.every_steps=2")
    whole = train(recipe(*drift), tmp_path / "whole", console=screen.console).folder
    plain = train(recipe(), tmp_path / "plain", console=screen.console).folder
    assert not torch.equal(
        load_file(whole / "weights.safetensors")["first.weight"],
        load_file(plain / "weights.safetensors")["first.weight"],
    )
    train(recipe("epochs=1", *drift), tmp_path / "cut", console=screen.console)
    resume(tmp_path / "cut", epochs=3, console=screen.console)
    assert_same_run(tmp_path / "cut", whole)


def test_a_silent_layer_is_told_or_ends_the_run(install, recipe, screen, tmp_path):
    class Silent(TinyClassifier):
        def forward(self, inputs: Tensor) -> Any:
            self.hidden(torch.zeros(1, len(inputs), 6))
            return super().forward(inputs * 0)

    def silent(network: Any, data: Any) -> Silent:
        classifier = Silent(network, data)
        torch.nn.init.constant_(classifier.norm.bias, -9.0)
        return classifier

    install(silent)
    train(recipe("epochs=1", "lr=1e-9"), tmp_path / "run", console=screen.console)
    assert "no neuron of hidden" in screen.text
    with pytest.raises(RunError, match=r"no neuron of hidden.*training.watch = stop"):
        train(recipe("epochs=1", "lr=1e-9", "watch=stop"), tmp_path / "b", console=screen.console)
