"""The former place of `run.folder`, for programs that import it from here."""

from spikeloom.run.folder import RunFolder as RunFolder
