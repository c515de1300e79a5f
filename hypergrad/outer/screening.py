"""Screening: a handful of runs over the space, to descend from the best of them."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from hypergrad.outer.sequence import quasirandom
from hypergrad.space import Float

MAX_ENTRIES = 16
"""Arrays with more entries keep their start: a few runs say nothing about them."""


@dataclasses.dataclass(frozen=True)
class Screening:
    """Quasi-random points over the declared space, run before the descent.

    Args:
        runs: int ≥ 0, points beside the user's start, which is always run.

    Numbers with two ends are spread over their sampling scale. An array of at most 16
    entries takes one value for all of them; larger arrays, values with a
    ``constraint``, and ranges without two ends keep their start.
    """

    runs: int = 7

    def __post_init__(self) -> None:
        if not isinstance(self.runs, int) or self.runs < 0:
            raise ValueError(
                "`Screening(runs=…)` must be an integer of at least 0. Received: "
                f"{self.runs!r}."
            )

    def points(
        self, space: Mapping[str, Float], start: Mapping[str, np.ndarray], seed: int
    ) -> list[dict[str, np.ndarray]]:
        """Values to run, in order; none where nothing can be spread."""
        names = [name for name, float_ in space.items() if can_spread(float_)]
        if not names:
            return []
        q = quasirandom(self.runs, len(names), seed)
        return [
            dict(start)
            | {
                name: space[name].sample(np.full(space[name].shape, row[j]))
                for j, name in enumerate(names)
            }
            for row in q
        ]


def can_spread(float_: Float) -> bool:
    bounded = float_.min_value is not None and float_.max_value is not None
    small = np.prod(float_.shape, dtype=int) <= MAX_ENTRIES
    return bool(bounded and small and float_.constraint is None)
