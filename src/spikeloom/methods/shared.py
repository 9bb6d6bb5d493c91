"""What networks of several methods do alike with their inputs and their logits."""

import torch
from torch import Tensor

from spikeloom.errors import ConfigError
from spikeloom.nn import Output
from spikeloom.nn.state import in_pieces

KINDS = {"static": "images", "events": "event frames"}
"""What samples of a kind are called."""


def images(inputs: Tensor) -> Tensor:
    """`inputs`, if they are images `[B, C, H, W]`."""
    if inputs.dim() != 4:
        raise ValueError(f"input of shape {list(inputs.shape)}: expected images [B, C, H, W]")
    return inputs


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


def mean_logits(votes: Tensor) -> Output:
    """The mean of logits `[T, B, classes]`, as float32 also under autocast."""
    votes = votes.to(torch.promote_types(votes.dtype, torch.float32))
    return Output(scores=votes.mean(0), votes=votes)
