"""From run folders to one self-contained HTML file, or a table of figures."""

from spikeloom.report.page import write
from spikeloom.report.summary import compare

__all__ = ["compare", "write"]
