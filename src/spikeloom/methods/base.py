"""What a folder in `methods/` declares about itself."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spikeloom.config.schema import Section

if TYPE_CHECKING:
    from spikeloom.data.spec import DataSpec
    from spikeloom.nn.classifier import Classifier


@dataclass(frozen=True)
class Method:
    """One published system.

    `network` is the schema of the recipe's `[network]` section. `builder` names the function
    `build(network, data) -> Classifier` as "package.module:function"; it is imported on first use, so that
    listing methods and recipes does not load torch.
    """

    name: str
    title: str
    network: type[Section]
    builder: str

    def build(self, network: Section, data: "DataSpec") -> "Classifier":
        """The network with its readout and loss, for data described by `data`."""
        module, function = self.builder.split(":")
        return getattr(importlib.import_module(module), function)(network, data)
