"""The learning rate of every iteration equals that of the published programs."""

import numpy as np

from spikeloom.config.schema import ScheduleConfig
from spikeloom.training.optim import learning_rate

Arrays = dict[str, np.ndarray]


def test_cosine_with_warmup_over_iterations(dsr_schedule: Arrays) -> None:
    for program in ("cifar", "imagenet"):
        lr, epochs, steps, warmup = (float(value) for value in dsr_schedule[f"{program}_setting"])
        schedule = ScheduleConfig(name="cosine", T_max=int(epochs), warmup_steps=int(warmup))
        ours = [
            learning_rate(schedule, lr, epoch, epoch * int(steps) + step)
            for epoch in range(int(epochs))
            for step in range(int(steps))
        ]
        np.testing.assert_allclose(ours, dsr_schedule[f"{program}_lr"], rtol=1e-12, atol=0)
