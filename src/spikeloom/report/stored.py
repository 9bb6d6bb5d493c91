"""An examination in a run folder, for runs whose network only the user's own program can build.

`examination.pt` is what torch.save writes of tensors and builtins, and is read as such alone.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikeloom import files
from spikeloom.errors import RunError
from spikeloom.report.examine import Examination

NAME = "examination.pt"
_PLAIN = (
    *("classes", "samples", "test_samples", "accuracy", "spikes", "neurons", "rate", "latency"),
    *("confusion", "image", "label", "scores"),
)


def write(folder: Path, found: Examination) -> None:
    """Keeps `found`, without decisions, figures, distributions and origin."""
    import torch

    operations = found.operations
    content: dict[str, Any] = {name: getattr(found, name) for name in _PLAIN}
    content["traces"] = [asdict(trace) for trace in found.traces]
    content["operations"] = {
        "layers": [
            {key: value for key, value in asdict(layer).items() if key != "constants"}
            for layer in operations.layers
        ],
        "samples": operations.samples,
        "updates": operations.updates,
        "neurons": operations.neurons,
    }
    with files.replacing(folder / NAME, sync=True) as temporary:
        torch.save(content, temporary)


def read(folder: Path) -> Examination | None:
    """What `write` kept; None if nothing.

    Raises:
        RunError: the file is damaged, or holds something else.
    """
    from spikeloom.analysis.operations import LayerOperations, Operations
    from spikeloom.analysis.traces import LayerTrace
    from spikeloom.data.files import saved_tensors

    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content: Any = saved_tensors.load(path)
        operations = content["operations"]
        layers = tuple(LayerOperations(**layer) for layer in operations.pop("layers"))
        return Examination(
            **{name: content[name] for name in _PLAIN},
            traces=tuple(LayerTrace(**trace) for trace in content["traces"]),
            operations=Operations(layers=layers, **operations),
        )
    except (saved_tensors.RefusedError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}): evaluate the network again") from error
