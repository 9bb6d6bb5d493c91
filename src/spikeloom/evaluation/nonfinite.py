"""Where a NaN or an infinity began."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from spikeloom.hooks import hooked
from spikeloom.nn.classifier import Classifier


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
                    number, new = id(value), id(value) not in innermost
                    innermost[number] = (name, value)
                    if new:
                        value.register_hook(partial(note_of, number))

        return look_at_inputs

    def note_of(number: int, gradient: Tensor) -> None:
        note(innermost[number][0], gradient)

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
