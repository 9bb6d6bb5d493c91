"""Downloads against a server on this machine: tried again, checked, never half there."""

import hashlib
import http.server
import threading
from dataclasses import replace
from pathlib import Path

import pooch
import pytest

from spikeloom.data import fetch
from spikeloom.data.api import Remote
from spikeloom.data.registry import sources
from spikeloom.data.sets.shd import SHD
from spikeloom.errors import DataError

# pooch leaves the socket of a broken connection to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONTENT = bytes(range(256)) * 4096
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; breaks a connection after as many bytes as `cuts` has left to say."""

    cuts: list[int]
    status = 0
    words = "no"
    location = ""
    asked = 0
    remote: Remote

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.location or self.status:
            self.wfile.write(f"HTTP/1.0 {self.status or 302} {self.words}\r\n".encode())
            self.wfile.write(f"Location: {self.location}\r\n\r\n".encode())
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: self.cuts.pop() if self.cuts else None])

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Server,), {"cuts": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{running.server_address[1]}/file.zip"
        handler.remote = Remote(url, "SHD/shd_train.h5.zip", SHA)
        yield handler
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_checked_and_not_fetched_again(server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = tmp_path / "a" / "file.zip"
    for _ in range(2):
        fetch.download(server.remote, path, lambda *now: told.append(now))
    assert path.read_bytes() == CONTENT and server.asked == 1
    assert told[-1] == ("file.zip", len(CONTENT), len(CONTENT))
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_connection_is_tried_again(server, tmp_path: Path) -> None:
    server.cuts = [300_000, 10]
    assert fetch.download(server.remote, tmp_path / "file.zip").read_bytes() == CONTENT
    assert server.asked == 3


def test_tries_end(server, tmp_path: Path) -> None:
    server.cuts = [10] * 99
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch.download(server.remote, tmp_path / "file.zip")
    assert server.asked == fetch.ATTEMPTS and list(tmp_path.iterdir()) == []


def test_a_wrong_check_sum_leaves_no_file(server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not what the publisher gives"):
        fetch.download(replace(server.remote, digest="md5:" + "00" * 16), tmp_path / "file.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_that_is_there_is_named_and_kept(server, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"file\.zip is there, but has sha256"):
        fetch.download(server.remote, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == b"mine" and server.asked == 0


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_of_the_server_is_told(server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(DataError, match=f"{status}"):
        fetch.download(server.remote, tmp_path / "file.zip")


def test_no_connection_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch.download(Remote("http://127.0.0.1:9/file.zip", ""), tmp_path / "file.zip")


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(DataError, match="http"):
        fetch.download(Remote(secret.as_uri(), ""), tmp_path / "file.zip")


def test_no_other_scheme_is_followed(server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    for place in (secret.as_uri(), "ftp://127.0.0.1/x"):
        server.location = place
        with pytest.raises(DataError, match="cannot be fetched"):
            fetch.download(server.remote, tmp_path / "file.zip")


def test_the_servers_words_have_no_control_characters(server, tmp_path: Path) -> None:
    server.status, server.words = 503, "no\x1b[2Jway"
    with pytest.raises(DataError, match="503") as caught:
        fetch.download(server.remote, tmp_path / "file.zip")
    assert str(caught.value).isprintable() and "way" in str(caught.value)


def test_get_lays_the_files_out_as_the_reader_expects(server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fetch, "source", lambda name: replace(SHD, remotes=(server.remote,)))
    assert fetch.get("shd", tmp_path) == (tmp_path / "SHD" / "shd_train.h5.zip",)


@pytest.mark.parametrize("source", sources().values(), ids=lambda source: source.name)
def test_what_cannot_be_downloaded_names_the_manual_step(source, tmp_path: Path) -> None:
    if source.remotes:
        assert all(remote.path.startswith(source.folder + "/") for remote in source.remotes)
        return
    with pytest.raises(DataError) as caught:
        fetch.get(source.name, tmp_path)
    assert source.origin in str(caught.value)
