"""Machine code on disk: found again by later processes, safe from races, strangers and damage."""

import importlib.util
import inspect
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import printed

from spikeloom.compiler import cache
from spikeloom.compiler.cpu.machine_code import MachineCode


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and a process that loaded and told nothing yet."""
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "_loaded", {})
    cache._tell_uncached.cache_clear()
    return tmp_path / "home"


# Between processes


@pytest.mark.parametrize("processes", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_later_processes_compile_nothing(start_program, tmp_path: Path, processes: int) -> None:
    """Processes race for an empty folder, four threads in each; a later one compiles nothing, and
    numba's own cache holds nothing."""
    folder = tmp_path / "made" / "when needed"
    numba = {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    racing = [start_program("kernels_once", cache=folder, **numba) for _ in range(processes)]
    results = [json.loads(printed(process)) for process in racing]
    assert len({result["digest"] for result in results}) == 1
    assert all(result["kernels"] == 2 and not result["warnings"] for result in results)
    assert sum(result["misses"] for result in results) >= 2
    last = json.loads(printed(start_program("kernels_once", cache=folder, **numba)))
    assert last == {**results[0], "hits": 2, "misses": 0}
    assert sorted(path.suffix for path in folder.rglob("*") if path.is_file()) == [".nbc"] * 2
    assert not (tmp_path / "numba").exists()


def test_a_folder_that_vanishes_under_way(start_program, tmp_path: Path) -> None:
    result = json.loads(printed(start_program("kernels_once", "remove", cache=tmp_path / "k")))
    assert result["misses"] == 2
    assert not result["warnings"]


def test_without_a_folder_kernels_are_compiled_anew(start_program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = json.loads(printed(start_program("kernels_once", cache=tmp_path / "file")))
    assert result["kernels"] == result["misses"] == 2
    (warning,) = result["warnings"]
    assert f"kernel cache {tmp_path / 'file' / 'kernels'} is not used" in warning
    assert "Set SPIKELOOM_CACHE" in warning


def test_the_named_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    assert cache.obstacle() is None and cache.folder().is_relative_to(tmp_path / "named")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "named").rglob("*"))
    assert not (tmp_path / "usual").exists()
    monkeypatch.delenv("SPIKELOOM_CACHE")
    assert cache.folder().is_relative_to(tmp_path / "usual" / "spikeloom")


# Strangers


def open_folder(place: str, mode: int) -> Callable[[Path], None]:
    return lambda home: (home / place).chmod(mode)


def replaceable(home: Path) -> None:
    home.parent.chmod(0o777)


def link_into_an_open_folder(home: Path) -> None:
    real = home.parent / "open" / "real"
    real.parent.mkdir()
    (home / "kernels").rename(real)
    (home / "kernels").symlink_to(real)
    real.parent.chmod(0o777)


def link_of_another(home: Path) -> None:
    real = home.parent / "real"
    (home / "kernels").rename(real)
    (home / "kernels").symlink_to(real)
    os.chown(home / "kernels", 12345, -1, follow_symlinks=False)


def folder_of_another(home: Path) -> None:
    os.chown(home / "kernels" / "__pycache__", 12345, -1)


def in_a_circle(home: Path) -> None:
    shutil.rmtree(home / "kernels")
    (home / "kernels").symlink_to("kernels")


PLACES = ("", "kernels", "kernels/__pycache__")
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user")


@pytest.mark.parametrize(
    "open_up",
    [
        *(pytest.param(open_folder(p, m), id=f"{p}-{m:o}") for p in PLACES for m in (0o775, 0o757)),
        *(replaceable, link_into_an_open_folder, in_a_circle),
        *(pytest.param(attack, marks=AS_ROOT) for attack in (link_of_another, folder_of_another)),
    ],
)
def test_a_folder_that_others_may_change_is_not_used(home: Path, open_up) -> None:
    """Looked at each time: also where it was opened up while this process ran."""
    cache.write("a.nbc", b"code")
    assert cache.read("a.nbc") == b"code"
    open_up(home)
    assert cache.read("a.nbc") is None
    with pytest.warns(UserWarning, match="others may write|another user|File exists"):
        cache.write("b.nbc", b"code")
    assert not list(home.rglob("b.nbc"))


def test_a_sticky_folder_and_links_of_ones_own_are_fine(home: Path) -> None:
    home.parent.chmod(0o1777)
    (home.parent / "real").mkdir(mode=0o700)
    home.symlink_to("real")
    cache.write("a.nbc", b"code")
    assert cache.read("a.nbc") == b"code"


def linked(path: Path) -> None:
    real = path.with_name("real")
    path.rename(real)
    path.symlink_to(real)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: os.truncate(path, path.stat().st_size // 2), id="cut"),
        pytest.param(lambda path: path.write_bytes(bytes(path.stat().st_size)), id="zeros"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x00"), id="last byte"
        ),
        pytest.param(
            lambda path: shutil.copy(path.with_name("b.nbc"), path), id="of another kernel"
        ),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="folder"),
        pytest.param(lambda path: (path.unlink(), os.mkfifo(path, 0o600)), id="pipe"),
        pytest.param(lambda path: path.chmod(0o666), id="writable by others"),
        pytest.param(linked, id="link"),
        pytest.param(lambda path: os.chown(path, 12345, -1), id="of another user", marks=AS_ROOT),
    ],
)
def test_a_damaged_or_strange_file_is_set_aside_and_made_again(home: Path, change) -> None:
    cache.write("a.nbc", b"some code")
    cache.write("b.nbc", b"other code")
    change(cache.folder() / "a.nbc")
    with pytest.warns(UserWarning, match=r"a\.nbc is damaged .* made again"):
        assert cache.read("a.nbc") is None
    assert os.path.lexists(cache.folder() / "a.damaged")
    cache.write("a.nbc", b"some code")
    assert cache.read("a.nbc") == b"some code" and cache.read("b.nbc") == b"other code"


def test_what_numba_cannot_use_is_set_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, with a right sum, and nothing that numba wrote."""
    from numba.core.registry import cpu_target

    kept = MachineCode(test_what_numba_cannot_use_is_set_aside)
    name = kept._name((), cpu_target.target_context.codegen())
    cache.write(name, b"no pickle")
    with pytest.warns(UserWarning, match="made again"):
        assert kept.load_overload((), cpu_target.target_context) is None


def test_a_full_disk_is_told_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    cache.write("a.nbc", b"some code")
    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="No space left on device") as told:
        cache.write("b.nbc", b"code")
        cache.write("c.nbc", b"code")
    assert len(told) == 1
    assert os.listdir(cache.folder()) == ["a.nbc"]


# The text


def test_a_module_runs_once_and_its_lines_are_found(home: Path) -> None:
    module = cache.load("def run():\n    return 3\n")
    assert cache.load("def run():\n    return 3\n") is module
    assert sys.modules[module.__name__] is module
    assert inspect.getsource(module.run) == "def run():\n    return 3\n"
    assert not home.exists()


def test_the_name_depends_on_everything_that_makes_the_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = cache.key("text")
    assert cache.key("text") == name
    assert cache.key("other text") != name
    monkeypatch.setattr(cache, "fingerprint", lambda: "another numba")
    assert cache.key("text") != name
    monkeypatch.undo()
    for helper in ("cpu/mathlib.py", "cpu/jit.py", "gpu/mathlib.py"):
        folder = tmp_path / helper.replace("/", "-")
        shutil.copytree(Path(cache.__file__).parent, folder)
        with (folder / helper).open("a") as file:
            file.write("# changed\n")
        spec = importlib.util.spec_from_file_location("changed_cache", folder / "cache.py")
        assert spec is not None and spec.loader is not None
        changed = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(changed)
        assert changed.fingerprint() != cache.fingerprint(), helper


def test_without_a_home_the_folder_is_this_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    for name in ("SPIKELOOM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    root = Path(tempfile.gettempdir()) / f"spikeloom-{os.getuid()}"
    assert cache.folder().is_relative_to(root)
