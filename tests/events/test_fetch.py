"""Downloads against a server on this machine: resumed, checked, never half there."""

import hashlib
import http.server
import re
import threading
from pathlib import Path

import pytest

from spikeloom.data import fetch
from spikeloom.data.sets.event_source import EVENT_SETS
from spikeloom.errors import DataError

CONTENT = bytes(range(256)) * 4096
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `cut` breaks each connection after that many bytes."""

    cut: int | None = None
    ranges = True
    status = 0
    asked: list[int]

    def do_GET(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and self.ranges else 0
        type(self).asked.append(start)
        if self.status:
            self.send_error(self.status)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) if self.cut is None else min(start + self.cut, len(CONTENT))
        self.wfile.write(CONTENT[start:end])

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        handler.url = f"http://127.0.0.1:{running.server_address[1]}/file.zip"
        yield handler
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_checked_and_not_fetched_again(server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = tmp_path / "a" / "file.zip"
    for _ in range(2):
        fetch.download(server.url, path, SHA, lambda *now: told.append(now))
    assert path.read_bytes() == CONTENT and server.asked == [0]
    assert told[-1] == ("file.zip", len(CONTENT), len(CONTENT))
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_connection_is_resumed_where_it_broke(server, tmp_path: Path) -> None:
    server.cut = 300_000
    path = fetch.download(server.url, tmp_path / "file.zip", SHA)
    assert path.read_bytes() == CONTENT
    assert server.asked == [0, 300_000, 600_000, 900_000]


def test_what_an_earlier_call_left_is_used(server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    path = fetch.download(server.url, tmp_path / "file.zip", SHA)
    assert server.asked == [1000] and path.read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_only_checked(server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert fetch.download(server.url, tmp_path / "file.zip", SHA).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    assert fetch.download(server.url, tmp_path / "file.zip", SHA).read_bytes() == CONTENT


def test_a_wrong_check_sum_leaves_no_file(server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 00"):
        fetch.download(server.url, tmp_path / "file.zip", "md5:" + "00" * 16)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_that_is_there_is_named_and_kept(server, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"file\.zip is there, but has sha256"):
        fetch.download(server.url, tmp_path / "file.zip", SHA)
    assert (tmp_path / "file.zip").read_bytes() == b"mine" and server.asked == []


def test_without_a_published_check_sum_the_first_download_sets_it(server, tmp_path: Path) -> None:
    path = fetch.download(server.url, tmp_path / "file.zip")
    noted = (tmp_path / "file.zip.sha256").read_text().split()
    assert noted == [SHA.removeprefix("sha256:"), "file.zip"]
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="is there, but"):
        fetch.download(server.url, path)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_of_the_server_is_told(server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(DataError, match=f"answers {status}"):
        fetch.download(server.url, tmp_path / "file.zip", SHA)


def test_no_connection_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match="no connection"):
        fetch.download("http://127.0.0.1:9/file.zip", tmp_path / "file.zip", SHA)


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(DataError, match="http"):
        fetch.download(secret.as_uri(), tmp_path / "file.zip")


def test_a_full_disk_is_told_before_the_transfer(server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: type("U", (), {"free": 10}))
    with pytest.raises(DataError, match="are free"):
        fetch.download(server.url, tmp_path / "file.zip", SHA)


def test_get_lays_the_files_out_as_the_reader_expects(server, tmp_path: Path, monkeypatch) -> None:
    remotes = {"shd": (fetch.Remote(server.url, "SHD/shd_train.h5.zip", SHA),)}
    monkeypatch.setattr(fetch, "REMOTES", remotes)
    assert fetch.get("shd", tmp_path) == (tmp_path / "SHD" / "shd_train.h5.zip",)


@pytest.mark.parametrize("events", EVENT_SETS, ids=lambda events: events.name)
def test_what_cannot_be_downloaded_names_the_manual_step(events, tmp_path: Path) -> None:
    if events.name in fetch.REMOTES:
        assert all(
            remote.path.startswith(events.folder + "/") for remote in fetch.REMOTES[events.name]
        )
        return
    with pytest.raises(DataError) as caught:
        fetch.get(events.name, tmp_path)
    assert events.bundled or events.obtain in str(caught.value)
