"""`key=value` overrides: names, values, and the error texts."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom.components.optimizers import Adam
from spikeloom.config.loading import Library, load
from spikeloom.config.overrides import split
from spikeloom.errors import ConfigError
from spikeloom.methods.catalog import load_recipe


def errors(library: Library, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load("toy/digits", overrides, library)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("training.epochs=7", "training", "epochs", 7),
        ("epochs=7", "training", "epochs", 7),
        (" epochs = 7 ", "training", "epochs", 7),
        ("T=9", "network", "T", 9),
        ("neuron=lif", "network", "neuron", "lif"),
        ("v_reset=none", "network", "v_reset", None),
        ("lr=1e-4", "optimizer", "lr", 1e-4),
        ("lr=.5", "optimizer", "lr", 0.5),
        ("lr=2", "optimizer", "lr", 2.0),
        ("drop_last=false", "data", "drop_last", False),
        ("drop_last=False", "data", "drop_last", False),
        ("protocol=B", "protocol", "name", "B"),
        ("data=mnist", "data", "name", "mnist"),
        ('optimizer={ name = "sgd", momentum = 0.9 }', "optimizer", "momentum", 0.9),
        ('schedule={ name = "multistep", milestones = [3] }', "schedule", "milestones", (3,)),
        ("clip_norm=none", "training", "clip_norm", None),
        ("device=cuda:1", "training", "device", "cuda:1"),
        ("root=/data/a=b", "data", "root", "/data/a=b"),
        ("root=2020", "data", "root", "2020"),
        ("root='with space'", "data", "root", "with space"),
        ("every_minutes=10", "checkpoint", "every_minutes", 10.0),
        ("logging.every_steps=1", "logging", "every_steps", 1),
    ],
)
def test_override_sets_one_field(library: Library, override, section, field, value):
    recipe = load("toy/digits", [override], library)
    assert getattr(getattr(recipe, section), field) == value


def test_an_empty_table_puts_back_the_defaults(library: Library):
    assert load("toy/digits", ["optimizer={}"], library).optimizer == Adam()
    kept = load("toy/digits", ["data.options={ split = 'sorted' }"], library)
    assert kept.data.options == {"split": "sorted"}
    assert load_recipe("glif/cifar10-dvs").data.options["split"] == "sorted"
    assert load_recipe("glif/cifar10-dvs", ["data.options={}"]).data.options == {}


def test_top_level_keys(library: Library):
    recipe = load("toy/digits", ["seed=3", "title=1e3"], library)
    assert (recipe.seed, recipe.title) == (3, "1e3")


def test_ambiguous_name_lists_the_candidates(library: Library):
    assert errors(library, "every_steps=3") == [
        "override every_steps=3: ambiguous key every_steps; "
        'write "checkpoint.every_steps" or "logging.every_steps"'
    ]


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("epoch=3", '"training.epochs"'),
        ("training.epoch=3", '"training.epochs"'),
        ("t=3", '"network.T"'),
        ("network.Tau=3", '"network.tau"'),
        ("every_step=3", '"checkpoint.every_steps" or "logging.every_steps"'),
        ("metod=toy", '"method"'),
    ],
)
def test_unknown_key_names_the_nearest(library: Library, override: str, nearest: str):
    key = override.partition("=")[0]
    assert errors(library, override) == [
        f"override {override}: unknown key {key}; did you mean {nearest}?"
    ]


def test_unknown_key_without_a_near_one_lists_the_choices(library: Library):
    assert errors(library, "training.xyz=1") == [
        "override training.xyz=1: unknown key training.xyz; known: accumulate, backend, "
        "carry_gradients, clip_norm, compile, device, epochs, evaluate_every, precision, "
        "sync_batchnorm, threads, watch"
    ]


def test_origin_is_not_for_overrides(library: Library):
    (line,) = errors(library, "origin=x")
    assert line.startswith("override origin=x: unknown key origin")


def test_wrong_value_names_type_and_range(library: Library):
    assert errors(library, "epochs=ten") == [
        'override epochs=ten: training.epochs: got "ten", expected an integer, at least 1'
    ]


def test_all_mistakes_are_reported_together(library: Library):
    assert errors(library, "epochs=0", "nonsense", "precision=fp16", "xyz=3", "device=gpu") == [
        "override nonsense: expected key=value, for example epochs=10",
        "override xyz=3: unknown key xyz; known: callbacks, checkpoint, data, logging, loss, "
        "method, network, notes, optimizer, protocol, published, schedule, seed, start, title, "
        "training",
        "override epochs=0: training.epochs: got 0, expected an integer, at least 1",
        'override device=gpu: training.device: got "gpu", '
        "expected auto (cuda if there is one), cpu, cuda, or cuda:N",
        'override precision=fp16: training.precision: got "fp16", '
        "expected one of float32, bfloat16, float16",
    ]


def test_section_without_a_name_asks_for_a_key(library: Library):
    assert errors(library, "checkpoint=often", "network=3") == [
        "override checkpoint=often: checkpoint is a section; set one of checkpoint.every_epochs, "
        "checkpoint.every_steps, checkpoint.every_minutes",
        "override network=3: network is a section; set one of network.T, network.neuron, "
        "network.tau, network.v_reset",
    ]


def test_the_same_key_twice(library: Library):
    assert errors(library, "T=3", "network.T=4") == [
        "override network.T=4: network.T is already set by T=3; keep one"
    ]


def test_unknown_method_hides_no_other_mistake(library: Library):
    assert errors(library, "method=tyo", "T=3", "epochs=0") == [
        'override method=tyo: method: unknown method "tyo"; did you mean "toy"?',
        "override epochs=0: training.epochs: got 0, expected an integer, at least 1",
    ]


@given(st.text())
def test_any_text_is_split_or_refused(text: str):
    try:
        override = split(text)
    except ConfigError as error:
        assert "expected key=value" in str(error)
    else:
        assert override.key and "=" in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(["T", "epochs", "lr", "root", "neuron", "milestones", "data"]), st.text())
def test_any_value_is_taken_or_named(library: Library, key: str, value: str):
    override = f"{key}={value}"
    try:
        load("toy/digits", [override], library)
    except ConfigError as error:
        assert str(error).startswith("override ")
        assert len(str(error).splitlines()) == 1
