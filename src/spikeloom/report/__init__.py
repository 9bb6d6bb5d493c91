"""From run folders to one self-contained HTML file: `write(folders)`."""

from spikeloom.report.page import write

__all__ = ["write"]
