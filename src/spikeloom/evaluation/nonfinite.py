"""Whether all that a step reads and writes is finite, and where a NaN or an infinity began.

The loss does not tell: a spiking neuron answers 0 to NaN, and the training goes on.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from spikeloom.data.base import Batch
from spikeloom.hooks import hooked
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
        self._unit = torch.ones(1, dtype=torch.float32, device=device)

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
                group, self._mark, self._unit
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


def first_bad_gradient(classifier: Classifier, backward: Callable[[], object]) -> str:
    """Names the first module whose backward pass gives a gradient that is not finite.

    Args:
        backward: Runs forward and backward again; what happens to the gradients does not matter.
    """
    bad: list[str] = []
    innermost: dict[int, tuple[str, Tensor]] = {}  # by the number of an input, which it keeps alive

    def note(name: str, gradient: Tensor) -> None:
        if not bad and not _finite(gradient):
            bad.append(name)

    def look(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def look_at_inputs(_: nn.Module, inputs: tuple[object, ...]) -> None:
            for value in inputs:
                if isinstance(value, Tensor) and value.requires_grad:
                    number = id(value)
                    if number not in innermost:
                        value.register_hook(lambda g, number=number: note(innermost[number][0], g))
                    innermost[number] = (name, value)

        return look_at_inputs

    named = {
        module: f"{name} ({type(module).__name__})"
        for name, module in classifier.named_modules()
        if name
    }
    handles = [
        parameter.register_hook(partial(note, named.get(module, name)))
        for module in classifier.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
    try:
        with hooked({module: look(name) for module, name in named.items()}):
            backward()
    finally:
        for handle in handles:
            handle.remove()
    return bad[0] if bad else "the sum of several gradients, or what was done to it"


@torch.no_grad()
def first_non_finite(classifier: Classifier, inputs: Tensor) -> str:
    """Names the first thing in a forward pass that is not finite, with a parameter if it is one.

    Runs the pass again in the classifier's present mode and watches the output of every module; an
    inner module answers before the one around it, so the innermost that breaks is named, as
    "layers.3 (Conv2d)". If all are finite, it is the loss function.
    """
    if not _finite(inputs):
        return "the inputs"
    bad: list[str] = []

    def hook(name: str, module: nn.Module):
        def look(_: nn.Module, __: object, output: object) -> None:
            if not bad and not _finite(output):
                bad.append(_describe(name, module))

        return look

    looks = {
        module: hook(name, module)
        for name, module in classifier.named_modules()
        if module is not classifier
    }
    with hooked(after=looks):
        output = classifier(inputs)
        if not bad and not _finite(output.scores):
            bad.append("the readout")
    return bad[0] if bad else "the loss function"


def _describe(name: str, module: nn.Module) -> str:
    text = f"{name} ({type(module).__name__})"
    for parameter, value in module.named_parameters(recurse=False):
        if not _finite(value):
            return f"{text}, whose parameter {parameter} is not finite"
    return text


def _finite(value: object) -> bool:
    """Whether every floating-point tensor in `value`, a tensor or a nest of tuples, is finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, tuple | list):
        return all(_finite(item) for item in value)
    return True
