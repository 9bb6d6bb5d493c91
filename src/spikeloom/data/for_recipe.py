"""The data set of a recipe: what `[data]` names, checked, with `network.T` time steps."""

from dataclasses import replace

from spikeloom.config.schema import Recipe
from spikeloom.data import registry
from spikeloom.data.api import Accept
from spikeloom.data.base import DataSet, DataSpec
from spikeloom.errors import DataError


def load_data(recipe: Recipe, accept: Accept | None = None) -> DataSet:
    """The data set that `recipe` trains on; recordings are prepared as frames if they are not yet,
    and not before `accept` has seen what they are (and raises an error if it has no use for them).

    The shape of a sample is that of what the network is given: after `data.frames.resize`. Raises
    `ConfigError` if a key of the recipe does not fit the data set, `DataError` if files are missing
    or damaged.
    """
    side = recipe.data.frames.resize
    given = None if accept is None else lambda spec: accept(_resized(spec, side))
    data = _as_stored(recipe, given)
    return data if side is None else replace(data, spec=_resized(data.spec, side))


def _resized(spec: DataSpec, side: int | None) -> DataSpec:
    if side is None or len(spec.shape) != 3:
        return spec
    return replace(spec, shape=(spec.shape[0], side, side))


def prepare(recipe: Recipe) -> str:
    """Prepare the frames that `recipe` trains on; one line that says what is there now."""
    return registry.source(recipe.data.name).describe(_as_stored(recipe))


def _as_stored(recipe: Recipe, accept: Accept | None = None) -> DataSet:
    T = getattr(recipe.network, "T", None)
    try:
        return registry.source(recipe.data.name).for_recipe(recipe.data, T, accept)
    except OSError as error:
        raise DataError(f"{recipe.data.name}: {error.filename}: {error.strerror}") from error
