"""Networks to start from with data of one's own: recipes for images, recordings and series."""

from spikeloom.methods.base import Method
from spikeloom.methods.own.config import SeriesNetwork

method = Method(
    name="own",
    title="Networks to start from with your own data (after no paper)",
    network=SeriesNetwork,
    builder="spikeloom.methods.own.networks:build",
)
