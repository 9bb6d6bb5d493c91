"""The package has layers: each imports only from those below it."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import spikeloom

ROOT = Path(spikeloom.__file__).parent
LAYERS = [
    *(
        "version",
        "lazy",
        "errors",
        "suggest",
        "files",
        "units",
        "machine",
        "cache_home",
        "seeding",
        "progress",
    ),
    *("zoo", "extensions", "processes", "config"),
    *("data", "compiler", "neurons", "synapses", "hooks", "nn", "components", "analysis"),
    *(
        "methods",
        "run",
        "evaluation",
        "training",
        "prediction",
        "speedrun",
        "front",
        "plot",
        "report",
    ),
    *("exchange", "loop", "compat", "cli"),
]
"""Lowest first."""

MODULES = sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The packages of spikeloom that a module imports, at the top or inside a function."""
    package = list(path.relative_to(ROOT).parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "spikeloom":
            names |= {f"spikeloom.{name.name}" for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names.add(".".join(["spikeloom", *base, *filter(None, [node.module])]))
    parts = [name.split(".") for name in names if name.startswith("spikeloom.")]
    return {part[1] for part in parts} & set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_imports_only_from_layers_below(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if layer not in LAYERS:
        return
    above = [name for name in imported(path) if LAYERS.index(name) > LAYERS.index(layer)]
    assert not above, f"{layer} imports {', '.join(above)}, which are layers above it"


def test_no_imports_run_in_a_circle() -> None:
    """Those for types alone and those inside functions included."""
    names: dict[str, Path] = {}
    for path in MODULES:
        parts = ("spikeloom", *path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = path

    def of_module(path: Path) -> set[str]:
        imports: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    imports.add(whole if whole in names else node.module or "")
            elif isinstance(node, ast.Import):
                imports |= {alias.name for alias in node.names}
        return imports & names.keys()

    graph = {name: of_module(path) - {name} for name, path in names.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def test_every_package_has_a_layer() -> None:
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert packages <= set(LAYERS), f"no layer for {packages - set(LAYERS)}"


def test_methods_do_not_import_each_other() -> None:
    folders = [path.name for path in (ROOT / "methods").iterdir() if path.is_dir()]
    for folder in folders:
        for path in (ROOT / "methods" / folder).rglob("*.py"):
            text = path.read_text()
            others = [name for name in folders if name != folder]
            named = [name for name in others if f"spikeloom.methods.{name}" in text]
            assert not named, f"{path} names the method {named[0]}"


def test_importing_the_package_does_not_load_torch() -> None:
    code = "import sys, spikeloom; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_two_modules_share_the_name_of_a_class() -> None:
    """But the two targets of the compiler, which are alike on purpose."""
    modules: dict[str, set[str]] = {}
    for path in MODULES:
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(("compiler/cpu/", "compiler/gpu/")):
            place = "compiler's targets"
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name[0] != "_":
                modules.setdefault(node.name, set()).add(place)
    assert {name: places for name, places in modules.items() if len(places) > 1} == {}
