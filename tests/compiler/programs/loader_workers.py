"""A DataLoader whose workers run a compiled neuron, after the parent has used it on several
threads.

Argument: how workers are started, `fork` or `spawn`.
"""

import sys

import torch
from torch.utils.data import DataLoader, Dataset

from spikeloom.compiler.cpu import threads
from spikeloom.neurons import PLIF

SHAPE = (4, 16, 40, 100)


class Encoded(Dataset[torch.Tensor]):
    """Samples are spikes of a neuron with gradients taken on the way: both kernels run in the
    worker."""

    def __init__(self) -> None:
        self.neuron = PLIF(shape=SHAPE[2:3], backend="cpu")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        x = torch.linspace(-1, 3, 4 * 16 * 40 * 100).reshape(SHAPE) * (1 + index)
        weight, x = x.clone(), x.requires_grad_()
        # two threads for the kernels alone: PyTorch's own do not survive a fork
        torch.set_num_threads(2)
        spikes = self.neuron(x)
        (gradient,) = torch.autograd.grad(spikes, x, weight)
        torch.set_num_threads(1)
        return torch.stack([spikes.detach(), gradient])


def main() -> None:
    torch.set_num_threads(1)
    samples = Encoded()
    assert samples[0][0].numel() >= threads.SERIAL_BELOW
    expected = [samples[i] for i in range(len(samples))]
    loader = DataLoader(
        samples, batch_size=None, num_workers=2, multiprocessing_context=sys.argv[1], timeout=240
    )
    for actual, wanted in zip(loader, expected, strict=True):
        assert torch.equal(actual, wanted)
    assert torch.equal(samples[0], expected[0]), "the parent goes on"
    print("equal")


if __name__ == "__main__":
    main()
