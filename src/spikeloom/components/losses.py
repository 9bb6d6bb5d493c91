"""What training makes small.

With scores z `[B, classes]` and label y, or real targets y `[B, outputs]`; the mean over samples of

    method         what the method defines; if nothing, cross-entropy, of real targets mse
    cross_entropy  - w_y log softmax(z)_y     w: class weights; with label smoothing
    mse            (z - y)^2, averaged over outputs     (for labels: y is 1 at the label, else 0)
    mae            |z - y|, averaged over outputs
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from spikeloom.config.schema import Loss
from spikeloom.config.section import register
from spikeloom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.config.schema import LossFunction
    from spikeloom.nn.classifier import Classifier, Output


@register
class MethodLoss(Loss):
    """What the method defines."""

    name: str = Field(default="method", description="what training makes small")

    def build(self, classifier: "Classifier", labels: "Tensor") -> "LossFunction":
        from spikeloom.nn.classifier import Classifier as Base

        if labels.is_floating_point() and type(classifier).loss is Base.loss:
            return MeanSquaredError().build(classifier, labels)
        return classifier.loss


@register
class CrossEntropy(Loss):
    """Cross-entropy on the scores; the mean is over samples, whatever their weights."""

    name: str = Field(default="cross_entropy", description="what training makes small")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="part of the target that is spread over all classes"
    )
    class_weights: Literal["none", "balanced"] | tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default="none",
        description="of each class; balanced: samples / (classes x samples of the class)",
    )

    def build(self, classifier: "Classifier", labels: "Tensor") -> "LossFunction":
        import torch

        weights = None if self.class_weights == "none" else self._weights(labels)
        smoothing = self.label_smoothing

        def loss(output: "Output", targets: "Tensor") -> "Tensor":
            scores = output.scores
            if weights is None:
                return torch.nn.functional.cross_entropy(scores, targets, label_smoothing=smoothing)
            if len(weights) != scores.shape[1]:
                raise ConfigError(
                    f"loss.class_weights has {len(weights)} values, and there are "
                    f"{scores.shape[1]} classes: give one for each"
                )
            each = torch.nn.functional.cross_entropy(
                scores, targets, weights.to(scores), label_smoothing=smoothing, reduction="none"
            )
            return each.mean()

        return loss

    def _weights(self, labels: "Tensor") -> "Tensor":
        import torch

        if isinstance(self.class_weights, tuple):
            return torch.tensor(self.class_weights)
        counts = torch.bincount(labels)
        return len(labels) / (len(counts) * counts.clamp(min=1).double())


class _Regression(Loss):
    """The base of what compares numbers."""

    def build(self, classifier: "Classifier", labels: "Tensor") -> "LossFunction":
        import torch

        function = getattr(torch.nn.functional, "mse_loss" if self.name == "mse" else "l1_loss")

        def loss(output: "Output", targets: "Tensor") -> "Tensor":
            if not targets.is_floating_point():
                targets = torch.nn.functional.one_hot(targets, output.scores.shape[1])
            return function(output.scores, targets.to(output.scores))

        return loss


@register
class MeanSquaredError(_Regression):
    """The mean squared difference of scores and targets."""

    name: str = Field(default="mse", description="what training makes small")


@register
class MeanAbsoluteError(_Regression):
    """The mean absolute difference of scores and targets."""

    name: str = Field(default="mae", description="what training makes small")
