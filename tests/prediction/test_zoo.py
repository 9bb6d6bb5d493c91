"""The networks that come with the package, and the figures of their cards."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import spikeloom as sl
from spikeloom import zoo
from spikeloom.data import registry
from spikeloom.errors import DataError, RunError
from spikeloom.training import evaluate

BUNDLED = ("digits", "digits-events")


def check(card: zoo.Card) -> None:
    found = evaluate(f"zoo/{card.name}")
    assert found.samples == card.samples
    # another processor rounds sums in another order: a sample or two in a thousand may differ
    assert abs(found.accuracy - card.accuracy_b) * card.samples <= max(1, card.samples / 1000)
    assert found.firing_rates == pytest.approx(card.firing_rates, abs=1e-3)
    assert found.operations.picojoule == pytest.approx(card.picojoule, rel=0.01)


@pytest.mark.parametrize("name", [n for n in zoo.names() if zoo.card(n).data in BUNDLED])
def test_a_card_of_bundled_data_holds(name: str) -> None:
    check(zoo.card(name))


@pytest.mark.timeout(900)  # recordings are prepared where no cache of them is
@pytest.mark.data
@pytest.mark.parametrize("name", [n for n in zoo.names() if zoo.card(n).data not in BUNDLED])
def test_a_card_of_real_data_holds(name: str) -> None:
    card = zoo.card(name)
    try:
        registry.load(card.data)
    except DataError as error:
        pytest.skip(str(error))
    check(card)


def test_there_is_one_of_every_method_and_all_are_small() -> None:
    cards = [zoo.card(name) for name in zoo.names()]
    assert {card.method for card in cards} == {"plif", "glif", "ide", "dsr", "fs"}
    assert sum(path.stat().st_size for path in zoo.FOLDER.iterdir()) < 3_000_000
    for card in cards:
        for path in zoo.FOLDER.glob(f"{card.name}.*"):
            assert b"/work" not in path.read_bytes() and b"/home" not in path.read_bytes()
        with safe_open(zoo.FOLDER / f"{card.name}.safetensors", "pt") as file:
            assert f'origin = "{card.recipe}"' in file.metadata()["recipe"]


def test_one_predicts_begins_a_training_and_is_told_when_unknown(tmp_path: Path) -> None:
    image = registry.load("digits").test.read(torch.tensor([0]))[0]
    answer = sl.load("zoo/plif-digits", backend="eager").predict(image)[0]
    assert answer.name in map(str, range(10))
    changes = {"start": "zoo/plif-digits", "epochs": "1", "T_max": "1", "threads": "1"}
    result = sl.train("plif/digits", out=tmp_path / "run", changes=changes)
    assert result.best.test_accuracy > 0.9  # from random weights it is half of that
    with pytest.raises(RunError, match=r'zoo/plif-digit is none .* did you mean "plif-digits"'):
        sl.load("zoo/plif-digit")


def test_a_file_that_is_not_that_of_its_card_is_refused(tmp_path: Path, monkeypatch) -> None:
    for name in ("plif-digits.json", "plif-digits.safetensors"):
        (tmp_path / name).write_bytes((zoo.FOLDER / name).read_bytes())
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    zoo._checked.cache_clear()
    assert zoo.located("zoo/plif-digits").parent == tmp_path
    with (tmp_path / "plif-digits.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    zoo._checked.cache_clear()
    with pytest.raises(RunError, match="damaged"):
        zoo.located("zoo/plif-digits")
    zoo._checked.cache_clear()
