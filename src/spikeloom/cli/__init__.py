"""The command line, one file per verb.

Verbs import their work when they run: `spikeloom --help` loads neither torch nor a data set.
"""

from spikeloom.cli.app import main

__all__ = ["main"]
