"""`make figures`: the figures of README's table whose data come with the package, measured again.

Each such row has its recipe and the overrides that repeat its figure; a difference of a hundredth
of a percent is a failure. On another machine, matrix products may round in another way: then a
figure may differ by a sample or two.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import spikeloom as sl
from spikeloom.methods.catalog import load_recipe

README = Path(__file__).parents[1] / "README.md"
ROW = re.compile(
    r"\|[^|]*\| `(?P<recipe>\w+/digits(-events)?)` "
    r"\|[^|]*\| (?P<figure>\d+\.\d+) \| `(?P<how>[^`]*)` \|"
)


def rows(text: str) -> list[tuple[str, list[str], float]]:
    """(recipe, overrides, accuracy in percent) of every row that needs no other data."""
    return [
        (match["recipe"], match["how"].split(), float(match["figure"]))
        for match in ROW.finditer(text)
    ]


def main() -> int:
    wrong = 0
    for recipe, overrides, printed in rows(README.read_text(encoding="utf-8")):
        load_recipe(recipe, overrides)  # a mistake in the table is told before anything runs
        start = time.perf_counter()
        changes = dict(text.split("=", 1) for text in overrides)
        with tempfile.TemporaryDirectory() as folder:
            result = sl.train(recipe, out=Path(folder) / "run", changes=changes)
        measured = round(100 * result.best.test_accuracy, 2)
        same = measured == printed
        wrong += not same
        verdict = "as printed" if same else f"README says {printed:.2f}"
        command = " ".join(["spikeloom train", recipe, *overrides])
        print(f"{command}: {measured:.2f} in {time.perf_counter() - start:.0f} s, {verdict}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
