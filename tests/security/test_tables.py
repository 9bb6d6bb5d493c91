"""Every row of the pages' tables of what was attacked has a test that is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"


@pytest.mark.parametrize(
    ("page", "section"), [("security.md", "What was attacked"), ("reliability.md", "Odd places")]
)
def test_every_row_names_a_test(page: str, section: str) -> None:
    text = (DOCS / page).read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 8
    functions = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    for row in rows:
        tests = re.findall(r"`([^`]+)`", row.rstrip("| ").rpartition("|")[2])
        assert tests, row
        for test in tests:
            known = test in functions or (TESTS.parent / test).exists() or test == "make fuzz"
            assert known, f"{page}: there is no {test}"
