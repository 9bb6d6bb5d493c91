"""A name never stands for half a file."""

import os
import threading
from pathlib import Path

import pytest

from spikeloom import files
from spikeloom.units import duration, size


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    files.write(path, "first")
    with pytest.raises(KeyError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_second_name_replaces_what_had_it(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("a")
    b.write_text("b")
    for _ in range(2):
        files.link(a, b)
        assert b.samefile(a) and sorted(tmp_path.iterdir()) == [a, b]


def test_a_lock_is_refused_to_the_second_and_free_when_the_first_is_gone(tmp_path: Path) -> None:
    second = files.locked(tmp_path / "lock", wait=False)
    with files.locked(tmp_path / "lock"), pytest.raises(BlockingIOError):
        second.__enter__()
    with files.locked(tmp_path / "lock", wait=False):
        pass


def test_links_are_replaced_and_never_followed(tmp_path: Path) -> None:
    outside, name = tmp_path / "outside", tmp_path / "run" / "name"
    outside.write_text("precious")
    name.parent.mkdir()
    name.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic links"):
        files.open_to_append(name)
    with pytest.raises(OSError, match="symbolic links"), files.locked(name):
        pass
    files.write(name, "new")
    assert not name.is_symlink() and outside.read_text() == "precious"


def test_names_as_long_as_the_system_has_them_or_no_utf8(tmp_path: Path) -> None:
    for name in (b"x" * 255, b"a\xff", "ä".encode() * 127):
        path = tmp_path / os.fsdecode(name)
        files.write(path, f"in {path.name}")
        assert path.read_bytes().startswith(b"in ")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, plain = tmp_path / "pipe", tmp_path / "plain"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.deliver(pipe, "text")
    reader.join(10)
    assert read == ["text"] and pipe.is_fifo()
    files.deliver(plain, "text")
    assert plain.read_text() == "text"
    with pytest.raises(OSError, match="not an ordinary file"):
        files.open_to_append(Path(os.devnull))


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    texts = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2", " =1", "\t=1", "plain", -2.5, None]
    files.deliver_csv(tmp_path / "a.csv", [["x"], *([text] for text in texts)])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert [line.strip('"')[:1] for line in lines[1:]] == ["'"] * 6 + ["p", "-", ""]


@pytest.mark.parametrize(
    ("seconds", "text"), [(5.26, "5.3 s"), (75, "1 min 15 s"), (7201, "2 h 00 min")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_in_words() -> None:
    assert [size(12), size(1_234_567)] == ["12 bytes", "1.23 MB"]
