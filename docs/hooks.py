"""Pages of the methods, made from their folders: a method that is added brings its own page.

`methods/<name>.md` is the README of the method's folder, and the line `<!-- methods -->` of
`methods.md` becomes a section for each: what it is, its recipes with their published figures, and
a link to its page.
"""

import ast
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FOLDERS = Path(__file__).parents[1] / "src" / "spikeloom" / "methods"
MARK = "<!-- methods -->"


def _folders() -> list[Path]:
    return sorted(file.parent for file in FOLDERS.glob("*/__init__.py"))


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the README of each method as a page, and the pages to the navigation."""
    pages = []
    for folder in _folders():
        readme = folder / "README.md"
        if readme.exists():
            page = f"methods/{folder.name}.md"
            files.append(File.generated(config, page, content=readme.read_text("utf-8")))
            pages.append(page)
    for section in config["nav"]:
        for entries in section.values() if isinstance(section, dict) else ():
            if "methods.md" in entries:
                after = entries.index("methods.md") + 1
                entries[after:after] = pages
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the sections of the methods in the place of the mark."""
    return markdown.replace(MARK, "\n\n".join(map(_section, _folders())))


def _section(folder: Path) -> str:
    about = (
        ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    ).strip()
    name, _, what = " ".join(about.partition("\n\n")[0].split()).partition(": ")
    lines = [f"## {name}", "", what[:1].upper() + what[1:]]
    recipes = sorted(folder.glob("recipes/[!_]*.toml"))
    if recipes:
        lines += [
            "",
            "| recipe | title | data set | published A | published B |",
            "|---|---|---|---|---|",
        ]
        lines += [_row(folder.name, path) for path in recipes]
    if (folder / "README.md").exists():
        lines += [
            "",
            f"[Equations, networks, choices, figures of {name}](methods/{folder.name}.md)",
        ]
    return "\n".join(lines)


def _row(method: str, path: Path) -> str:
    recipe = tomllib.loads(path.read_text("utf-8"))
    published = recipe.get("published", {})
    figures = [f"{published[key]:.2f}" if key in published else "" for key in ("A", "B")]
    data = _inherited(path, "data", "name")
    return f"| `{method}/{path.stem}` | {recipe['title']} | {data} | {' | '.join(figures)} |"


def _inherited(path: Path, section: str, key: str) -> str:
    """The value of a key in a recipe, or in the one that it extends."""
    recipe = tomllib.loads(path.read_text("utf-8"))
    if key in recipe.get(section, {}) or "extends" not in recipe:
        return str(recipe.get(section, {}).get(key, ""))
    parent = recipe["extends"]
    if not parent.endswith(".toml"):
        method, _, name = parent.partition("/")
        return _inherited(FOLDERS / method / "recipes" / f"{name}.toml", section, key)
    return _inherited(path.parent / parent, section, key)
