"""Screening by a model: each run where the expected improvement is largest."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hypergrad.arguments import checked_whole
from hypergrad.outer.coordinates import Coordinates
from hypergrad.outer.screening import AbstractScreening, Seen, spread
from hypergrad.outer.surrogate import (
    Surrogate,
    expected_improvement,
    fit,
    one_thread,
    rescaled,
)
from hypergrad.space import Float


class Known(NamedTuple):
    """Runs of other trainings with the same numbers: a row of ``points`` for each.

    ``names``: of the numbers; ``losses``: E of each run, NaN where it diverged.
    """

    names: tuple[str, ...]
    points: tuple[tuple[float, ...], ...]
    losses: tuple[float, ...]

    def scaled_to(self, first: float) -> np.ndarray:
        """The losses, with the lowest brought to that of the first run here."""
        losses = np.asarray(self.losses, float)
        lowest = np.nanmin(losses) if np.any(np.isfinite(losses)) else 1.0
        return losses * (first / lowest) if np.isfinite(first) else losses


@dataclasses.dataclass(frozen=True)
class BayesianScreening(AbstractScreening):
    """Runs where a Gaussian process of E expects the largest improvement.

    The first runs are quasi-random; then each run is made where the expected
    improvement over the lowest E is largest. E is taken on a scale that is linear near
    its lowest value and logarithmic far above it; diverged runs count as the worst.

    Args:
        runs: int ≥ 0, beside the user's start; None: with at most 16 numbers all that
            the budget pays, with more 35 % of it, as where `tune` was given ``starts``,
            a ``horizon`` or samples that are drawn anew; without a budget in runs 16,
            and two more for each coordinate.
        first: int ≥ 2, quasi-random runs.
        least: float, ends when a run is expected to improve E by less than this part
            of the spread of E over the better half of the runs.
        patience: int ≥ 1: after so many runs in turn that have not improved E, the
            length scales are shortened, to 0.8 and then 0.7 of what was fitted: the
            process may be sure of the wrong place, and looks further afield.
        known: runs of a training that is much like this one, whose lowest is taken to
            be as good as the first run here; or None. With them no quasi-random runs
            are made.

    Numbers with two ends are moved, each entry by itself while there are at most 16 in
    all. Else an array that was declared per variable or per target takes one value for
    all entries, and a schedule is a straight line on its sampling scale, until the
    descent moves them apart. Plain arrays of more than 16 entries, values with a
    ``constraint``, and ranges without two ends keep their start.

    Cost: beside the runs, about 30 ms for a proposal after 64 of them.

    References: Jones et al. 1998, "Efficient global optimization"; Snoek et al. 2012,
        arXiv:1206.2944.
    """

    runs: int | None = None
    first: int = 8
    least: float = 1e-3
    patience: int = 4
    known: Known | None = None

    def __post_init__(self) -> None:
        if self.runs is not None:
            checked_whole("BayesianScreening(runs=…)", self.runs, 0)
        for name, least in (("first", 2), ("patience", 1)):
            checked_whole(f"BayesianScreening({name}=…)", getattr(self, name), least)

    def propose(
        self, space: Mapping[str, Float], seen: Seen, seed: int
    ) -> dict[str, np.ndarray] | None:
        box = Coordinates(space)
        made = len(seen.losses) - seen.given
        if made >= self._most(box, seen):
            return None
        first = self.first if self.known is None else 0
        if made < first:
            return spread(box, seen, seed)
        y = heights(self._losses(seen))
        if y is None:
            return None
        x = np.array([box.place(values) for values in self._values(seen)])
        rows = np.argsort(y, kind="stable")[:MOST_ROWS]
        rng = np.random.default_rng([seed, len(seen.losses)])
        with one_thread():
            fitted = fit(x[rows], y[rows])
            own = y[: len(seen.losses)]
            shorter = 0.8 ** (min(stale(own), made - first) // self.patience)
            fitted = rescaled(fitted, y[rows], max(shorter, SHORTEST))
            place, gain = most_promising(fitted, box.widths, rng)
        if gain < self.least:
            return None
        return box.values(place, seen.base)

    def _losses(self, seen: Seen) -> np.ndarray:
        own = np.asarray(seen.losses, float)
        if self.known is None:
            return own
        return np.concatenate([own, self.known.scaled_to(own[0])])

    def _values(self, seen: Seen) -> list[Mapping[str, np.ndarray]]:
        if self.known is None:
            return list(seen.values)
        others: list[Mapping[str, np.ndarray]] = [
            {**seen.base, **{n: np.asarray(v) for n, v in zip(self.known.names, point)}}
            for point in self.known.points
        ]
        return [*seen.values, *others]

    def _most(self, box: Coordinates, seen: Seen) -> float:
        if not len(box):
            return 0
        if self.runs is not None:
            return self.runs
        if math.isinf(seen.runs):
            return 16 + 2 * len(box)
        share = 0.35 if box.tied or seen.descends else 1.0
        return share * seen.runs - seen.given


SHORTEST = 0.7
"""Below, on objectives that are noisy, runs are lost at the ends of the ranges."""

STALE = 0.02
"""A height: about half a per cent of the median's height over the lowest E."""


def stale(y: np.ndarray) -> int:
    """How many runs ago the lowest height was reached, but for a little."""
    return len(y) - 1 - int(np.argmax(y <= np.min(y) + STALE))


MOST_ROWS = 200
"""The process is fitted to so many of the best runs."""

NEAR = 0.25
"""Up to this part of the median's height over the lowest E a height is about linear."""


def heights(losses: np.ndarray) -> np.ndarray | None:
    """``log(1 + (E − min E) / (¼ (median E − min E)))``; None where no E is finite."""
    finite = np.isfinite(losses)
    if not np.any(finite):
        return None
    least = float(np.min(losses[finite]))
    middle = float(np.median(losses[finite])) - least
    above = np.where(finite, losses, np.max(losses[finite])) - least
    return np.log1p(above / (NEAR * middle)) if middle > 0.0 else above


REACHES = (0.02, 0.06, 0.15, 0.3)
"""Standard deviations of candidates around good runs, in parts of a range."""

CANDIDATES = 1024


def most_promising(
    surrogate: Surrogate, widths: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Where the expected improvement is largest, and how large it is.

    Candidates are normal steps of four reaches from the runs that the process holds
    best, and points all over the box; the best five are improved by smaller steps.
    """
    means = surrogate.predict(surrogate.x)[0]
    least = float(np.min(means))
    number = max(3, len(means) * 15 // 100)
    good = surrogate.x[np.argsort(means, kind="stable")[:number]]
    found = [rng.random((CANDIDATES // 4, len(widths))) * widths]
    for reach in REACHES:
        around = good[rng.integers(len(good), size=CANDIDATES // len(REACHES))]
        steps = reach * widths * rng.standard_normal(around.shape)
        found.append(_reflected(around + steps, widths))
    points = np.concatenate(found)
    gains = expected_improvement(surrogate, points, least)
    for reach in (0.02, 0.007, 0.002):
        top = points[np.argsort(-gains, kind="stable")[:5]]
        around = np.repeat(top, 40, axis=0)
        steps = reach * widths * rng.standard_normal(around.shape)
        points = np.concatenate([top, _reflected(around + steps, widths)])
        gains = expected_improvement(surrogate, points, least)
    best = int(np.argmax(gains))
    return points[best], float(gains[best])


def _reflected(points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Points that left the box, mirrored at its sides."""
    folded = np.mod(points, 2.0 * widths)
    return np.where(folded > widths, 2.0 * widths - folded, folded)
