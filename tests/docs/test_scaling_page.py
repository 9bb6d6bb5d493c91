"""The tables of the page about scaling are those of the measured files."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_table_is_typed_by_hand():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "docs" / "scaling_figures.py")
    assert spec and spec.loader
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = tables.PAGE.read_text("utf-8")
    assert tables.filled(text) == text
    assert re.findall(r"<!-- table: (\w+) -->", text) == list(tables.TABLES)
