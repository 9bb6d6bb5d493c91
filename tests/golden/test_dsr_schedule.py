"""The learning rate of every iteration equals that of the published programs."""

import numpy as np

from spikeloom.components.schedules import Constant, Cosine
from spikeloom.methods.catalog import load_recipe

Arrays = dict[str, np.ndarray]


def test_cosine_with_warmup_over_iterations(dsr_schedule: Arrays) -> None:
    for program in ("cifar", "imagenet"):
        lr, epochs, steps, warmup = (float(value) for value in dsr_schedule[f"{program}_setting"])
        schedule = Cosine(
            T_max=int(epochs),
            warmup_steps=int(warmup),
            warmup_first_epoch_only=program == "imagenet",
        )
        ours = [
            schedule.rate(lr, epoch, epoch * int(steps) + step)
            for epoch in range(int(epochs))
            for step in range(int(steps))
        ]
        np.testing.assert_allclose(ours, dsr_schedule[f"{program}_lr"], rtol=1e-12, atol=0)


def test_a_warmup_longer_than_the_first_epoch() -> None:
    """The CIFAR program goes on with it in epoch 1, the ImageNet program does not."""
    schedule = Constant(warmup_steps=400)
    assert schedule.rate(1.0, 1, 391) == 392 / 400
    first = schedule.model_copy(update={"warmup_first_epoch_only": True})
    assert first.rate(1.0, 0, 390) == 391 / 400
    assert first.rate(1.0, 1, 391) == 1.0
    for name in ("imagenet-ann", "imagenet-snn-if", "imagenet-snn-lif"):
        assert load_recipe(f"dsr/{name}").schedule.warmup_first_epoch_only
