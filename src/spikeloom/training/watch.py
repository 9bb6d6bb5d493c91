"""Whether all that a step reads and writes is finite.

The loss does not tell: a spiking neuron answers 0 to NaN, and the training goes on.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikeloom.data.base import Batch
from spikeloom.evaluation.nonfinite import first_bad_gradient, first_non_finite
from spikeloom.nn.classifier import Classifier

_GRADIENT = "the gradient of "


class Watch:
    """The largest magnitude of everything that was seen, kept on the device: NaN or infinite as
    soon as anything was. Nothing waits for the device until `bad` is asked.

    Seen are buffers (running statistics) and gradients before a step, parameters and the
    optimizer's state behind it. Gradients are left out where `scaled`: a GradScaler leaves out a
    step with infinite gradients, which it has to expect.
    """

    def __init__(
        self,
        classifier: Classifier,
        optimizer: torch.optim.Optimizer,
        scaled: bool,
        device: torch.device,
    ) -> None:
        self._classifier = classifier
        self._optimizer = optimizer
        self._scaled = scaled
        self._largest = torch.zeros((), dtype=torch.float64, device=device)

    def before_step(self) -> None:
        self._see(self._buffers() | self._gradients())

    def after_step(self) -> None:
        self._see(dict(self._parameters()))

    def bad(self) -> bool:
        return not math.isfinite(self._largest.item())

    def names(self) -> list[str]:
        """What is not finite now."""
        everything = self._buffers() | self._gradients() | dict(self._parameters())
        return [name for name, value in everything.items() if not value.isfinite().all()]

    def origin(self, names: list[str], batch: Batch) -> str:
        """Where it began that `names` are not finite, found by doing the step on `batch` again."""
        if any(name.startswith(_GRADIENT) for name in names):
            return first_bad_gradient(
                self._classifier,
                lambda: self._classifier.loss(
                    self._classifier(batch.inputs), batch.targets
                ).backward(),
            )
        if any(name in self._buffers() for name in names):
            found = first_non_finite(self._classifier, batch.inputs)
            return names[0] if found == "the loss function" else found
        return "the optimizer's step"

    @torch.no_grad()
    def _see(self, tensors: dict[str, Tensor]) -> None:
        floats = [v for v in tensors.values() if v.is_floating_point() and v.numel()]
        if floats:
            largest = nn.utils.get_total_norm(floats, math.inf)
            self._largest = torch.maximum(self._largest, largest.double())

    def _buffers(self) -> dict[str, Tensor]:
        return {f"the buffer {name}": value for name, value in self._classifier.named_buffers()}

    def _gradients(self) -> dict[str, Tensor]:
        if self._scaled:
            return {}
        return {
            f"{_GRADIENT}{name}": value.grad
            for name, value in self._classifier.named_parameters()
            if value.grad is not None
        }

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self._classifier.named_parameters():
            yield f"the parameter {name}", value
            for key, kept in self._optimizer.state.get(value, {}).items():
                if isinstance(kept, Tensor):
                    yield f"the optimizer's {key} of {name}", kept
