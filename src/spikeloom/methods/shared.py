"""What networks of several methods do alike with their inputs and their logits."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikeloom.data.base import DataSpec
from spikeloom.errors import ConfigError
from spikeloom.nn import Classifier, Output
from spikeloom.nn.state import in_pieces

_KINDS = {"static": "images", "events": "event frames"}


def check_maps(
    network: str, data: DataSpec, advice: str = "use data with channels, height, and width"
) -> None:
    """Raises ConfigError for samples that are not `[C, H, W]`."""
    if len(data.shape) != 3:
        raise ConfigError(
            f"network {network!r} takes samples [C, H, W], but {data.name!r} delivers "
            f"{list(data.shape)}: {advice}"
        )


def check_kind(network: str, data: DataSpec, images: Iterable[str], frames: Iterable[str]) -> None:
    """Raises ConfigError for samples that are not `[C, H, W]`, and for images where `network` is
    not among the names of networks for `images`, or frames where it is not among those for
    `frames`."""
    check_maps(network, data)
    fitting, kind = (images, "events") if data.kind == "static" else (frames, "static")
    if network not in fitting:
        raise ConfigError(
            f"network {network!r} takes {_KINDS[kind]}, but {data.name!r} delivers "
            f"{_KINDS[data.kind]}: use network.name = {' or '.join(fitting)}"
        )


def halved(network: str, data: DataSpec, times: int, advice: str) -> tuple[int, int]:
    """Height and width of samples that are halved so often; each time an odd last row and column
    are dropped. ConfigError if nothing is left."""
    height, width = data.shape[1:]
    if min(height, width) >> times == 0:
        raise ConfigError(
            f"network {network!r} halves its input {times} times, but samples of {data.name!r} "
            f"are {height}x{width}: {advice}"
        )
    return height >> times, width >> times


def images(inputs: Tensor) -> Tensor:
    """`inputs`, if they are images `[B, C, H, W]`."""
    if inputs.dim() != 4:
        raise ValueError(f"input of shape {list(inputs.shape)}: expected images [B, C, H, W]")
    return inputs


def shown(inputs: Tensor, time_steps: int) -> Tensor:
    """Images `[B, C, H, W]` as the current of each step, `[T, B, C, H, W]`."""
    return images(inputs).expand(time_steps, *inputs.shape)


def frames(inputs: Tensor, time_steps: int | None) -> Tensor:
    """`inputs`, if they are frames `[T, B, C, H, W]` of event counts; None: of any T."""
    any_length = time_steps is None or in_pieces()
    if inputs.dim() == 5 and (any_length or len(inputs) == time_steps):
        return inputs
    text = f"input of shape {list(inputs.shape)}: expected frames [T, B, 2, H, W]"
    if not any_length:
        text += f" with T={time_steps}; set network.T to the number of frames, and leave out "
        text += "data.frames.choose"
    raise ConfigError(text)


def full(values: Tensor) -> Tensor:
    """`values` in float32 at least, also under autocast."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class LogitClassifier(Classifier):
    """A network whose course is logits; the scores are their mean over T."""

    read_by = "mean"
    course_names = ("logits",)

    def read(self, *course: Tensor) -> Output:
        """Of logits `[T, B, classes]`."""
        votes = full(course[0])
        return Output(scores=votes.mean(0), votes=votes)
