"""A plain PyTorch loop with a run folder: killed and started again, it goes on and ends the same.

python examples/own_loop.py runs/mine 10
spikeloom report runs/mine
"""

import sys

import torch
from torch.nn.functional import cross_entropy

import spikeloom as sl


def main(folder: str = "runs/mine", epochs: int = 10) -> float:
    torch.manual_seed(0)
    digits = sl.data.load("digits")
    train = torch.utils.data.DataLoader(digits.train, 64, shuffle=True)
    test = torch.utils.data.DataLoader(digits.test, 64)
    net = sl.nn.Sequential(
        *(torch.nn.Flatten(), torch.nn.Linear(64, 128), sl.PLIF(), torch.nn.Dropout(0.1)),
        *(torch.nn.Linear(128, 10), sl.PLIF()),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    def answer(images: torch.Tensor) -> torch.Tensor:  # [B, 1, 8, 8] -> [T, B, 10]
        return net((images / 64).expand(4, *images.shape))

    with sl.Run(folder, net, optimizer, schedule=schedule, data=digits, every_steps=5) as run:
        for _ in run.epochs(epochs):
            for images, labels in run.batches(train):
                output = answer(images)
                loss = cross_entropy(4 * output.mean(0), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log(loss, output, labels)
            schedule.step()
            run.evaluate(answer, test)
    return run.best.test_accuracy if run.best else 0.0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
