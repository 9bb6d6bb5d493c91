"""From a recipe to frames: what a key changes, and what does not fit."""

import pytest
import torch

from spikeloom.config.data import DataConfig, FramesConfig
from spikeloom.data import registry
from spikeloom.data.base import DataSpec
from spikeloom.data.events.frame_set import normalize
from spikeloom.data.events.frames import Framing, make_framing
from spikeloom.data.events.recordings import EventSet
from spikeloom.data.events.transform import FrameTransform, choose_frames, delete_events
from spikeloom.data.for_recipe import load_data
from spikeloom.errors import ConfigError, DataError
from spikeloom.methods.catalog import build, load_recipe

BY_NUMBER = Framing(10)
WINDOWS = Framing(100, "window", 10_000, origin=0, horizon=True, empty=5, downsample=(4, 4))
PLIF = ("plif/digits-events", "plif/nmnist", "plif/cifar10-dvs", "plif/dvs128-gesture")


def test_what_a_recipe_leaves_open_is_as_usual() -> None:
    assert make_framing(FramesConfig(), BY_NUMBER, None) == BY_NUMBER
    assert make_framing(FramesConfig(), WINDOWS, 105) == WINDOWS


@pytest.mark.parametrize(
    ("keys", "usual", "steps", "expected"),
    [
        ({"by": "time"}, BY_NUMBER, 8, Framing(8, "time")),
        ({"by": "window", "dt": 2.5}, BY_NUMBER, 4, Framing(4, "window", 2500)),
        ({"by": "number"}, WINDOWS, 9, Framing(4, empty=5, downsample=(4, 4))),
        ({"dt": 5.0, "begin": "first", "horizon": False, "empty": 0, "downsample": 2}, WINDOWS, 50,
         Framing(50, "window", 5000, downsample=(2, 2))),
        ({"begin": "zero", "by": "window", "dt": 1.0}, BY_NUMBER, 3,
         Framing(3, "window", 1000, origin=0)),
        ({"empty": 4, "binary": True}, BY_NUMBER, 10, Framing(6, empty=4, binary=True)),
    ],
)  # fmt: skip
def test_keys_change_the_usual_frames(keys, usual, steps, expected) -> None:
    assert make_framing(FramesConfig(**keys), usual, steps) == expected


@pytest.mark.parametrize(
    ("keys", "usual", "steps", "text"),
    [
        ({"by": "window"}, BY_NUMBER, 4, "needs data.frames.dt"),
        ({"dt": 2.0}, BY_NUMBER, 4, "data.frames.dt has no effect on frames by number"),
        ({"by": "time", "begin": "zero"}, WINDOWS, 50, "data.frames.begin has no effect"),
        ({}, WINDOWS, 5, "no frame is left"),
        ({"choose": 9}, BY_NUMBER, 8, "data.frames.choose = 9 of network.T = 8"),
    ],
)
def test_keys_that_do_not_fit_are_named(keys, usual, steps, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_framing(FramesConfig(**keys), usual, steps)


def test_keys_of_events_are_refused_for_images() -> None:
    recipe = load_recipe("plif/digits", ["by=time", "roll=3"])
    with pytest.raises(ConfigError, match=r"data\.frames\.by, data\.frames\.roll: digits holds"):
        load_data(recipe)


def test_options_of_another_data_set_are_named() -> None:
    recipe = load_recipe("plif/digits-events", ['data.options={split="sorted"}'])
    with pytest.raises(ConfigError, match=r"data\.options\.split = 'sorted': digits-events has no"):
        load_data(recipe)


@pytest.mark.parametrize("name", PLIF)
def test_the_published_recipes_fit_their_data_sets(name: str, tmp_path) -> None:
    recipe = load_recipe(name, [f"data.root={str(tmp_path)!r}"])
    events = registry.source(recipe.data.name).events
    assert events is not None
    assert make_framing(recipe.data.frames, events.framing, recipe.network.T) == Framing(
        recipe.network.T
    )
    for key, value in recipe.data.options.items():
        assert value == events.options[key][0]
    if not events.bundled:
        with pytest.raises(DataError, match=events.layout.splitlines()[0].split("  ")[0]):
            load_data(recipe)


@pytest.mark.parametrize("how", ["none", "frequency", "max", "sum", "norm"])
@pytest.mark.parametrize("by", ["number", "time"])
def test_every_normalization_is_an_override(by: str, how: str, monkeypatch) -> None:
    asked = []

    def load(self, *given):
        asked.append(given)
        raise DataError("nothing is prepared")

    monkeypatch.setattr(EventSet, "load", load)
    with pytest.raises(DataError, match="nothing is prepared"):
        load_data(load_recipe("plif/digits-events", [f"by={by}", f"normalization={how}", "T=6"]))
    _, framing, normalization, options, *_ = asked[0]
    assert (framing, normalization, options) == (Framing(6, by), how, {})


@pytest.mark.parametrize("name", ["glif/cifar10-dvs", "dsr/cifar10-dvs-vgg11-lif"])
def test_a_network_is_built_for_frames_as_they_are_resized(name: str) -> None:
    recipe = load_recipe(
        name, ["data=digits-events", "T=4", "data.frames.resize=48", "channels=4", "backend=eager"]
    )
    options = recipe.data.model_copy(update={"options": {}})
    recipe = recipe.model_copy(update={"data": options})
    data = load_data(recipe)
    assert data.spec.shape == (2, 48, 48)
    network = build(recipe, data.spec, torch.device("cpu"))
    frames = data.test.read(torch.arange(2))
    assert frames.shape[-2:] == (16, 16)
    transform = FrameTransform(recipe.data, data.spec, training=False)
    assert network(transform(frames, torch.Generator())).scores.shape == (2, 10)


def test_random_changes_are_for_training_only() -> None:
    config = DataConfig(
        name="x",
        augment=({"kind": "crop", "padding": 2},),
        frames=FramesConfig(resize=6, roll=2, deletion=0.5, choose=2),
    )
    spec = DataSpec("x", (2, 8, 8), ("a",), "events")
    frames = torch.randint(0, 9, (3, 2, 2, 8, 8), dtype=torch.uint8)
    test, train = (FrameTransform(config, spec, training=on) for on in (False, True))
    draw = torch.Generator
    assert torch.equal(test(frames, draw()), test(frames, draw().manual_seed(5)))
    assert len(test(frames, draw())) == 3
    one, two, other = (train(frames, draw().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert one.shape == (2, 2, 2, 6, 6) and one.dtype == torch.float32


@pytest.mark.parametrize(
    ("keys", "shape", "text"),
    [
        ({"resize": 6}, (700,), "has channels"),
        ({"deletion": 0.1, "normalization": "max"}, (2, 8, 8), "leaves no counts"),
    ],
)
def test_changes_that_do_not_fit_are_named(keys, shape, text: str) -> None:
    config = DataConfig(name="x", frames=FramesConfig(**keys))
    with pytest.raises(ConfigError, match=text):
        FrameTransform(config, DataSpec("x", shape, ("a",), "events"), training=True)


def test_frames_that_are_not_there_and_no_probability_are_refused() -> None:
    frames = torch.zeros(3, 2, 2, 8, 8)
    with pytest.raises(ValueError, match="count = 4: give 1 to 3, the frames there are"):
        choose_frames(frames, 4, torch.Generator())
    with pytest.raises(ValueError, match="give a probability of deletion from 0 to 1"):
        delete_events(frames, 1.5, torch.Generator())
    with pytest.raises(ValueError, match="normalization 'odd': expected none, frequency"):
        normalize(frames, "odd", torch.ones(3))  # type: ignore[arg-type]
