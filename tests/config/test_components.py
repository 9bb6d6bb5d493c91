"""What a recipe chooses by name: built-in, added from outside, and of runs of before."""

from typing import Any

import pytest
import torch
from pydantic import Field

from spikeloom.components.losses import CrossEntropy, MeanAbsoluteError, MeanSquaredError
from spikeloom.components.schedules import Cosine, Multistep
from spikeloom.config import fields
from spikeloom.config.data import Augmentation
from spikeloom.config.loading import Library, dump, load, parse
from spikeloom.config.schema import CallbackConfig, Loss, Optimizer, Protocol, Schedule
from spikeloom.config.section import _registered, register
from spikeloom.errors import ConfigError
from spikeloom.nn.classifier import Output


def test_every_component_explains_its_keys():
    for kind in (Optimizer, Schedule, Protocol, Loss, Augmentation, CallbackConfig):
        assert len(kind.choices()) > 1
        for name, component in kind.choices().items():
            assert component.name_of() == name and component.__doc__
            for key, info in component.model_fields.items():
                assert info.description, f"{kind.what} {name}: {key}"


def test_the_keys_are_those_of_all_components_or_of_the_chosen_one(library: Library):
    every = fields.keys(None)
    assert every["optimizer.momentum"].of == ("sgd",)
    assert every["optimizer.betas"].of == ("adam", "adamw")
    assert every["optimizer.lr"].of == ()
    chosen = fields.keys(None, load("toy/digits", ["optimizer=sgd"], library))
    assert "optimizer.momentum" in chosen and "optimizer.betas" not in chosen


def test_what_another_component_left_behind_goes_with_it(library: Library, tmp_path):
    base = tmp_path / "base.toml"
    base.write_text('extends = "toy/digits"\n[optimizer]\nname = "sgd"\nmomentum = 0.9\n')
    recipe = load(str(base), ["optimizer=adam"], library)
    assert recipe.optimizer.name == "adam"
    with pytest.raises(ConfigError, match=r"momentum = 0\.5 has no effect on adam"):
        load(str(base), ["optimizer=adam", "momentum=0.5"], library)


def test_resolved_recipes_of_before_load(library: Library):
    """Sections then held the keys of every optimizer and schedule."""
    recipe = load("toy/digits", ["optimizer=sgd", "momentum=0.9"], library)
    old = dump(recipe).replace(
        "momentum = 0.9", "momentum = 0.9\nbetas = [0.8, 0.9]\neps = 1e-8\namsgrad = false"
    )
    old = old.replace('name = "constant"', 'name = "constant"\nT_max = 20\nmilestones = []')
    assert "betas" in old and "T_max" in old
    assert parse(old, library) == recipe


@pytest.fixture
def outside():
    """An optimizer, a schedule, and an augmentation of another package."""

    @register
    class Signs(Optimizer):
        """Steps of one size (signSGD)."""

        name: str = Field(default="signs", description="update rule")
        damping: float = Field(default=0.5, ge=0, description="part of the step left out")

        def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
            return torch.optim.SGD(groups, lr=self.lr * (1 - self.damping))

    @register
    class Halving(Schedule):
        """lr / 2^e"""

        name: str = Field(default="halving", description="shape")

        def shape(self, lr: float, epoch: int) -> float:
            return lr / 2**epoch

    @register
    class Invert(Augmentation):
        """255 - x"""

        kind: str = Field(default="invert", description="the negative image")

        def apply(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return 255 - inputs

    yield
    for kind, name in ((Optimizer, "signs"), (Schedule, "halving"), (Augmentation, "invert")):
        del _registered[kind][name]


def test_components_from_outside_are_chosen_like_the_own(outside, library: Library):
    overrides = ("optimizer=signs", "damping=0.25", "schedule=halving")
    recipe = load("toy/digits", [*overrides, 'augment=[{ kind = "invert" }]'], library)
    assert parse(dump(recipe), library) == recipe
    optimizer = recipe.optimizer.build([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    assert optimizer.param_groups[0]["lr"] == 1e-3 * 0.75
    assert recipe.schedule.rate(1.0, 3) == 1 / 8
    (change,) = recipe.data.augment
    assert change.apply(torch.tensor([5]), torch.Generator()).item() == 250
    with pytest.raises(ConfigError, match=r"optimizer.damping: got -1.*at least 0"):
        load("toy/digits", ["optimizer=signs", "damping=-1"], library)
    with pytest.raises(ConfigError, match=r'optimizer.name: got "sings".*did you mean "signs"'):
        load("toy/digits", ["optimizer=sings"], library)


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ConfigError, match="there is a optimizer 'sgd' already"):

        @register
        class Other(Optimizer):
            """Another one."""

            name: str = Field(default="sgd", description="update rule")


def test_schedules_stretch_and_begin_anew():
    assert Cosine(T_max=10).stretched(1.5).T_max == 15  # type: ignore[attr-defined]
    assert Multistep(milestones=(3, 6)).stretched(2).milestones == (6, 12)  # type: ignore[attr-defined]
    anew = Cosine(T_max=10, begin=10)
    assert [anew.rate(1.0, e) for e in (10, 20)] == [1.0, 0.0]


def test_losses_against_their_formulas():
    scores = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
    labels = torch.tensor([0, 2])
    output = Output(scores)
    logs = scores.log_softmax(1)
    every = torch.tensor([0, 0, 0, 2])  # counts 3, 0, 1
    balanced = CrossEntropy(class_weights="balanced").build(None, every)  # type: ignore[arg-type]
    weights = torch.tensor([4 / 9, 4 / 3, 4 / 3])
    expected = -(weights[0] * logs[0, 0] + weights[2] * logs[1, 2]) / 2
    torch.testing.assert_close(balanced(output, labels), expected)
    plain = CrossEntropy().build(None, every)  # type: ignore[arg-type]
    torch.testing.assert_close(plain(output, labels), -(logs[0, 0] + logs[1, 2]) / 2)
    targets = torch.randn(2, 3, dtype=torch.float64)
    for loss, power in ((MeanSquaredError(), 2), (MeanAbsoluteError(), 1)):
        value = loss.build(None, targets)(output, targets)  # type: ignore[arg-type]
        difference = (scores - targets.float()).abs() ** power
        torch.testing.assert_close(value, difference.mean())
