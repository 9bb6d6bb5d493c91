"""Lists in the pages that are made from the code: `python docs/pages.py [--check]`.

What stands between `<!-- made: NAME -->` and `<!-- end -->` is written by the function of that
name: the public names of `api.md`, and the methods of `methods.md`. `--check` writes nothing and
fails where a page is stale. On the site each name of `api.md` has its whole docstring.
"""

import ast
import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
METHODS = DOCS.parent / "src" / "spikeloom" / "methods"

SECTIONS = {
    "Neurons and surrogates": ["spikeloom.neurons", "spikeloom.testing"],
    "The step compiler": ["spikeloom.compiler"],
    "Layers": ["spikeloom.nn"],
    "Synapses": ["spikeloom.synapses"],
    "Inference": ["spikeloom.nn.inference"],
    "Data": ["spikeloom.data"],
    "Recipes and methods": [
        "spikeloom.methods.catalog",
        "spikeloom.methods.base",
        "spikeloom.config.schema",
        "spikeloom.config.data",
        "spikeloom.config.section",
    ],
    "Training and evaluation": ["spikeloom.training"],
    "A loop of one's own": ["spikeloom.loop"],
    "From a notebook": ["spikeloom.front", "spikeloom.prediction"],
    "Export": ["spikeloom.exchange"],
    "Analysis": ["spikeloom.analysis"],
    "Figures": ["spikeloom.plot"],
    "Reports": ["spikeloom.report"],
    "From other libraries": ["spikeloom.compat.peers", "spikeloom.compat.spikingjelly"],
    "Errors": ["spikeloom.errors"],
}
"""The modules whose public names make a section of `api.md`."""

ALIASES = {
    "Backend": "Who runs a neuron: auto, eager, cpu, gpu.",
    "State": "What a neuron carries from one step to the next: a tuple of tensors `[B, ...]`.",
    "CheckpointName": "Which weights of a run: best, last, previous.",
}
"""Public names that are types without a docstring of their own."""


def public(module: str) -> list[str]:
    """The public names of a module: its `__all__`, or the classes and functions it defines."""
    package = importlib.import_module(module)
    listed = getattr(package, "__all__", None)
    if listed is not None:
        return sorted(listed, key=str.lower)
    defined = [
        name
        for name, value in vars(package).items()
        if name[0] != "_" and getattr(value, "__module__", "") == module and callable(value)
    ]
    return sorted(defined, key=str.lower)


def sentence(module: str, name: str) -> str:
    """The first sentence of a name's docstring, in one line."""
    value = getattr(importlib.import_module(module), name)
    text = ALIASES.get(name) or inspect.getdoc(value) or ""
    if inspect.ismodule(value):
        text = value.__doc__ or ""
    first = " ".join(text.partition("\n\n")[0].split())
    first = re.split(r"(?<=[.])\s", first)[0].rstrip(":")
    return first.replace("|", r"\|")


def api() -> str:
    lines = []
    for title, modules in SECTIONS.items():
        lines += [f"## {title}", "", "| name | what it is |", "|---|---|"]
        lines += [
            f"| `{module}.{name}` | {sentence(module, name)} |"
            for module in modules
            for name in public(module)
        ]
        lines.append("")
    return "\n".join(lines).strip()


def methods() -> str:
    folders = sorted(file.parent for file in METHODS.glob("*/__init__.py"))
    return "\n\n".join(map(_method, folders))


def _method(folder: Path) -> str:
    about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    name, _, what = " ".join(about.strip().partition("\n\n")[0].split()).partition(": ")
    lines = [f"## {name}", "", what[:1].upper() + what[1:]]
    recipes = sorted(folder.glob("recipes/[!_]*.toml"))
    if recipes:
        head = "| recipe | title | data set | published A | published B |"
        lines += ["", head, "|---|---|---|---|---|", *(_row(folder.name, path) for path in recipes)]
    if (folder / "README.md").exists():
        page = f"../src/spikeloom/methods/{folder.name}/README.md"
        lines += ["", f"[Equations, networks, choices, figures of {name}]({page})"]
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
        return _inherited(METHODS / method / "recipes" / f"{name}.toml", section, key)
    return _inherited(path.parent / parent, section, key)


def ledger() -> str:
    """What of SpikingJelly is not served: docs/compat.md."""
    from spikeloom.compat.spikingjelly import UNSUPPORTED

    rows = [f"| `{name}` | {why} |" for name, why in UNSUPPORTED.items()]
    return "\n".join(["| not served | instead, or why |", "|---|---|", *rows])


def served() -> str:
    """What of SpikingJelly is served, by version: docs/compat.md."""
    from spikeloom.compat.spikingjelly.dialects import DIALECTS
    from spikeloom.compat.spikingjelly.hook import modules

    rows = []
    for version, dialect in DIALECTS.items():
        parts = modules(version)
        nodes = [n for n in parts["neuron"] if n.endswith("Node") and not n.startswith("Base")]
        short = ", ".join(n.removesuffix("Node") for n in nodes if not n.startswith("MultiStep"))
        many = "yes" if any(n.startswith("MultiStep") for n in nodes) else ""
        surrogates = sum(n[0].isupper() and "Base" not in n for n in parts["surrogate"])
        layers = len(parts["layer"])
        rows.append(
            f"| {version} | {dialect.package} | {short} | {many} | {surrogates} | {layers} |"
        )
    head = "| version | package | neurons (`...Node`) | `MultiStep...` | surrogates | layers |"
    return "\n".join([head, "|---|---|---|---|---:|---:|", *rows])


MADE = {"api": api, "methods": methods, "ledger": ledger, "served": served}
PAGES = [DOCS / f"{name}.md" for name in ("api", "methods", "compat")]
_BLOCK = re.compile(r"<!-- made: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def filled(text: str) -> str:
    """A page with its lists written anew."""
    return _BLOCK.sub(lambda m: f"<!-- made: {m[1]} -->\n\n{MADE[m[1]]()}\n\n<!-- end -->", text)


def main(check: bool) -> int:
    stale = [page for page in PAGES if filled(page.read_text("utf-8")) != page.read_text("utf-8")]
    for page in stale:
        print(f"{page.name}: {'stale, run python docs/pages.py' if check else 'written'}")
        if not check:
            page.write_text(filled(page.read_text("utf-8")), "utf-8")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
