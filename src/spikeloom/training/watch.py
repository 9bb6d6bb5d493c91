"""Whether all that a step reads and writes is finite.

The loss does not tell: a spiking neuron answers 0 to NaN, and the training goes on.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from spikeloom.data.base import Batch
from spikeloom.evaluation.nonfinite import first_bad_gradient, first_non_finite
from spikeloom.nn.classifier import Classifier

_BUFFER, _GRADIENT = "the buffer ", "the gradient of "


class Watch:
    """A mark on the device, set as soon as anything that was seen is NaN or infinite. Nothing waits
    for the device until `bad` is asked.

    It is the check of PyTorch's own GradScaler, one call for all tensors, and a tenth of the time
    that norms or sums take. Seen are buffers (running statistics) and gradients before a step,
    parameters and the optimizer's state behind it. Gradients are left out where `scaled`: a
    GradScaler leaves out a step with infinite gradients, which it has to expect.
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
        self._parameter_list = list(classifier.parameters())
        self._mark = torch.zeros(1, dtype=torch.float32, device=device)
        self._one = torch.ones(1, dtype=torch.float32, device=device)

    def before_step(self) -> None:
        tensors = list(self._classifier.buffers())
        for value in () if self._scaled else self._parameter_list:
            if value.grad is not None:
                tensors.append(value.grad)
        self._see(tensors)

    def after_step(self) -> None:
        tensors: list[Tensor] = list(self._parameter_list)
        for state in self._optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    tensors.append(value)
        self._see(tensors)

    def bad(self) -> bool:
        return bool(self._mark.item())

    def names(self) -> list[str]:
        """What is not finite now."""
        return [name for name, value in self._all() if not value.isfinite().all()]

    def origin(self, names: list[str], batch: Batch) -> str:
        """Where it began that `names` are not finite, found by doing the step on `batch` again."""
        if any(name.startswith(_GRADIENT) for name in names):
            return first_bad_gradient(
                self._classifier,
                lambda: self._classifier.loss(
                    self._classifier(batch.inputs), batch.targets
                ).backward(),
            )
        if any(name.startswith(_BUFFER) for name in names):
            layer = first_non_finite(self._classifier, batch.inputs)
            return names[0] if layer == "the loss function" else layer
        return "the optimizer's step"

    @torch.no_grad()
    def _see(self, tensors: list[Tensor]) -> None:
        groups: dict[torch.dtype, list[Tensor]] = {}
        for value in tensors:
            # an optimizer may count its steps on the CPU
            if value.is_floating_point() and value.numel() and value.device == self._mark.device:
                groups.setdefault(value.dtype, []).append(value)
        for group in groups.values():  # besides, each is multiplied by one
            torch._amp_foreach_non_finite_check_and_unscale_(  # pyright: ignore
                group, self._mark, self._one
            )

    def _all(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self._classifier.named_buffers():
            yield f"{_BUFFER}{name}", value
        parameters = dict(self._classifier.named_parameters())
        for name, value in parameters.items():
            if value.grad is not None and not self._scaled:
                yield f"{_GRADIENT}{name}", value.grad
        for name, value in parameters.items():
            yield f"the parameter {name}", value
            for key, kept in self._optimizer.state.get(value, {}).items():
                if isinstance(kept, Tensor):
                    yield f"the optimizer's {key} of {name}", kept
