"""Recipes from files: `extends`, merging, and the error texts."""

from pathlib import Path

import pytest

from spikeloom.config.loading import Library, dump, load, parse
from spikeloom.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a file into the working folder; its name is then a path that messages show as given."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def errors(library: Library, recipe: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(recipe, overrides, library)
    return str(caught.value).splitlines()


def test_recipe_by_name(library: Library):
    recipe = load("toy/digits", (), library)
    assert (recipe.origin, recipe.title, recipe.training.epochs) == ("toy/digits", "digits", 3)
    assert recipe.network == library.networks["toy"](T=4)
    assert [step.kind for step in recipe.data.augment] == ["affine", "flip"]
    assert recipe.published == {"A": 98.5}


def test_recipe_by_path(library: Library, write):
    path = write("mine.toml", library.recipes["toy/digits"].read_text())
    assert load(path, (), library).origin == "mine"


def test_extending_merges_tables_and_replaces_everything_else(library: Library, write):
    write("base.toml", 'extends = "toy/digits"\n[data]\nbatch_size = 8\n[optimizer]\nlr = 1\n')
    child = write(
        "child.toml",
        'extends = "base.toml"\ntitle = "child"\n[data]\naugment = [{ kind = "crop" }]\n'
        "[training]\nclip_norm = 1.0\n",
    )
    recipe = load(child, (), library)
    assert recipe.title == "child" and recipe.origin == "child"
    assert recipe.data.name == "digits" and recipe.data.batch_size == 8
    assert [step.kind for step in recipe.data.augment] == ["crop"]
    assert recipe.optimizer.lr == 1.0
    assert (recipe.training.epochs, recipe.training.clip_norm) == (3, 1.0)


def test_extended_file_is_looked_for_beside_the_extending_one(library: Library, write):
    write("sub/base.toml", 'extends = "toy/digits"\ntitle = "base"\n')
    child = write("sub/child.toml", 'extends = "base.toml"\n')
    assert load(child, (), library).title == "base"


def test_none_takes_back_an_inherited_value(library: Library, write):
    write("base.toml", 'extends = "toy/digits"\n[training]\nclip_norm = 1.0\n')
    child = write("child.toml", 'extends = "base.toml"\n[training]\nclip_norm = "none"\n')
    assert load(child, (), library).training.clip_norm is None


def test_published_figures_are_not_inherited(library: Library, write):
    child = write("child.toml", 'extends = "toy/digits"\npublished = { B = 97.0 }\n')
    assert load(child, (), library).published == {"B": 97.0}


@pytest.mark.parametrize(
    ("override", "kept"),
    [("epochs=9", True), ("protocol=B", True), ("T=4", True), ("T=5", False), ("data=x", False)],
)
def test_published_figures_hold_for_the_network_and_data_as_written(library, override, kept):
    assert bool(load("toy/digits", [override], library).published) is kept


def test_a_resolved_recipe_loads_again_from_its_file(library: Library, write):
    recipe = load("toy/digits", ["T=7", "v_reset=none", "clip_norm=0.5"], library)
    again = load(write("recipe.toml", dump(recipe)), (), library)
    assert again == recipe
    assert again.origin == "toy/digits"


def test_parse_names_its_source(library: Library):
    with pytest.raises(ConfigError) as caught:
        parse('method = "toy"\nextends = "x"\n', library, "runs/1/recipe.toml")
    assert str(caught.value).splitlines() == [
        "runs/1/recipe.toml: title: missing, expected text, not empty",
        "runs/1/recipe.toml: data: missing, expected a table",
        "runs/1/recipe.toml: training: missing, expected a table",
        "runs/1/recipe.toml: extends: unknown key; known: callbacks, checkpoint, data, logging, "
        "loss, method, network, notes, optimizer, protocol, published, schedule, seed, start, "
        "title, training",
    ]


def test_unknown_recipe(library: Library):
    assert errors(library, "toy/digit") == [
        'toy/digit: unknown recipe; did you mean "toy/digits"? (or give the path of a .toml file)'
    ]


def test_missing_file(library: Library, write):
    assert errors(library, "away.toml") == [
        "away.toml: cannot read the recipe: No such file or directory"
    ]


def test_missing_extended_file(library: Library, write):
    child = write("child.toml", 'extends = "away.toml"\n')
    assert errors(library, child) == [
        "child.toml: extends: away.toml: no such file "
        "(the name is relative to the file that extends it)"
    ]


def test_unknown_extended_recipe(library: Library, write):
    child = write("child.toml", 'extends = "toy/digts"\n')
    assert errors(library, child) == [
        'child.toml: extends: toy/digts: unknown recipe; did you mean "toy/digits"? '
        "(or give the path of a .toml file)"
    ]


def test_extends_of_another_type(library: Library, write):
    child = write("child.toml", "extends = 3\n")
    assert errors(library, child) == [
        'child.toml: extends: got 3, expected a recipe name or "file.toml"'
    ]


def test_circle_of_extends(library: Library, write):
    write("a.toml", 'extends = "b.toml"\n')
    write("b.toml", 'extends = "c.toml"\n')
    write("c.toml", 'extends = "a.toml"\n')
    assert errors(library, "a.toml") == [
        "a.toml: extends runs in a circle: a.toml -> b.toml -> c.toml -> a.toml; remove one extends"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('title = "a"\n[data\n', "line 2: not valid TOML: Expected ']' at the end of a table"),
        ("seed =", "line 1: not valid TOML: Invalid value"),
        ("a = 1\na = 2\n", "line 2: not valid TOML: Cannot overwrite a value"),
    ],
)
def test_toml_syntax(library: Library, write, text: str, expected: str):
    (line,) = errors(library, write("bad.toml", text))
    assert line.startswith(f"bad.toml: {expected}")


def test_bytes_that_are_not_text(library: Library, write):
    assert errors(library, write("bad.toml", b"\x89PNG")) == [
        "bad.toml: not a TOML file: byte 0 is not UTF-8"
    ]


def test_unknown_method(library: Library, write):
    path = write("m.toml", 'extends = "toy/digits"\nmethod = "tyo"\n[network]\nanything = 1\n')
    assert errors(library, path) == ['m.toml: method: unknown method "tyo"; did you mean "toy"?']


def test_unknown_keys_are_named_with_the_nearest(library: Library, write):
    path = write(
        "k.toml",
        'extends = "toy/digits"\nepochs = 3\n[training]\nepoch = 4\n[network]\ntua = 3.0\n'
        '[data]\naugment = [{ kind = "affine", degres = 3 }]\n',
    )
    assert errors(library, path) == [
        'k.toml: network.tua: unknown key; did you mean "network.tau"?',
        'k.toml: data.augment[0].degres: unknown key; did you mean "data.augment[0].degrees"?',
        'k.toml: training.epoch: unknown key; did you mean "training.epochs"?',
        'k.toml: epochs: unknown key; did you mean "training.epochs"?',
    ]


def test_wrong_values_are_named_with_type_and_range(library: Library, write):
    path = write(
        "v.toml",
        'extends = "toy/digits"\nseed = -1\npublished = { A = 101, C = 3 }\ntraining = 5\n'
        "[optimizer]\nlr = 'fast'\nbetas = [1.5]\n[protocol]\nname = 'C'\n"
        "[data]\nbatch_size = true\naugment = [{ kind = 'affin' }, 3, { scale = [1, 1] }]\n"
        "[network]\nT = 0\n",
    )
    assert errors(library, path) == [
        "v.toml: network.T: got 0, expected an integer, at least 1",
        "v.toml: seed: got -1, expected an integer, at least 0",
        "v.toml: published: got { A = 101, C = 3 }, expected a table of text = number, "
        "each at least 0 and at most 100",
        "v.toml: data.batch_size: got true, expected an integer, at least 1",
        'v.toml: data.augment[0].kind: got "affin", expected one of affine, crop, flip, '
        'alternating_flip, autoaugment, cutout; did you mean "affine"?',
        "v.toml: data.augment[1]: got 3, expected a table with kind = affine, crop, flip, "
        "alternating_flip, autoaugment, cutout",
        "v.toml: data.augment[2].kind: missing, expected one of affine, crop, flip, "
        "alternating_flip, autoaugment, cutout",
        'v.toml: optimizer.lr: got "fast", expected a number, above 0',
        "v.toml: optimizer.betas: got [1.5], expected a list of 2 numbers, "
        "each at least 0 and below 1",
        'v.toml: protocol.name: got "C", expected one of A, B',
        "v.toml: training: got 5, expected a table",
    ]


def test_a_network_that_is_no_table(library: Library, write):
    path = write("n.toml", 'extends = "toy/digits"\nnetwork = 3\n')
    assert errors(library, path) == ["n.toml: network: got 3, expected a table"]


def test_settings_that_do_not_fit_together(library: Library, write):
    path = write(
        "s.toml",
        'extends = "toy/digits"\n[optimizer]\nmomentum = 0.9\n'
        '[data]\naugment = [{ kind = "affine", scale = [2.0, 1.0] }]\n',
    )
    assert errors(library, path) == [
        "s.toml: data.augment[0]: scale = [2.0, 1.0]: give the smaller factor first, "
        "scale = [1.0, 2.0]",
        's.toml: optimizer: momentum = 0.9 has no effect on adam; set name = "sgd" or remove it',
    ]


def test_each_mistake_names_the_file_that_it_is_in(library: Library, write):
    write("base.toml", 'extends = "toy/digits"\n[optimizer]\nlr = -1\n')
    child = write("child.toml", 'extends = "base.toml"\n[data]\nbatch_size = 0\n')
    assert errors(library, child, "epochs=0") == [
        "child.toml: data.batch_size: got 0, expected an integer, at least 1",
        "base.toml: optimizer.lr: got -1, expected a number, above 0",
        "override epochs=0: training.epochs: got 0, expected an integer, at least 1",
    ]
