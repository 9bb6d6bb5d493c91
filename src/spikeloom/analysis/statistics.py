"""How sure a measured accuracy is, and whether two differ."""

import math
from collections.abc import Sequence
from statistics import NormalDist, mean, stdev


def wilson(accuracy: float, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of Wilson's score test around `accuracy` (0..1), measured on `samples`.

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    It says how far the accuracy on other samples of the same kind may be, not how far another
    seed would be. Source: E. B. Wilson, JASA 22, 1927.
    """
    if samples < 1 or not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy {accuracy} of {samples} samples: expected 0..1 of 1 or more")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = accuracy + z**2 / (2 * samples)
    width = z * math.sqrt(accuracy * (1 - accuracy) / samples + z**2 / (4 * samples**2))
    scale = 1 + z**2 / samples
    return max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the deviation of a sample (n - 1), None for one value."""
    return mean(values), stdev(values) if len(values) > 1 else None
