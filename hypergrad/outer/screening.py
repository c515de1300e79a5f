"""Screening: runs over the space, to descend from the best of them."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hypergrad.arguments import checked_whole
from hypergrad.outer.coordinates import Coordinates
from hypergrad.outer.sequence import quasirandom
from hypergrad.space import Float

Values = Mapping[str, np.ndarray]


class Seen(NamedTuple):
    """What is known before a run of the screening.

    ``base``: the user's start, moved off its bounds. ``values`` and ``losses`` (NaN
    where a run diverged): of the runs so far, of which the first ``given`` are no
    screening. ``runs``: how many runs the budget pays in all, infinite without one.
    ``descends``: whether the user asked for a descent, which needs most of them.
    """

    base: Values
    values: Sequence[Values]
    losses: Sequence[float]
    given: int
    runs: float = math.inf
    descends: bool = False


class AbstractScreening(abc.ABC):
    """Proposes the runs before the descent, one after the other.

    What it proposes follows from its arguments alone, so that a tune that was killed
    goes on to the same runs.
    """

    @abc.abstractmethod
    def propose(
        self, space: Mapping[str, Float], seen: Seen, seed: int
    ) -> dict[str, np.ndarray] | None:
        """The values of the next run; None: the descent begins."""


@dataclasses.dataclass(frozen=True)
class Screening(AbstractScreening):
    """Quasi-random points over the declared space.

    Args:
        runs: int ≥ 0, points beside the user's start, which is always run.

    Numbers with two ends are spread over their sampling scale. An array takes one value
    for all of its entries; plain arrays of more than 16 entries, values with a
    ``constraint``, and ranges without two ends keep their start.
    """

    runs: int = 7

    def __post_init__(self) -> None:
        checked_whole("Screening(runs=…)", self.runs, 0)

    def propose(
        self, space: Mapping[str, Float], seen: Seen, seed: int
    ) -> dict[str, np.ndarray] | None:
        if len(seen.losses) - seen.given >= self.runs:
            return None
        return spread(Coordinates(space, tied=True), seen, seed)


def spread(box: Coordinates, seen: Seen, seed: int) -> dict[str, np.ndarray] | None:
    """The next quasi-random point; None where nothing can be spread."""
    if not len(box):
        return None
    made = len(seen.losses) - seen.given
    q = quasirandom(made + 1, len(box), seed)[-1]
    return box.values(q * box.widths, seen.base)
