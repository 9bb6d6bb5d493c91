"""The losses of first-spike coding.

    first spike   cross-entropy of the logits -alpha f_c
                  + lambda mean_b(exp(beta f) - 1)   over samples whose label neuron is silent,
                                                     f > T its time; in training only
    rate          cross-entropy of the logits alpha r_c,  r the spikes per time step

Both through log-softmax: finite for every time, where the published code divides exponentials.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def first_spike_loss(times: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Scalar, for `times` `[B, classes]` in steps from 1 and `labels` `[B]`."""
    return F.cross_entropy(-alpha * times, labels)


def silent_label_penalty(
    times: Tensor, labels: Tensor, time_steps: int, weight: float, rate: float
) -> Tensor:
    """Scalar: what a label neuron that stays silent costs. `weight` lambda, `rate` beta per step;
    `time_steps` T counts the empty steps too."""
    label_times = times.gather(1, labels[:, None])[:, 0]
    return weight * torch.where(label_times > time_steps, label_times * rate, 0).expm1().mean()


def rate_loss(rates: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Scalar, for `rates` `[B, classes]` in spikes per time step and `labels` `[B]`."""
    return F.cross_entropy(alpha * rates, labels)
