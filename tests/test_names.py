"""Names are nouns of what they hold: words that could hold anything are bound nowhere in src."""

import ast
from collections.abc import Iterator
from pathlib import Path

import spikeloom

ROOT = Path(spikeloom.__file__).parent
WORDS = {"found", "own", "wanted", "one", "told", "said", "asked", "meant", "begun"}
WORDS |= {"thing", "things"}


def bound(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of all that is bound: variables, parameters, attributes, functions, imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name
            case _:
                pass


def test_names_are_nouns_of_what_they_hold() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {name}: use the noun of what it holds"
        for path in sorted(ROOT.rglob("*.py"))
        for line, name in bound(ast.parse(path.read_text("utf-8")))
        if name.strip("_") in WORDS
    ]
    assert not faults, "\n".join(faults)


def test_every_kind_of_binding_is_seen() -> None:
    code = "def one(own, *told): self._found = (said := 1); import a as thing; [0 for asked in ()]"
    code += "\ntry: 0\nexcept E as begun: 0\nself.things: int = 1\nwanted, (*meant,) = 1, 2"
    assert {name.strip("_") for _, name in bound(ast.parse(code))} == WORDS
