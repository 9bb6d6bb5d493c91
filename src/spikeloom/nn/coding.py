"""From an image to a current over time."""

from torch import Tensor, nn


class StaticCoding(nn.Module):
    """A learned encoder that runs once per forward pass, for a current that is the same at all T.

        x_t = layers(image)   for t = 1 ... T

    Takes an image `[B, C, H, W]`, gives `[T, B, ...]` with stride 0 in time: a view, never T
    copies. Its BatchNorm layers are ordinary ones (`nn.BatchNorm2d`) and update their running
    statistics once; gradients accumulate over T.

    `time_steps`: T, at least 1.
    """

    def __init__(self, time_steps: int, *layers: nn.Module) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"time_steps={time_steps!r}: expected at least one time step")
        self.time_steps = time_steps
        self.count = len(layers)
        for i, layer in enumerate(layers):
            self.add_module(str(i), layer)

    def forward(self, image: Tensor) -> Tensor:
        current = image
        for i in range(self.count):
            current = self.get_submodule(str(i))(current)
        return current.expand(self.time_steps, *current.shape)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}"
