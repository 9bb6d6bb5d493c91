"""The tables of the five papers: what was published, and the command that trains that row.

FS coding came without a table of accuracies; DSR's figures are those of its paper, GLIF's and
PLIF's those of the authors' logs and READMEs, IDE's mean and deviation over runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

PLIF_DATA = ("mnist", "fashion-mnist", "cifar10", "nmnist", "cifar10-dvs", "dvs128-gesture")
PLIF = (
    ("PLIF, tau 2, max pooling", "", "99.72 94.38 93.50 99.61 74.80 97.57"),
    ("PLIF, tau 16, max pooling", "tau=16", "99.73 94.65 93.23 99.53 70.50 92.01"),
    ("LIF, tau 2, max pooling", "neuron=lif", "99.69 94.17 93.03 99.64 73.60 96.88"),
    ("LIF, tau 16, max pooling", "neuron=lif tau=16", "99.49 94.47 47.50 99.15 62.40 76.74"),
    ("PLIF, tau 2, average pooling", "pool=avg", "99.71 94.74 93.30 99.66 72.70 97.22"),
    ("PLIF, tau 2, max pooling, B", "protocol=B", "99.63 93.85 92.58 99.57 69.00 96.53"),
)
GLIF = (
    ("ResNet-18, T = 2", "glif/cifar10-resnet18-t2", 94.19),
    ("ResNet-18, T = 4", "glif/cifar10-resnet18-t4", 94.75),
    ("ResNet-18, T = 6", "glif/cifar10-resnet18", 95.09),
    ("ResNet-18, T = 2", "glif/cifar100-resnet18-t2", 74.77),
    ("ResNet-18, T = 4", "glif/cifar100-resnet18-t4", 76.50),
    ("ResNet-18, T = 6", "glif/cifar100-resnet18", 77.49),
    ("ResNet-19, T = 2", "glif/cifar10-resnet19-t2", 94.56),
    ("ResNet-19, T = 4", "glif/cifar10-resnet19-t4", 94.95),
    ("ResNet-19, T = 6", "glif/cifar10-resnet19", 95.14),
    ("ResNet-19, T = 2", "glif/cifar100-resnet19-t2", 75.60),
    ("ResNet-19, T = 4", "glif/cifar100-resnet19-t4", 77.22),
    ("ResNet-19, T = 6", "glif/cifar100-resnet19", 77.42),
    ("ResNet-18MS, T = 6", "glif/imagenet-resnet18ms", 68.10),
    ("7B-wideNet, T = 16", "glif/cifar10-dvs", 78.10),
)
IDE = (
    ("F64C5, IF, T = 30", "ide/mnist-f64c5-if", 99.49, 0.04),
    ("F64C5, LIF, T = 30", "ide/mnist-f64c5", 99.53, 0.04),
    ("F400, IF, T = 5", "ide/fashion-mnist-f400-if", 90.04, 0.09),
    ("F400, LIF, T = 5", "ide/fashion-mnist-f400", 90.07, 0.10),
    ("F64C5, IF, T = 30", "ide/nmnist-f64c5-if", 99.30, 0.04),
    ("F64C5, LIF, T = 30", "ide/nmnist-f64c5", 99.42, 0.04),
    ("AlexNet-F, IF, T = 30", "ide/cifar10-alexnetf-if-t30", 91.73, 0.13),
    ("AlexNet-F, LIF, T = 30", "ide/cifar10-alexnetf-t30", 91.74, 0.09),
    ("AlexNet-F, IF, T = 100", "ide/cifar10-alexnetf-if", 92.25, 0.27),
    ("AlexNet-F, LIF, T = 100", "ide/cifar10-alexnetf", 92.03, 0.07),
    ("CIFARNet-F, IF, T = 30", "ide/cifar10-cifarnetf-if-t30", 91.94, 0.14),
    ("CIFARNet-F, LIF, T = 30", "ide/cifar10-cifarnetf-t30", 92.08, 0.15),
    ("CIFARNet-F, IF, T = 100", "ide/cifar10-cifarnetf-if", 92.33, 0.15),
    ("CIFARNet-F, LIF, T = 100", "ide/cifar10-cifarnetf", 92.52, 0.17),
    ("AlexNet-F, IF, T = 100", "ide/cifar100-alexnetf-if", 72.02, 0.16),
    ("CIFARNet-F, IF, T = 30", "ide/cifar100-cifarnetf-if-t30", 71.56, 0.31),
    ("CIFARNet-F, LIF, T = 30", "ide/cifar100-cifarnetf-t30", 71.72, 0.22),
    ("CIFARNet-F, IF, T = 100", "ide/cifar100-cifarnetf-if", 73.07, 0.21),
    ("CIFARNet-F, LIF, T = 100", "ide/cifar100-cifarnetf", 72.98, 0.13),
)
DSR = (
    ("PreAct-ResNet-18, LIF, T = 20", "dsr/cifar10-preresnet18-lif", 95.40, 0.15),
    ("PreAct-ResNet-18, IF, T = 20", "dsr/cifar10-preresnet18-if", 95.24, 0.17),
    ("PreAct-ResNet-18, LIF, T = 5", "dsr/cifar10-t5-lif", 94.45, None),
    ("PreAct-ResNet-18, LIF, T = 20", "dsr/cifar100-preresnet18-lif", 78.50, 0.12),
    ("VGG-11, LIF, T = 20", "dsr/cifar10-dvs-vgg11-lif", 77.27, 0.24),
    ("VGG-11, IF, T = 20", "dsr/cifar10-dvs-vgg11-if", 75.03, 0.39),
    ("PreAct-ResNet-18, IF, T = 50", "dsr/imagenet-snn-if", 67.74, None),
)


@dataclass(frozen=True)
class Row:
    """`changes`: overrides of `recipe`. `value` in percent, `deviation` over runs where known."""

    method: str
    network: str
    recipe: str
    changes: tuple[str, ...]
    value: float
    deviation: float | None = None


def rows() -> Iterator[Row]:
    """All of them, method by method."""
    for network, changes, values in PLIF:
        for data, value in zip(PLIF_DATA, values.split(), strict=True):
            yield Row("PLIF", network, f"plif/{data}", tuple(changes.split()), float(value))
    for network, recipe, value in GLIF:
        yield Row("GLIF", network, recipe, (), value)
    for method, table in (("IDE", IDE), ("DSR", DSR)):
        for network, recipe, value, deviation in table:
            yield Row(method, network, recipe, (), value, deviation)
