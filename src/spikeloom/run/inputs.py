"""What a network was trained on, as far as a prediction needs it: `inputs.json` of a run folder.

With it and the recipe a run loads, and predicts, where its data are not.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from spikeloom.data.base import DataSet, DataSpec
from spikeloom.errors import RunError


@dataclass(frozen=True)
class Inputs:
    """`spec`: shape and classes; `mean` and `std` per channel, of images scaled to 0..1."""

    spec: DataSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: DataSet) -> "Inputs":
        return cls(data.spec, data.mean, data.std)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: object) -> "Inputs":
        """Raises `RunError` if `text`, of `source`, is nothing that `to_json` wrote."""
        try:
            inputs = _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise RunError(
                f"{source}: {place}: {first['msg']}: copy the run folder again, or remove the file "
                "and give the data"
            ) from error
        if min(inputs.spec.shape, default=0) < 1:
            raise RunError(f"{source}: spec.shape is {list(inputs.spec.shape)}: give sizes above 0")
        if math.prod(inputs.spec.shape) > _MOST:
            raise RunError(f"{source}: spec.shape: no sample has more than {_MOST:,} values")
        if not all(map(math.isfinite, (*inputs.mean, *inputs.std))):
            raise RunError(f"{source}: mean or std is not finite: copy the run folder again")
        return inputs


_ADAPTER = TypeAdapter(Inputs)
_MOST = 1 << 40  # values of a sample: far beyond any memory


def read_inputs(path: Path) -> Inputs | None:
    """What the file says; None if there is none, as in runs of version 0.1."""
    try:
        return Inputs.from_json(path.read_bytes(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}): make it readable") from error
