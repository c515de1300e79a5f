"""Means with intervals, and the test against random search."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and half the width of its interval; NaN where there is one value."""

    mean: float
    half: float


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval for the mean of finite values.

    ``x̄ ± t_{n−1, (1+level)/2} · s/√n``, s with n − 1 in its denominator.
    """
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    if not len(x):
        return Interval(math.nan, math.nan)
    if len(x) == 1:
        return Interval(float(x[0]), math.nan)
    quantile = stats.t.ppf((1.0 + level) / 2.0, len(x) - 1)
    half = quantile * x.std(ddof=1) / math.sqrt(len(x))
    return Interval(float(x.mean()), float(half))


def paired_test(method: Sequence[float], reference: Sequence[float]) -> float:
    """p of Wilcoxon's one-sided signed-rank test: is the method's loss lower?

    Pairs share a seed. A loss that is not finite is worse than any other, and equal to
    another one of its kind. The null distribution is exact: over all signs.

    Args:
        method, reference: losses, one for each seed, in the same order.

    Returns:
        float in (0, 1]; 1 where all pairs are equal.

    References: Wilcoxon 1945; zeros are dropped, ties share their mean rank.
    """
    if len(method) != len(reference) or not len(method):
        raise ValueError(
            "A paired test needs the same seeds of both, at least one. Received: "
            f"{len(method)} and {len(reference)} losses."
        )
    a, b = (_with_infinity(losses) for losses in (method, reference))
    differs = a != b
    if not differs.any():
        return 1.0
    difference = a[differs] - b[differs]
    ranks = stats.rankdata(np.abs(difference))
    return float(_at_most(ranks, ranks[difference > 0].sum()))


def _with_infinity(losses: Sequence[float]) -> np.ndarray:
    x = np.asarray(losses, float)
    return np.where(np.isfinite(x), x, np.inf)


def _at_most(ranks: np.ndarray, found: float) -> float:
    """P(sum of the ranks with a positive sign ≤ found), signs being fair coins."""
    doubled = np.round(2 * ranks).astype(int)  # mean ranks of ties are halves
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[: len(ways) - rank]
    return ways[: round(2 * found) + 1].sum() / 2.0 ** len(ranks)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: below α for all that Holm's procedure rejects at level α.

    With p sorted, ``p̃_i = max_{j ≤ i} min(1, (m − j + 1) p_j)``.

    References: Holm 1979, Scand. J. Statistics 6(2).
    """
    adjusted, highest = {}, 0.0
    for j, name in enumerate(sorted(p, key=lambda name: p[name])):
        highest = max(highest, min(1.0, (len(p) - j) * p[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p}


def runs_to_reach(curve: Mapping[str, list], loss: float) -> float:
    """The runs that were spent when a loss was first reached; infinite where never."""
    for runs, best in zip(curve["runs"], curve["best"]):
        if best is not None and best <= loss:
            return float(runs)
    return math.inf
