"""What a folder in `methods/` declares about itself, and whether its networks fit the data."""

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spikeloom.config.section import Section
from spikeloom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.data.base import DataSpec
    from spikeloom.nn.classifier import Classifier

__all__ = ["Method"]

_KINDS = {"static": "images", "events": "event frames"}


@dataclass(frozen=True)
class Method:
    """One published system.

    `network` is the schema of the recipe's `[network]` section. `builder` names the function
    `build(network, data) -> Classifier` as "package.module:function"; it is imported on first use,
    so that listing methods and recipes does not load torch. `importer` names, in the same way,
    `read_checkpoint(path, classifier) -> state dict` for files that the method's authors published.
    """

    name: str
    title: str
    network: type[Section]
    builder: str
    importer: str = ""

    def build(self, network: Section, data: "DataSpec") -> "Classifier":
        """The network with its readout and loss, for data described by `data`."""
        return pkgutil.resolve_name(self.builder)(network, data)

    def read_checkpoint(self, path: Path, classifier: "Classifier") -> "dict[str, Tensor]":
        """The state of `classifier` in a file that the method's authors published.

        Raises CheckpointError for a file that does not fit, ConfigError if there is no such format.
        """
        if not self.importer:
            raise ConfigError(
                f"{self.name} has no importer: its authors published no checkpoints that can be "
                "read without running code in them"
            )
        return pkgutil.resolve_name(self.importer)(path, classifier)


def check_maps(
    network: str, data: "DataSpec", advice: str = "use data with channels, height, and width"
) -> None:
    """Raises ConfigError for samples that are not `[C, H, W]`."""
    if len(data.shape) != 3:
        raise ConfigError(
            f"network {network!r} takes samples [C, H, W], but {data.name!r} delivers "
            f"{list(data.shape)}: {advice}"
        )


def check_kind(
    network: str, data: "DataSpec", images: Iterable[str], frames: Iterable[str]
) -> None:
    """Raises ConfigError for samples that are not `[C, H, W]`, and for images where `network` is
    not among the names of networks for `images`, or frames where it is not among those for
    `frames`."""
    check_maps(network, data)
    fitting, kind = (images, "events") if data.kind == "static" else (frames, "static")
    if network not in fitting:
        raise ConfigError(
            f"network {network!r} takes {_KINDS[kind]}, but {data.name!r} delivers "
            f"{_KINDS[data.kind]}: use network.name = {' or '.join(fitting)}"
        )


def halved(network: str, data: "DataSpec", times: int, advice: str) -> tuple[int, int]:
    """Height and width of samples that are halved so often; each time an odd last row and column
    are dropped. ConfigError if nothing is left."""
    height, width = data.shape[1:]
    if min(height, width) >> times == 0:
        raise ConfigError(
            f"network {network!r} halves its input {times} times, but samples of {data.name!r} "
            f"are {height}x{width}: {advice}"
        )
    return height >> times, width >> times
