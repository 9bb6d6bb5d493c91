"""Kernels on disk: found again by later processes, safe from races, strangers, and deletion."""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from processes import printed

from spikeloom.compiler import cache


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(cache, "_loaded", {})
    return tmp_path


def choose_folder(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Path:
    """The folder that a process with these variables would use."""
    for name in ("SPIKELOOM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return cache.folder.__wrapped__()


def test_later_processes_compile_nothing(start_program, tmp_path: Path) -> None:
    """Two processes race for an empty folder, four threads in each; a third compiles nothing."""
    folder = tmp_path / "made" / "when needed"
    both = [start_program("kernels_once", cache=folder) for _ in range(2)]
    first, second = (json.loads(printed(process)) for process in both)
    assert first["digest"] == second["digest"]
    assert first["kernels"] == second["kernels"] == 2
    assert first["misses"] + second["misses"] >= 2
    assert not first["warnings"] and not second["warnings"]
    third = json.loads(printed(start_program("kernels_once", cache=folder)))
    assert third == {**first, "hits": 2, "misses": 0}
    assert not [name for name in os.listdir(folder / "kernels") if name.startswith(".new-")]


def test_a_folder_that_vanishes_under_way(start_program, tmp_path: Path) -> None:
    result = json.loads(printed(start_program("kernels_once", "remove", cache=tmp_path / "k")))
    assert result["misses"] == 2
    assert not result["warnings"]


def test_a_folder_that_cannot_be_made_is_replaced(start_program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    process = start_program("kernels_once", cache=tmp_path / "file", TMPDIR=str(tmp_path))
    result = json.loads(printed(process))
    assert result["kernels"] == 2
    (warning,) = result["warnings"]
    assert f"kernel cache {tmp_path / 'file' / 'kernels'} is not used" in warning
    assert "Set SPIKELOOM_CACHE" in warning


def test_the_named_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "named"
    usual = tmp_path / "usual"
    found = choose_folder(monkeypatch, SPIKELOOM_CACHE=str(named), XDG_CACHE_HOME=str(usual))
    assert found == named / "kernels" and found.is_dir() and not usual.exists()
    assert found.stat().st_mode & 0o077 == 0
    found = choose_folder(monkeypatch, XDG_CACHE_HOME=str(usual))
    assert found == usual / "spikeloom" / "kernels"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused(
    mode: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    with pytest.warns(UserWarning, match="others may write to it"):
        found = choose_folder(monkeypatch, SPIKELOOM_CACHE=str(shared))
    assert found != shared / "kernels"
    assert found.stat().st_mode & 0o077 == 0
    shutil.rmtree(found)


def test_a_folder_of_another_user_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    if tmp_path.stat().st_uid == 0:
        # root's folders are trusted; another's is not
        os.chown(tmp_path, 12345, -1)
    with pytest.warns(UserWarning, match="it belongs to another user"):
        found = choose_folder(monkeypatch, SPIKELOOM_CACHE=str(tmp_path))
    assert found != tmp_path / "kernels"
    shutil.rmtree(found)


def test_a_read_only_folder_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    access = os.access
    # root may write anywhere, so permission is taken away here and not on the disk
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    with pytest.warns(UserWarning, match="it cannot be written"):
        found = choose_folder(monkeypatch, SPIKELOOM_CACHE=str(tmp_path))
    assert found != tmp_path / "kernels"
    shutil.rmtree(found)


def test_a_module_is_written_once_and_imported_once(own_folder: Path) -> None:
    first = cache.load("run = 1\n")
    (path,) = own_folder.glob("*.py")
    stamp = path.stat().st_mtime_ns
    assert cache.load("run = 1\n") is first
    cache._loaded.clear()
    assert cache.load("run = 1\n").run == 1
    assert path.stat().st_mtime_ns == stamp, "numba keeps its code only while the file is unchanged"
    assert cache.load("run = 2\n").run == 2
    assert len(list(own_folder.glob("*.py"))) == 2


def test_a_damaged_module_is_written_anew(own_folder: Path) -> None:
    cache.load("run = 1\n")
    (path,) = own_folder.glob("*.py")
    path.write_text("run =")
    cache._loaded.clear()
    assert cache.load("run = 1\n").run == 1


def test_a_folder_deleted_between_two_kernels(own_folder: Path) -> None:
    cache.load("run = 1\n")
    shutil.rmtree(own_folder)
    assert cache.load("run = 2\n").run == 2
    assert own_folder.stat().st_mode & 0o077 == 0


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


def test_modules_are_found_by_name_while_they_run(own_folder: Path) -> None:
    module = cache.load("run = 3\n")
    assert sys.modules[module.__name__] is module
