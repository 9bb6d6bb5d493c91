"""What networks of several methods do alike with their inputs and their logits."""

import torch
from torch import Tensor, nn

from spikeloom.errors import ConfigError
from spikeloom.nn import Classifier, Output
from spikeloom.nn.state import in_pieces


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


def initialise(net: nn.Module) -> None:
    """Convolutions: Kaiming normal, fan out; linear layers: normal, deviation 0.01; biases 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


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
