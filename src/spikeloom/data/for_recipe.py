"""The data set of a recipe: what `[data]` names, checked, with `network.T` time steps."""

from dataclasses import replace

from spikeloom.config.schema import Recipe
from spikeloom.data import registry
from spikeloom.data.base import DataSet
from spikeloom.errors import DataError


def load_data(recipe: Recipe) -> DataSet:
    """The data set that `recipe` trains on; recordings are prepared as frames if they are not yet.

    The shape of a sample is that of what the network is given: after `data.frames.resize`. Raises
    `ConfigError` if a key of the recipe does not fit the data set, `DataError` if files are missing
    or damaged.
    """
    data = _as_stored(recipe)
    side = recipe.data.frames.resize
    if side is None or len(data.spec.shape) != 3:
        return data
    return replace(data, spec=replace(data.spec, shape=(data.spec.shape[0], side, side)))


def prepare(recipe: Recipe) -> str:
    """Prepare the frames that `recipe` trains on; one line that says what is there now."""
    return registry.source(recipe.data.name).describe(_as_stored(recipe))


def _as_stored(recipe: Recipe) -> DataSet:
    T = getattr(recipe.network, "T", None)
    try:
        return registry.source(recipe.data.name).for_recipe(recipe.data, T)
    except OSError as error:
        raise DataError(f"{recipe.data.name}: {error.filename}: {error.strerror}") from error
