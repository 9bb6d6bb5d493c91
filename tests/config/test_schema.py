"""The schema: what it accepts and refuses, and that nothing is lost on the way through TOML."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from spikeloom.components.augmentations import Affine, Crop, Flip
from spikeloom.components.optimizers import Adam
from spikeloom.components.schedules import Multistep
from spikeloom.config import fields
from spikeloom.config.data import DataConfig, ImagesConfig
from spikeloom.config.loading import Library, dump, parse
from spikeloom.config.schema import (
    CheckpointConfig,
    LoggingConfig,
    Optimizer,
    Protocol,
    Recipe,
    Schedule,
    TrainingConfig,
)
from spikeloom.config.section import Section


class ToyNetwork(Section):
    T: int = Field(default=4, ge=1, description="time steps")
    v_reset: float | None = Field(default=0.0, description="potential after a spike; none: soft")
    name: str = Field(default="small", description="which network")


_TOYS = Library(networks={"toy": ToyNetwork}, recipes={})


def test_every_field_says_what_it_means():
    unexplained = [name for name, key in fields.keys(None).items() if not key.info.description]
    assert unexplained == []


def test_a_field_that_may_be_none_is_none_by_default():
    """A dumped recipe leaves None out; another default would come back in its place."""
    assert DataConfig(name="x").root is None
    for name, key in fields.keys(None).items():
        if type(None) in getattr(key.info.annotation, "__args__", ()):
            assert key.info.default is None, name


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (TrainingConfig, {"epochs": "3"}),
        (TrainingConfig, {"epochs": True}),
        (TrainingConfig, {"epochs": 3.0}),
        (TrainingConfig, {"epochs": 0}),
        (TrainingConfig, {"epochs": 1, "device": "gpu"}),
        (TrainingConfig, {"epochs": 1, "threads": 0}),
        (Optimizer, {"lr": "1e-3"}),
        (Optimizer, {"lr": float("nan")}),
        (Optimizer, {"lr": 0}),
        (Optimizer, {"betas": [0.9]}),
        (Optimizer, {"betas": [0.9, 1.0]}),
        (DataConfig, {"name": ""}),
        (DataConfig, {"name": "x", "drop_last": 1}),
        (Schedule, {"name": "staircase"}),
        (Protocol, {"val_ratio": 1.0}),
    ],
)
def test_wrong_types_and_values_are_refused(section: type[Section], values: dict):
    with pytest.raises(ValidationError):
        section.model_validate(values)


def test_whole_numbers_are_numbers():
    assert Optimizer.model_validate({"lr": 1}).lr == 1.0


@pytest.mark.parametrize(
    ("section", "values", "text"),
    [
        (Optimizer, {"momentum": 0.9}, 'set name = "sgd" or remove it'),
        (Optimizer, {"name": "sgd", "nesterov": True}, "momentum above 0"),
        (Schedule, {"name": "multistep"}, "needs milestones"),
        (Schedule, {"name": "multistep", "milestones": [9, 3]}, "rising order"),
        (Affine, {"scale": [1.2, 0.8]}, "scale = [0.8, 1.2]"),
    ],
)
def test_settings_without_effect_are_refused(section: type[Section], values: dict, text: str):
    with pytest.raises(ValidationError) as caught:
        section.model_validate(values)
    assert text in str(caught.value)


def test_sections_are_frozen():
    with pytest.raises(ValidationError):
        TrainingConfig(epochs=1).epochs = 2  # type: ignore[misc]


def _numbers(low: float, high: float = 1e9, **options: bool) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **options)


_AUGMENT = st.one_of(
    st.builds(Affine, degrees=_numbers(0, 180), translate=_numbers(0, 0.99)),
    st.builds(Crop, padding=st.integers(1, 99)),
    st.builds(Flip, p=_numbers(0, 1)),
)
_EPOCHS = st.lists(st.integers(1, 999), unique=True, min_size=1).map(sorted).map(tuple)
# TOML holds every Unicode scalar value; half a surrogate pair is none.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_RECIPES = st.builds(
    Recipe,
    title=_TEXT.filter(bool),
    origin=_TEXT,
    method=st.just("toy"),
    seed=st.integers(0, 2**63 - 1),
    published=st.dictionaries(st.sampled_from(["A", "B"]), _numbers(0, 100)),
    notes=_TEXT,
    data=st.builds(
        DataConfig,
        name=st.just("digits"),
        root=st.none()
        | st.just("none of it")
        | _TEXT.filter(lambda text: text not in ("", "none")),
        eval_batch_size=st.none() | st.integers(1, 999),
        augment=st.lists(_AUGMENT, max_size=3).map(tuple),
    ),
    network=st.builds(
        ToyNetwork,
        T=st.integers(1, 99),
        v_reset=st.none() | _numbers(-1e300, 1e300),
        name=st.just("none") | _TEXT,
    ),
    optimizer=st.builds(Adam, lr=_numbers(0, exclude_min=True)),
    schedule=st.builds(Multistep, milestones=_EPOCHS),
    training=st.builds(
        TrainingConfig,
        epochs=st.integers(1, 9999),
        threads=st.none() | st.integers(1, 99),
        clip_norm=st.none() | _numbers(0, exclude_min=True),
    ),
    checkpoint=st.builds(CheckpointConfig, every_minutes=st.none() | _numbers(1e-3)),
    logging=st.builds(LoggingConfig, tensorboard=st.booleans()),
)


@settings(deadline=None)
@given(_RECIPES)
def test_dump_and_parse_give_back_an_equal_recipe(recipe: Recipe):
    again = parse(dump(recipe), _TOYS)
    assert again == recipe
    assert dump(again) == dump(recipe)


def test_a_recipe_written_by_version_0_1_is_not_refused() -> None:
    """Its run folders have every default written out, `shorter_side` among them."""
    written = ImagesConfig.model_validate({"size": 224, "shorter_side": 256})
    assert written == ImagesConfig()
    assert DataConfig(name="digits", images=written).images == ImagesConfig()
    assert ImagesConfig(size=200, shorter_side=256).resized == 256
