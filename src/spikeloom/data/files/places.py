"""Where the files of a data set may lie, and what to say when they do not."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from spikeloom.errors import DataError
from spikeloom.machine import DATA, data_root


def candidates(root: Path | None, folders: Sequence[str]) -> list[Path]:
    """Folders in which to look for a data set whose publisher's folder is called one of `folders`.

    With an explicit `root`: these folders below it, then `root` itself. Without: below the folder
    that the environment variable SPIKELOOM_DATA names, else below `./data`.
    """
    if root is not None:
        root = root.expanduser()
        return list(dict.fromkeys([*(root / folder for folder in folders), root]))
    return [data_root() / folder for folder in folders]


def missing(
    name: str, looked_for: Iterable[Path], tree: str, origin: str, *, fetched: bool = False
) -> DataError:
    """The error for a data set that is nowhere: the expected tree, and where to get the files.

    `fetched`: whether `spikeloom data get` can.
    """
    get = f"`spikeloom data get {name}` fetches the files, else take them" if fetched else ""
    return DataError(
        f"{name}: no files found; give their root folder, or set {DATA}; expected there:\n"
        + "".join(f"    {line}\n" for line in tree.strip().splitlines())
        + "looked for:\n"
        + "".join(f"    {path}\n" for path in dict.fromkeys(looked_for))
        + f"{get or 'get the files'} from {origin}"
    )
