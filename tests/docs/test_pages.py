"""What the documentation shows works as printed.

Python blocks of a page run in order, in one namespace; a `text` block that follows one is what it
prints. Commands name verbs, options, recipes and keys that exist; TOML blocks are recipes.
"""

import contextlib
import importlib.util
import io
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the comment on the line above it, if any."""

    page: str
    line: int
    language: str
    text: str
    note: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    pattern = r"(?:^<!-- (?P<note>.*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
    content = page.read_text("utf-8")
    for match in re.finditer(pattern, content, re.MULTILINE | re.DOTALL):
        line = content.count("\n", 0, match.start()) + 1
        note = match["note"] or ""
        found.append(Block(page.name, line, match["language"], match["text"], note))
    return found


BLOCKS = {page.name: blocks_of(page) for page in PAGES}


def every(*languages: str) -> list[Block]:
    return [block for blocks in BLOCKS.values() for block in blocks if block.language in languages]


def test_every_block_says_what_it_is():
    allowed = {"python", "sh", "toml", "text"}
    others = [block for blocks in BLOCKS.values() for block in blocks]
    assert [str(block) for block in others if block.language not in allowed] == []


def same(printed: str, shown: str) -> bool:
    """Equal words; numbers may differ a little from one processor to another."""
    number = r"-?\d+(?:\.\d+)?"
    if re.sub(number, "#", printed).split() != re.sub(number, "#", shown).split():
        return False
    pairs = zip(re.findall(number, printed), re.findall(number, shown), strict=True)
    return all(abs(float(a) - float(b)) <= max(0.02, 0.03 * abs(float(b))) for a, b in pairs)


def with_python(page: str) -> bool:
    return any(block.language == "python" for block in BLOCKS[page])


@pytest.fixture
def one_thread():
    """Tests share the machine; the text is about results, not speed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("page", [page for page in BLOCKS if with_python(page)])
@pytest.mark.usefixtures("one_thread")
def test_python_blocks_run_and_print_what_is_shown(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    following = [*BLOCKS[page][1:], None]
    for block, after in zip(BLOCKS[page], following, strict=True):
        if block.language != "python":
            continue
        package = block.note.partition("needs ")[2]
        if package and importlib.util.find_spec(package) is None:
            continue  # where the package is installed, the block runs
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block.text, str(block), "exec"), namespace)
        if after is not None and after.language == "text":
            assert same(out.getvalue(), after.text), f"{block} printed:\n{out.getvalue()}"


def check_benchmark(arguments: list[str]) -> None:
    """A module of the benchmarks, or `benchmarks` with one of its families and its options."""
    from benchmarks.__main__ import app

    module, *arguments = arguments
    if module != "benchmarks":
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()
        return
    families: Any = typer.main.get_command(app)
    families.commands[arguments[0]].make_context("benchmarks", arguments[1:])


WRONG = "wrong on purpose"


def commands() -> list[tuple[str, str]]:
    """Every line of a `sh` block that is a command, without its comment and its environment."""
    found = []
    for block in every("sh"):
        if block.note == WRONG:
            continue
        for line in block.text.splitlines():
            bare = re.sub(r"\s+#.*", "", line).strip()
            while re.match(r"[A-Z_]+=\S* ", bare):
                bare = bare.partition(" ")[2].strip()
            if bare:
                found.append((str(block), bare))
    return found


@pytest.mark.parametrize(("place", "command"), commands())
def test_commands_are_ones_that_exist(place: str, command: str):
    program, *arguments = shlex.split(command)
    match program:
        case "spikeloom":
            check_verb(arguments)
        case "torchrun":
            start = arguments.index("spikeloom")
            assert arguments[start - 1] == "-m"
            check_verb(arguments[start + 1 :])
        case "make":
            rules = (ROOT / "Makefile").read_text("utf-8")
            assert all(re.search(rf"^{target}:", rules, re.MULTILINE) for target in arguments)
        case "python" if not arguments[0].startswith("-"):
            assert (ROOT / arguments[0]).exists()
        case "benchmarks/gpu.sh":
            assert (ROOT / program).exists()
        case "python" if arguments[1].startswith("benchmarks"):
            check_benchmark(arguments[1:])
        case "python" | "git" | "cd" | "source" | "tensorboard" | "cat" | "export" | "curl":
            pass
        case "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
            named = re.findall(r"\[(\w+)\]", command)
            assert set(named) <= set(extras["project"]["optional-dependencies"])
        case _:
            pytest.fail(f"{place}: nothing here knows how to check {command!r}")


def test_mistakes_are_answered_as_shown():
    from spikeloom.errors import ConfigError
    from spikeloom.methods import catalog

    wrong = [block for block in every("sh") if block.note == WRONG]
    assert wrong
    for block in wrong:
        after = BLOCKS[block.page][BLOCKS[block.page].index(block) + 1]
        _, verb, recipe, *overrides = shlex.split(block.text, comments=True)
        assert verb == "train"
        with pytest.raises(ConfigError) as caught:
            catalog.load_recipe(recipe, overrides)
        lines = str(caught.value).splitlines()
        assert [f"error: {line}" for line in lines] == after.text.splitlines()


def check_verb(arguments: list[str]) -> None:
    """The verb and its options exist; a recipe, its keys, and a data set are known."""
    from spikeloom.cli.app import app
    from spikeloom.data import source
    from spikeloom.methods import catalog

    command: Any = typer.main.get_command(app)
    path = []
    if ">" in arguments:  # into a file
        arguments = arguments[: arguments.index(">")]
    while hasattr(command, "commands"):
        if not arguments or arguments[0].startswith("-"):
            command.make_context("spikeloom", list(arguments), resilient_parsing=True)
            return
        name, *arguments = arguments
        assert name in command.commands, f"no verb {name!r}"
        command = command.commands[name]
        path.append(name)
    values = command.make_context(" ".join(path), list(arguments)).params
    if values.get("recipe") and path[0] != "recipes" and not values["recipe"].endswith(".toml"):
        catalog.load_recipe(values["recipe"], values.get("overrides") or ())
    if path[0] == "data" and values.get("name") and "/" not in values["name"]:
        source(values["name"])


@pytest.mark.parametrize("block", every("toml"), ids=str)
def test_recipes_in_the_text_are_good(block: Block, tmp_path: Path):
    from spikeloom.methods import catalog

    path = tmp_path / "mine.toml"
    path.write_text(block.text, "utf-8")
    catalog.load_recipe(path)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in PAGES if f"- {page.name}" not in text] == []
