"""Starting from weights that exist, and keeping some of them as they are."""

import hashlib
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from spikeloom import zoo
from spikeloom.config.schema import StartConfig
from spikeloom.data.base import DataSet
from spikeloom.data.files import weights as weight_files
from spikeloom.errors import CheckpointError, ConfigError
from spikeloom.run import checkpoint
from spikeloom.run.folder import RunFolder, environment
from spikeloom.run.inputs import Inputs


def start_from(module: nn.Module, config: StartConfig) -> str:
    """Gives `module` the weights that `config` names; what was done, in words (none: empty).

    Tensors of another shape, such as the head for other classes, stay as they were initialised.

    Raises:
        CheckpointError: there are no such weights, or they are of another network.
    """
    if config.name is None:
        return ""
    path = zoo.located(config.name)
    theirs, ours = _weights(path), module.state_dict()
    odd = sorted(theirs.keys() ^ ours.keys())
    fitting = {
        name: value
        for name, value in theirs.items()
        if name in ours and value.shape == ours[name].shape
    }
    if odd or not fitting:
        problem = f"{odd[0]} is not in both" if odd else "no tensor has the shape of its namesake"
        raise CheckpointError(
            f"start = {path} is of another network: {problem}; take weights of a recipe with this "
            "[network]"
        )
    module.load_state_dict(fitting, strict=False)
    new = [name for name in ours if name not in fitting]
    text = f"starting from {config.name}"
    if new:
        shapes = f"{list(theirs[new[0]].shape)} there, {list(ours[new[0]].shape)} here"
        text += f"; {', '.join(new)} begin{'s' * (len(new) == 1)} anew ({shapes})"
    return text


def freeze(module: nn.Module, patterns: tuple[str, ...]) -> list[nn.Module]:
    """Keeps the parameters whose name matches one of the `patterns`, of which there are some, from
    learning.

    Returns the modules all of whose own parameters are frozen: they are to stay in evaluation mode,
    so that running statistics stay too.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to learn.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"start.freeze: no parameter matches {pattern!r}; the first ones are "
                f"{', '.join(names[:3])}; {names[-1]} is the last"
            )
    for name, parameter in module.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(f"start.freeze = {list(patterns)} leaves nothing to learn")
    parameters = {part: list(part.parameters(recurse=False)) for part in module.modules()}
    return [part for part, of in parameters.items() if of and not any(p.requires_grad for p in of)]


def create_run(path: Path, text: str, device: torch.device, data: DataSet | None) -> RunFolder:
    """The new folder of a run with `text` as its recipe.toml, on `device`, of `data` if known."""
    facts, inputs = environment(device), ""
    if data is not None:
        facts |= {"data": fingerprint(data)}
        inputs = Inputs.of(data).to_json()
    return RunFolder.create(path, text, facts, inputs)


def fingerprint(data: DataSet) -> str:
    """What tells a data set from another: shapes, all labels, and some samples of each split."""
    digest = hashlib.sha256(repr((data.spec, len(data.train), len(data.test))).encode())
    for split in (data.train, data.test):
        some = split.read(torch.arange(0, len(split), max(1, len(split) // 8)))
        for tensor in (split.labels, some):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _weights(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        path = RunFolder.open(path).weights
    if path.suffix == ".pt":
        state = checkpoint.read(path)
        return checkpoint.evaluated_weights(state["model"], state["callbacks"])
    weights, _ = weight_files.read(path, "start: ")
    checkpoint.check_finite(weights)
    return weights
