"""Train a spiking network on the bundled digits in ten lines of a plain PyTorch loop."""

import torch

import spikeloom as sl
from spikeloom import data


def main(epochs: int = 20) -> float:
    torch.manual_seed(0)
    digits = data.load("digits")
    batches = data.Loader(digits.train, 64, shuffle=True)
    net = sl.nn.Sequential(
        *(torch.nn.Flatten(), torch.nn.Linear(64, 256), sl.PLIF(tau=2.0)),
        *(torch.nn.Linear(256, 100), sl.PLIF(tau=2.0), sl.nn.Voting(10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)

    def rate(images: torch.Tensor) -> torch.Tensor:  # [B, 1, 8, 8] -> [B, 10]
        return net((images / 255).expand(4, *images.shape)).mean(0)  # T = 4, not copied

    for batch in (batch for epoch in range(epochs) for batch in batches.epoch(epoch)):
        target = torch.nn.functional.one_hot(batch.targets, 10).float()
        loss = torch.nn.functional.mse_loss(rate(batch.inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        scores = rate(digits.test.read(torch.arange(len(digits.test))))
    accuracy = (scores.argmax(1) == digits.test.labels).float().mean().item()
    print(f"test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
