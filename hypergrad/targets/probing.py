"""Whether a loss follows the derivative by a number of a user's own code.

A loss that is continuous in a number, kinks included, moves by the integral of its
derivative. Where a number sets a random threshold, is rounded or compared, the loss
jumps, and the derivative knows nothing of the jumps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SEEDS = 5
"""How many draws of the random layers are looked at."""

REACH = 0.1
"""How far to each side of the value, as a share of the declared range."""

PARTS = 8
UNACCOUNTED = 0.3
"""The share of the movement that jumps may have, on the whole and on a quarter."""


class Findings(NamedTuple):
    """What a probe saw between ``low`` and ``high``, summed over seeds.

    ``moved``: how far the loss went; ``accounted``: how far by its derivative;
    ``jumped``: the part of the difference that quadrature does not explain.
    """

    low: float
    high: float
    moved: float
    accounted: float
    jumped: float

    @property
    def share(self) -> float:
        return self.jumped / max(self.moved, self.accounted, 1e-300)


def complaint(
    value_and_slope: Callable[[Any, int], tuple[Any, Any]],
    value: Any,
    low: float | None,
    high: float | None,
) -> str | None:
    """Why the derivative by a number is not that of the loss; None where it is.

    Args:
        value_and_slope: function (value, seed) → (loss, derivative by the value).
        value: number or array that the compiled model holds.
        low, high: the declared range, both excluded; None where it is open.

    Cost: ``SEEDS · (2 PARTS + 1)`` evaluations.
    """
    whole = _look(value_and_slope, value, low, high, REACH)
    if whole.moved == 0.0:
        return None
    between = f"between {whole.low:.4g} and {whole.high:.4g}"
    if whole.accounted == 0.0:
        return (
            f"a derivative of exactly 0, while the loss moves by {whole.moved:.3g} "
            f"{between}: a random threshold, a rounding or a comparison hides what "
            "the number does"
        )
    if whole.share <= UNACCOUNTED:
        return None
    quarter = _look(value_and_slope, value, low, high, REACH / 4.0)
    if quarter.share <= UNACCOUNTED:
        return None
    return (
        f"a loss that jumps: {between} it moves by {whole.moved:.3g} (in {SEEDS} draws "
        f"of the random layers), by {whole.accounted:.3g} if its derivative is asked, "
        "as where a number sets a random threshold or is rounded"
    )


def _look(
    value_and_slope: Callable[[Any, int], tuple[Any, Any]],
    value: Any,
    low: float | None,
    high: float | None,
    reach: float,
) -> Findings:
    points = _points(np.asarray(value, np.float64), low, high, reach)
    moved = accounted = jumped = 0.0
    for seed in range(SEEDS):
        pairs = [value_and_slope(point, seed) for point in points]
        losses = np.asarray([float(loss) for loss, _ in pairs])
        slopes = [np.asarray(slope, np.float64) for _, slope in pairs]
        if not np.all(np.isfinite(losses)):
            continue
        noise = 64.0 * np.finfo(np.asarray(pairs[0][0]).dtype).eps
        noise *= np.max(np.abs(losses))
        for i in range(len(points) - 1):
            step = points[i + 1] - points[i]
            here = losses[i + 1] - losses[i]
            predicted = float(np.sum((slopes[i] + slopes[i + 1]) * step)) / 2.0
            accounted += abs(predicted)
            if abs(here) > noise:
                moved += abs(here)
                jumped += max(abs(here - predicted) - noise, 0.0)
    ends = (float(np.min(points[0])), float(np.max(points[-1])))
    return Findings(*ends, moved, accounted, jumped)


def _points(
    value: np.ndarray, low: float | None, high: float | None, reach: float
) -> list[np.ndarray]:
    """Values around ``value`` inside the range, even on a log scale if it is wide."""
    steps = np.linspace(-1.0, 1.0, PARTS + 1)
    if low is not None and high is not None and low > 0.0 and high > 100.0 * low:
        width = reach * np.log(high / low)
        points = [value * np.exp(width * step) for step in steps]
    else:
        bounded = low is not None and high is not None
        size = max(1.0, float(np.max(np.abs(value)))) * 2.0
        width = reach * (high - low if bounded else size)  # type: ignore[operator]
        points = [value + width * step for step in steps]
    # Off the ends themselves, where a comparison may have another answer.
    bottom = -np.inf if low is None else low + 1e-3 * width
    top = np.inf if high is None else high - 1e-3 * width
    return [np.clip(point, bottom, top) for point in points]
