"""The split and the learning rates equal the published code."""

import numpy as np
import torch

from spikeloom.components.schedules import Cosine
from spikeloom.data.base import split_per_class

Arrays = dict[str, np.ndarray]


def test_split(plif_split: Arrays) -> None:
    labels = torch.from_numpy(plif_split["labels"])
    train, validation = split_per_class(labels, float(plif_split["val_ratio"]))
    assert np.array_equal(train.numpy(), plif_split["train_idx"])
    assert np.array_equal(validation.numpy(), plif_split["val_idx"])


def test_learning_rates(plif_lr: Arrays) -> None:
    schedule = Cosine(T_max=int(plif_lr["T_max"]))
    lr = float(plif_lr["base_lr"])
    ours = [schedule.rate(lr, epoch) for epoch in range(len(plif_lr["lr"]))]
    np.testing.assert_allclose(ours, plif_lr["lr"], rtol=0, atol=1e-12)
