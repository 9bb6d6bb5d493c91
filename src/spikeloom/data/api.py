"""What a data set declares, and the one way in which it is loaded.

Nothing here imports torch: processes that prepare frames load data set modules in a fraction of a
second.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeloom.config.fields import value_text
from spikeloom.errors import ConfigError, DataError
from spikeloom.machine import DATA, data_root

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.config.data import DataConfig
    from spikeloom.data.base import DataSet, DataSpec

Accept = Callable[["DataSpec"], object]
"""Raises an error for data that it has no use for."""

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


@dataclass(frozen=True)
class Remote:
    """A publisher's file: where it is, where it goes below the data root, and its check sum.

    `digest` is "sha256:..." or "md5:..." in hexadecimal, "" if the publisher gives none.
    """

    url: str
    path: str
    digest: str = ""


def candidates(root: Path | None, folders: Sequence[str]) -> list[Path]:
    """Folders in which to look for a data set whose publisher's folder is called one of `folders`.

    With an explicit `root`: these folders below it, then `root` itself. Without: below the folder
    that the environment variable SPIKELOOM_DATA names, else below `./data`.
    """
    if root is not None:
        root = root.expanduser()
        return list(dict.fromkeys([*(root / folder for folder in folders), root]))
    return [data_root() / folder for folder in folders]


def count_lines(train: Any, test: Any, classes: Sequence[str], what: str) -> list[str]:
    """A line for each split, by its labels: how many there are, and of each class."""
    lines = []
    for name, labels in (("train", train), ("test", test)):
        counts = np.bincount(labels, minlength=len(classes)) if classes else ()
        each = ", ".join(f"{count} {of}" for count, of in zip(counts, classes, strict=True))
        lines.append(f"  {name}: {len(labels):,} {what}" + f" ({each})" * bool(each))
    return lines


class Source(ABC):
    """One data set by name: where its files are, and how they become a `DataSet`.

    name       as in a recipe
    title      one line for lists
    published  samples of the publisher's files, per split
    layout     the files expected below the data root, as a tree for error messages
    origin     where a user gets them
    remotes    what `spikeloom data get` fetches, where the publisher allows it
    checksums  MD5 sums of the publisher's files by name, as far as they are known
    options    names of the set's own choices (`data.options`) and what they may be, the first is
               the default; without choices it is any text, and the default is ""
    sections   sections of `[data]` that have an effect: "images", "frames"
    A data set of one's own defines `name`, `title`, `published`, `load` and `files`.
    """

    name: str
    title: str
    published: Mapping[str, int]
    layout: str = ""
    origin: str = ""
    remotes: tuple[Remote, ...] = ()
    checksums: Mapping[str, str] = MappingProxyType({})
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    sections: tuple[str, ...] = ()
    events: Any = None
    """Its recordings, an `EventSet`; None where it has none."""

    @abstractmethod
    def load(self, root: Path | None = None) -> "DataSet":
        """Read and check everything. `root` is where the user says that the files are.

        Raises `DataError` if a file is missing, damaged, or holds impossible values.
        """

    @abstractmethod
    def files(self, root: Path | None) -> tuple[Path, ...]:
        """The files that `load` reads. Raises `DataError` if one is missing."""

    def for_recipe(
        self, config: "DataConfig", T: int | None, accept: Accept | None = None
    ) -> "DataSet":
        """The data set as `[data]` of a recipe asks for it, for a network of `T` time steps.

        `accept` is asked before anything is prepared that takes long.
        """
        del T, accept
        return self.load(None if config.root is None else Path(config.root))

    def sample(
        self, content: bytes, name: str, config: "DataConfig", T: int | None, spec: "DataSpec"
    ) -> "Tensor":
        """A user's file as one raw sample, as `Split.read` gives it but without the batch axis.

        `content` is the file, `name` what to call it. Images uint8 `[C, H, W]`, of any size and
        colour: cut like those of the data set, or about their centre to its shape.
        """
        from spikeloom.data.images.decode import sample

        del T
        return sample(content, name, spec, config.images if "images" in self.sections else None)

    def prepare(self, root: Path | None) -> str:
        """Convert the publisher's files where that pays, and say in one line what was done."""
        return self.describe(self.load(root))

    def describe(self, data: "DataSet") -> str:
        """One line about what there is to train on, after it was verified."""
        del data
        return f"{self.name}: verified; read as published, nothing to prepare"

    def understood(self, root: Path, options: Mapping[str, str] | None = None) -> str:
        """Lines about what is at `root` and what was guessed about it; for data of one's own."""
        given: dict[str, Any] = {"options": options} if options else {}
        data = self.load(root, **given)
        lines = count_lines(data.train.labels, data.test.labels, data.spec.classes, "samples")
        return "\n".join([*lines, *(f"  {note}" for note in data.notes)])

    def make_shards(
        self,
        root: Path | None,
        target: Path,
        shard_bytes: int,
        show: Callable[[str, int, int], None],
    ) -> "DataSet":
        """Pack the images at `root` into tar files in `target`, and read them back; `show(split,
        done, total)` is told how far it is. `ConfigError` for what is no folder of images.
        """
        raise ConfigError(f"{self.name} is not a folder of images: give imagenet or imagefolder")

    def missing(self, looked_for: Iterable[Path], tree: str = "") -> DataError:
        """The error for files that are nowhere: the expected tree (`layout` unless it is given),
        and where to get them.
        """
        name = self.name
        get = f"`spikeloom data get {name}` fetches the files, else take them" * bool(self.remotes)
        return DataError(
            f"{name}: no files found; give their root folder, or set {DATA}; expected there:\n"
            + "".join(f"    {line}\n" for line in (tree or self.layout).strip().splitlines())
            + "looked for:\n"
            + "".join(f"    {path}\n" for path in dict.fromkeys(looked_for))
            + f"{get or 'get the files'} from {self.origin}"
        )

    def refuse_unused(self, config: "DataConfig") -> None:
        """Raises `ConfigError` for keys of `[data]` that have no effect on this data set."""
        unused: dict[str, str] = {}
        if config.options and not self.options and self.events is None:
            unused["data.options"] = "{}"
        for section in ("images", "frames"):
            if section not in self.sections:
                part: Any = getattr(config, section)
                for key in sorted(part.model_dump(exclude_defaults=True)):
                    usual = getattr(type(part)(), key)
                    unused[f"data.{section}.{key}"] = value_text(usual).strip('"')
        if unused:
            images = self.events is None
            kind = "images, not recordings of events" if images else "recordings of events"
            back = " ".join(f"{key}={value}" for key, value in unused.items())
            raise ConfigError(
                f"{', '.join(unused)}: {self.name} holds {kind}; leave out what you gave, and for "
                f"what the recipe sets give {back}"
            )

    def choices(self, given: Mapping[str, str] | None) -> dict[str, str]:
        """Every option with its value. Raises `ConfigError` for one that the set does not have."""
        chosen = {name: (known or ("",))[0] for name, known in self.options.items()}
        for key, value in (given or {}).items():
            known = self.options.get(key)
            if known is None or (known and value not in known):
                all_ = "; ".join(
                    f"{name} = {' or '.join(values) or '...'}"
                    for name, values in self.options.items()
                )
                raise ConfigError(
                    f"data.options.{key} = {value!r}: {self.name} has {all_ or 'no options'}"
                )
            chosen[key] = value
        return chosen
