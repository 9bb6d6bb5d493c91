"""api.md and methods.md are what the code says, and nothing public is missing."""

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import spikeloom

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pages", DOCS / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lists_in_the_pages_are_those_of_the_code(pages: ModuleType, capsys) -> None:
    assert pages.main(check=True) == 0, capsys.readouterr().out


def test_every_name_of_the_package_is_on_the_page() -> None:
    shown = {name.rpartition(".")[2] for name in names()}
    for name in dir(spikeloom):
        assert name in shown or name in ("__version__", *spikeloom._MODULES), name
    for module in spikeloom._MODULES:
        assert set(importlib.import_module(f"spikeloom.{module}").__all__) <= shown


@pytest.mark.parametrize("module", ["", *spikeloom._MODULES])
def test_names_complete_in_a_notebook(module: str) -> None:
    package = importlib.import_module(f"spikeloom.{module}".rstrip("."))
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name, None) is not None for name in package.__all__)


def test_every_name_on_the_page_exists_and_says_what_it_is() -> None:
    for name in names():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    text = (DOCS / "api.md").read_text("utf-8")
    assert re.findall(r"^\| `[^`]+` \|\s*\|$", text, re.MULTILINE) == []  # no empty description


def names() -> list[str]:
    text = (DOCS / "api.md").read_text("utf-8")
    return re.findall(r"^\| `(spikeloom[\w.]+)` \|", text, re.MULTILINE)
