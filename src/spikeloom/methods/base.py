"""What a folder in `methods/` declares about itself."""

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spikeloom.config.section import Section
from spikeloom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.data.base import DataSpec
    from spikeloom.nn.classifier import Classifier


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
