"""Files that the authors of a method published, read without running anything they contain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeloom.data.files import saved_tensors
from spikeloom.errors import CheckpointError

_WRAPPED = "module."
"""In front of all names where a model was saved from its parallel wrapper."""


def saved(path: Path) -> dict[Any, Any]:
    """The dictionary that `torch.save` wrote, tensors and builtins only.

    Raises:
        CheckpointError: there is none, it holds something else, or it would run code.
    """
    try:
        content = saved_tensors.load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: give a file that was saved") from error
    except (OSError, saved_tensors.RefusedError) as error:
        reason = str(error).partition(". ")[0]  # PyTorch goes on with how to run the file's code
        raise CheckpointError(
            f"{path} cannot be read as saved tensors ({reason}): give the file that the published "
            "program wrote"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}: expected a dictionary")
    return content


def network_in(path: Path, *keys: str) -> dict[str, Tensor]:
    """The state dict in a published checkpoint: under the first of `keys` that is there, or the
    whole file; without the prefix of a wrapped model.

    Raises:
        CheckpointError: as `saved`; or it holds no tensors by name.
    """
    content: Any = saved(path)
    content = next((content[key] for key in keys if isinstance(content.get(key), dict)), content)
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path} holds no network: expected tensors by name, under {' or '.join(keys)} or alone"
        )
    return {str(name).removeprefix(_WRAPPED): value for name, value in content.items()}


def fit(
    path: object,
    state: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    *,
    optional: tuple[str, ...] = (),
    advice: str = "use the recipe of the network that was saved",
) -> dict[str, Tensor]:
    """`state`, of the file `path`, in the types of `ours`, and completed with those of `ours` whose
    names end in one of `optional`.

    Raises:
        CheckpointError: a tensor is missing, is one too many, or has another shape; the text names
            the first ones, and what to do.
    """
    lacks = [name for name in ours if name not in state and not name.endswith(optional)]
    has = [name for name in state if name not in ours]
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(value.shape)}"
        for name, value in ours.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [
        f"{what}{', '.join(names[:3])}" + f" and {len(names) - 3} more" * (len(names) > 3)
        for what, names in (("lacks ", lacks), ("also has ", has), ("its ", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} is of another network: it {'; '.join(problems)}; {advice}")
    return {name: state.get(name, value).to(value.dtype) for name, value in ours.items()}
