"""Constants that learn stay in their range, whatever the optimizer does."""

import math

from torch import Tensor


def within(value: Tensor, low: float, high: float = math.inf) -> Tensor:
    """`value` as if it were clamped to [low, high], with the gradient of the identity.

    A parameter outside acts like the nearer bound, and its gradient can bring it back.
    """
    # The difference is 0: the sum is the clamped value to the bit.
    return value.detach().clamp(low, high) + (value - value.detach())
