"""Figures in the pages are those of the files in `benchmarks/results`, and follow them."""

import csv
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import pages, tables


@pytest.fixture
def figures() -> ModuleType:
    return pages


def test_pages_say_what_the_files_say(
    figures: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures.main(check=True) == 0, capsys.readouterr().out


def test_every_block_is_shown_and_every_mark_has_its_end(figures: ModuleType) -> None:
    texts = [page.read_text("utf-8") for page in figures.PAGES]
    shown = [name for text in texts for name in re.findall(r"<!-- figures: (\w+) -->", text)]
    assert sorted(shown) == sorted(figures.BLOCKS)
    ends = sum(text.count("<!-- end of figures -->") for text in texts)
    assert ends == len(shown)


def test_another_figure_in_a_file_is_another_figure_on_the_page(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    shutil.copytree(tables.RESULTS, results)
    page = tmp_path / "page.md"
    shutil.copy(figures.PAGES[0], page)
    monkeypatch.setattr(tables, "RESULTS", results)
    monkeypatch.setattr(figures, "PAGES", (page,))
    assert figures.main(check=True) == 0

    path = results / "neurons-cpu.csv"
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    rows[0]["training_copies"] = "1234.5"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert figures.main(check=True) == 1
    assert "1234.5" not in page.read_text("utf-8")  # checking writes nothing
    figures.main(check=False)
    assert "1234.5" in page.read_text("utf-8")
    assert figures.main(check=True) == 0


def test_who_has_no_figure_has_no_number() -> None:
    group = {
        "spikeloom": {"ms": "2.0", "note": ""},
        "other": {"ms": "", "note": "not timed: 3.00% of its spikes differ from the reference"},
        "half": {"ms": "6.0", "note": "its state is bfloat16, and it agrees with that loop: ..."},
        "fair": {"ms": "5.0", "note": ""},
    }
    cells = [tables.cell(group, name, "ms") for name in (*group, "nobody")]
    assert cells == ["2.0", "differs", "6.0*", "5.0", ""]
    assert tables.ratios([group], "fair", "ms") == [2.5]
    assert tables.ratios([group], "half", "ms") == []  # not ranked
    assert tables.ratios([group], "other", "ms") == []


def test_no_path_of_a_machine_is_in_a_committed_file() -> None:
    for path in tables.RESULTS.glob("*.csv"):
        text = path.read_text("utf-8")
        assert not re.search(r"/(home|root|tmp|Users|work)/", text), path.name
