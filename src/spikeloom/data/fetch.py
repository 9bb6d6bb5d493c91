"""Downloads of the data sets whose publishers allow it; everything else is fetched by hand.

A download goes to `<file>.part` and is renamed when its check sum is right, so that a file under
its own name is whole. A broken connection is resumed, in the same call and in a later one. Where
the publisher gives no check sum, the SHA-256 of the first download is written beside the file and
later copies are held against it.
"""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spikeloom.data.base import Source
from spikeloom.data.files.places import ENVIRONMENT
from spikeloom.data.sets import cifar, idx
from spikeloom.errors import DataError

CHUNK = 1 << 20
ATTEMPTS = 5  # connections that may break without a single new byte
TIMEOUT = 60.0
FSDD_HOME = "https://github.com/Jakobovski/free-spoken-digit-dataset"

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes there, bytes in all or None)."""


@dataclass(frozen=True)
class Remote:
    """A publisher's file: where it is, where it goes below the data root, and its check sum.

    `digest` is "sha256:..." or "md5:..." in hexadecimal, "" if the publisher gives none.
    """

    url: str
    path: str
    digest: str = ""


def _figshare(number: int, name: str, md5: str) -> Remote:
    return Remote(
        f"https://ndownloader.figshare.com/files/{number}", f"CIFAR10DVS/{name}.zip", f"md5:{md5}"
    )


def _mnist(base: str, folder: str, known: Source) -> tuple[Remote, ...]:
    return tuple(
        Remote(f"{base}/{name}", f"{folder}/raw/{name}", f"md5:{md5}")
        for name, md5 in known.checksums.items()
        if name.endswith(".gz")
    )


def _cifar(base: str, folder: str, file: str, known: Source) -> tuple[Remote, ...]:
    return (Remote(f"{base}/{file}", f"{folder}/{file}", f"md5:{known.checksums[file]}"),)


# The check sums of images stand with the readers, which verify files that were there before.
_IMAGES: dict[str, Source] = {known.name: known for known in (*idx.DATA_SETS, *cifar.DATA_SETS)}

REMOTES: dict[str, tuple[Remote, ...]] = {
    "mnist": _mnist("https://ossci-datasets.s3.amazonaws.com/mnist", "MNIST", _IMAGES["mnist"]),
    "fashion-mnist": _mnist(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "FashionMNIST",
        _IMAGES["fashion-mnist"],
    ),
    "cifar10-dvs": (
        _figshare(7712788, "airplane", "0afd5c4bf9ae06af762a77b180354fdd"),
        _figshare(7712791, "automobile", "8438dfeba3bc970c94962d995b1b9bdd"),
        _figshare(7712794, "bird", "a9c207c91c55b9dc2002dc21c684d785"),
        _figshare(7712812, "cat", "52c63c677c2b15fa5146a8daf4d56687"),
        _figshare(7712815, "deer", "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
        _figshare(7712818, "dog", "f379ebdf6703d16e0a690782e62639c3"),
        _figshare(7712842, "frog", "cad6ed91214b1c7388a5f6ee56d08803"),
        _figshare(7712851, "horse", "e7cbbf77bec584ffbf913f00e682782a"),
        _figshare(7712836, "ship", "41c7bd7d6b251be82557c6cce9a7d5c9"),
        _figshare(7712839, "truck", "89f3922fd147d9aeff89e76a2b0b70a7"),
    ),
    "shd": (
        Remote(
            "https://zenkelab.org/datasets/shd_train.h5.zip",
            "SHD/shd_train.h5.zip",
            "sha256:d21bf17b71bededa52cc9134717b2bfee25dc4a99a94c1807be9a3c4f9697dc4",
        ),
        Remote(
            "https://zenkelab.org/datasets/shd_test.h5.zip",
            "SHD/shd_test.h5.zip",
            "sha256:f50b1d1f614ed84ff92f34aa771c33b237944722455b52ce1ccd2eac7903812c",
        ),
    ),
    "fsdd": (
        Remote(
            f"{FSDD_HOME}/archive/refs/tags/v1.0.10.tar.gz",
            "FSDD/free-spoken-digit-dataset-1.0.10.tar.gz",
        ),
    ),
    "cifar10": _cifar(
        "https://www.cs.toronto.edu/~kriz", "CIFAR10", "cifar-10-python.tar.gz", _IMAGES["cifar10"]
    ),
    "cifar100": _cifar(
        "https://www.cs.toronto.edu/~kriz",
        "CIFAR100",
        "cifar-100-python.tar.gz",
        _IMAGES["cifar100"],
    ),
}


def get(name: str, root: Path | None = None, progress: Progress | None = None) -> tuple[Path, ...]:
    """Download the files of the data set `name` below `root` ($SPIKELOOM_DATA, ./data); where they
    are now.

    A file that is there is checked and not fetched again. Raises `DataError` if the publisher
    allows no download (the manual step is named), the connection fails for good, the disk is full,
    or a check sum differs.
    """
    from spikeloom.data.registry import source

    known = source(name)  # a wrong name is told with the nearest right one
    if name not in REMOTES:
        events = getattr(known, "events", None)
        step = (
            "it needs no files" if not events or events.bundled else f"get {events.obtain} by hand"
        )
        tree = (
            f"; expected below the data root: {events.layout}" if events and events.layout else ""
        )
        raise DataError(f"{name} cannot be downloaded: {step}{tree}")
    base = root or Path(os.environ.get(ENVIRONMENT) or "data")
    return tuple(
        download(remote.url, base / remote.path, remote.digest, progress)
        for remote in REMOTES[name]
    )


def download(url: str, path: Path, digest: str = "", progress: Progress | None = None) -> Path:
    """The file at `url` as `path`, resumed, checked, and renamed when it is whole."""
    noted = path.with_name(path.name + ".sha256")
    digest = digest or _noted(noted)
    if path.exists():
        _check(path, digest, "is there, but")
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for have, total in _transfer(url, part):
            if progress:
                progress(path.name, have, total)
        try:
            _check(part, digest, f"from {url}")
        except DataError:
            part.unlink()
            raise
        if not digest:
            noted.write_text(f"{_digest(part, 'sha256')}  {path.name}\n")
        os.replace(part, path)
    except OSError as error:
        raise DataError(
            f"{part}: cannot be written ({error.strerror or error}); free some space or give "
            "another root"
        ) from error
    return path


def _transfer(url: str, part: Path) -> Iterator[tuple[int, int | None]]:
    """Fetch what is missing of `part`, again after a broken connection; (bytes there, bytes in
    all).
    """
    failures = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        try:
            yield from _one_connection(url, part, have)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # nothing beyond what is there: the check sum decides
                return
            raise DataError(
                f"{url}: the server answers {error.code} {error.reason}; try later, or get it by "
                "hand"
            ) from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            grown = (part.stat().st_size if part.exists() else 0) > have
            failures = 0 if grown else failures + 1
            if failures >= ATTEMPTS:
                raise DataError(
                    f"{url}: no connection ({getattr(error, 'reason', error)}); "
                    "run the same command again to go on, or get the file by hand"
                ) from error


def _one_connection(url: str, part: Path, have: int) -> Iterator[tuple[int, int | None]]:
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: expected an http or https address")
    request = urllib.request.Request(url, headers={"User-Agent": "spikeloom"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:  # the server sends the whole file
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise DataError(
                f"{part}: {(total - have) / 1e6:.0f} MB to come, {free / 1e6:.0f} MB are free; "
                "free some space"
            )
        with open(part, "ab" if have else "wb") as file:
            yield have, total
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                yield have, total
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _noted(path: Path) -> str:
    try:
        return "sha256:" + path.read_text().split()[0]
    except (OSError, IndexError):
        return ""


def _check(path: Path, digest: str, where: str) -> None:
    kind, _, expected = digest.partition(":")
    if not kind:
        return
    found = _digest(path, kind)
    if found != expected:
        raise DataError(
            f"{path.name} {where} has {kind} {found}, expected {expected}; remove it and fetch it "
            "again"
        )


def _digest(path: Path, kind: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
