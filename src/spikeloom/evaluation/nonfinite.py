"""Where a NaN or an infinity began."""

import torch
from torch import Tensor, nn

from spikeloom.hooks import hooked
from spikeloom.nn.classifier import Classifier


@torch.no_grad()
def first_non_finite(classifier: Classifier, inputs: Tensor) -> str:
    """Names the first thing in a forward pass that is not finite, with a parameter if it is one.

    Runs the pass again in the classifier's present mode and watches the output of every module; an
    inner module answers before the one around it, so the innermost that breaks is named, as
    "layers.3 (Conv2d)". If all are finite, it is the loss function.
    """
    if not _finite(inputs):
        return "the inputs"
    found: list[str] = []

    def hook(name: str, module: nn.Module):
        def look(_: nn.Module, __: object, output: object) -> None:
            if not found and not _finite(output):
                found.append(_describe(name, module))

        return look

    looks = {
        module: hook(name, module)
        for name, module in classifier.named_modules()
        if module is not classifier
    }
    with hooked(after=looks):
        output = classifier(inputs)
        if not found and not _finite(output.scores):
            found.append("the readout")
    return found[0] if found else "the loss function"


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
