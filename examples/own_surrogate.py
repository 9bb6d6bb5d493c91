"""A surrogate gradient of one's own: its derivative, written once; it compiles with the neuron."""

import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.neurons.ranges import within


class Cosine(sl.Surrogate):
    """ds/du = (1 + cos(pi u)) / 2 where |u| < 1, else 0."""

    def derivative(self, u: Tensor) -> Tensor:
        return torch.where(u.abs() < 1, 0.5 + 0.5 * torch.cos(torch.pi * u), 0.0)


class LearnedWidth(sl.Surrogate):
    """A triangle whose width is learned: ds/du = max(0, 1 - |u| / width) / width.

    A constant that learns is returned by `coefs`; it needs the derivative of the output with
    respect to it, here that of the triangle's integral.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.width = torch.nn.Parameter(torch.tensor(width))

    def coefs(self) -> dict[str, Tensor]:
        return {"width": within(self.width, 0.01)}  # it cannot cross 0

    def derivative(self, u: Tensor, width: Tensor) -> Tensor:
        return torch.relu(1 - u.abs() / width) / width

    def coef_derivatives(self, u: Tensor, width: Tensor) -> dict[str, Tensor]:
        return {"width": -u / width * self.derivative(u, width)}


def main() -> sl.LIF:
    torch.manual_seed(0)
    x = torch.randn(8, 4, 16, requires_grad=True)  # [T, B, C]
    neuron = sl.LIF(tau=2.0, surrogate=Cosine())
    neuron(x).mean().backward()
    print(f"LIF with Cosine: gradient reaches {(x.grad != 0).float().mean():.0%} of the inputs")

    learned = sl.LIF(tau=2.0, surrogate=LearnedWidth())
    learned(x).mean().backward()
    print(f"LIF with LearnedWidth: gradient of the width {learned.surrogate.width.grad:.4f}")
    print(sl.explain(torch.nn.ModuleList([neuron, learned])))
    return learned


if __name__ == "__main__":
    main()
