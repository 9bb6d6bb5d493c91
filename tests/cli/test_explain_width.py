"""`config explain` fits the width that there is, whole and for one section."""

import pytest
from cli_runner import Run


@pytest.mark.parametrize("recipe", ["plif/mnist", "plif/nmnist", "fs/fsdd"])
@pytest.mark.parametrize("section", [(), ("data",), ("network",)])
def test_it_is_readable_at_80_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, recipe: str, section: tuple[str, ...]
):
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("config", "explain", recipe, *section)
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 80
    # an explanation of some words takes a few lines, not a ribbon of one word each
    words = len(shown.out.split())
    assert words / len(shown.out.splitlines()) > 4
    if section:
        assert f"[{section[0]}]" in shown.out and "[training]" not in shown.out
    assert ("[data.frames]" in shown.out) == (recipe != "plif/mnist" and section != ("network",))


def test_the_width_that_is_asked_for_makes_a_table(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert "meaning" in run("config", "explain", "plif/mnist", "optimizer").out.splitlines()[1]
