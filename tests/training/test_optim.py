"""Optimizers by recipe, learning rates by closed form."""

import math
import warnings

import pytest
import torch
from torch import nn

from spikeloom.components.optimizers import Adam, AdamW, Sgd, make_optimizer, set_learning_rate
from spikeloom.components.schedules import Constant, Cosine, Linear, Multistep
from spikeloom.config.schema import Optimizer, Schedule


def rates(epochs: int = 20, lr: float = 0.1, **schedule) -> list[float]:
    config = Schedule.model_validate(schedule)
    return [config.rate(lr, epoch) for epoch in range(epochs)]


def test_constant():
    assert rates(3) == [0.1] * 3


def test_cosine_is_the_wave_of_torch_and_reaches_its_ends_exactly():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=0.01)
    expected = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stepping without an optimizer step
        for _ in range(40):
            expected.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    ours = rates(40, name="cosine", T_max=8, eta_min=0.01)
    # torch goes step by step and gathers rounding.
    assert ours == pytest.approx(expected, rel=1e-9)
    assert [ours[e] for e in (0, 16, 32)] == [0.1] * 3
    assert rates(200, name="cosine", T_max=64)[64] == 0
    assert rates(200, name="cosine", T_max=64)[192] == 0


def test_cosine_restarts_jump_back():
    wave = [0.05 * (1 + math.cos(math.pi * e / 4)) for e in range(4)]
    assert rates(12, name="cosine_restarts", T_max=4) == pytest.approx(wave * 3)


def test_multistep():
    assert rates(6, name="multistep", milestones=(2, 4), gamma=0.1) == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )


def test_warm_up_rises_linearly_to_the_schedule():
    assert rates(6, warmup_epochs=4) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    cosine = rates(6, name="cosine", T_max=8)
    warm = rates(6, name="cosine", T_max=8, warmup_epochs=2)
    assert warm == pytest.approx([cosine[0] / 2, *cosine[1:]])


def test_groups_keep_their_own_rate_along_the_schedule():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = make_optimizer(
        Adam(lr=0.1, weight_decay=0.5),
        [{"params": [a]}, {"params": [b], "lr": 0.02, "weight_decay": 0.0}],
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    first = set_learning_rate(optimizer, Cosine(T_max=2), 1)
    assert first == pytest.approx(0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.01])


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (
            Adam(lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1),
            lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1),
        ),
        (
            AdamW(lr=0.1, weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
        ),
        (
            Sgd(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Optimizer) else "",
)
def test_every_setting_reaches_the_optimizer(config, make):
    start = torch.linspace(-1, 1, 7)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one, two = make_optimizer(config, [{"params": [ours]}]), make([theirs])
    for _ in range(4):
        for parameter, optimizer in ((ours, one), (theirs, two)):
            parameter.grad = parameter.detach().sin() + 0.3
            optimizer.step()
    # Fused against one tensor at a time: a few roundings.
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_warm_up_in_steps_rises_within_the_epochs() -> None:
    schedule = Multistep(milestones=(1,), gamma=0.5, warmup_steps=4)
    # Two steps an epoch: the decay of epoch 1 falls into the warm-up.
    rates = [schedule.rate(0.8, step // 2, step) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.3, 0.4, 0.4, 0.4])
    assert schedule.rate(0.8, 0) == 0.8


def test_a_rate_of_each_step_counts_the_part_of_the_epoch() -> None:
    assert Linear(T_max=4).rate(0.8, 2.5, 100) == 0.4
    fine = Linear(T_max=4, each_step=True, begin=1, warmup_steps=2)
    assert fine.rate(0.8, 2.5, 100) == pytest.approx(0.8 * (1 - 1.5 / 4))
    assert fine.rate(0.8, 0.25, 0) == 0.4  # before it begins, in the warm-up


def test_one_kind_of_warm_up() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        Constant(warmup_epochs=1, warmup_steps=10)
