"""A space as a box of few coordinates, in decades: what a screening moves."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hypergrad.outer import decades
from hypergrad.space import Float
from hypergrad.space.groups import Group

MAX_ENTRIES = 16
"""Of more numbers than these each array has one value for all of its entries."""

Values = Mapping[str, np.ndarray]


class Coordinate(NamedTuple):
    """One number to move, of a ``name`` of the space.

    ``entry``: of an array, that one; ``FIRST``, ``LAST``: that end of a curve, whose
    points between them lie on a straight line; None: all entries alike.
    """

    name: str
    entry: int | str | None
    width: float


FIRST, LAST = "first", "last"


class Coordinates:
    """Which numbers of a space a few runs can say something about.

    Those with two ends and no ``constraint``: each entry a coordinate while there are
    at most 16 entries. Else each array is one coordinate, the same value for all of its
    entries; a schedule two, between whose ends it is straight on the sampling scale. A
    plain array of more than 16 entries, such as a weight for each example, is left out.

    Args:
        space: dict, name → `hg.Float`.
        tied: bool, one coordinate an array however few entries there are.
    """

    def __init__(self, space: Mapping[str, Float], tied: bool = False):
        self.space = space
        names = [name for name, float_ in space.items() if can_spread(float_)]
        self.entries = sum(_size(space[name]) for name in names)
        self.tied = tied or self.entries > MAX_ENTRIES
        self.all: list[Coordinate] = []
        for name in names:
            width = decades.length(space[name])
            assert width is not None
            which: list[int | str | None] = [*range(_size(space[name]))]
            if self.tied:
                bent = not tied and _is_curve(space[name])
                which = [FIRST, LAST] if bent else [None]
            self.all += [Coordinate(name, entry, width) for entry in which]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def widths(self) -> np.ndarray:
        return np.array([coordinate.width for coordinate in self.all])

    def place(self, values: Values) -> np.ndarray:
        """Where values lie, shape (d,), in 0 … `widths`; of tied entries the mean."""
        found = []
        for name, entry, width in self.all:
            part = decades.fraction(self.space[name], np.asarray(values[name]))
            assert part is not None
            if entry in (FIRST, LAST):
                part = np.mean(part[0 if entry == FIRST else -1])
            else:
                part = np.mean(part) if entry is None else np.ravel(part)[entry]
            found.append(width * float(part))
        return np.array(found)

    def values(self, place: np.ndarray, base: Values) -> dict[str, np.ndarray]:
        """The values at a place; what has no coordinate is that of ``base``."""
        parts: dict[str, np.ndarray] = {}
        for (name, entry, width), at in zip(self.all, place):
            shape = self.space[name].shape
            part = parts.setdefault(name, np.zeros(shape))
            q = min(max(float(at) / width, 0.0), 1.0)
            if entry is None:
                part[...] = q
            elif isinstance(entry, int):
                part.flat[entry] = q
            else:
                rise = np.linspace(0.0, 1.0, shape[0])
                along = rise if entry == LAST else 1.0 - rise
                part += q * along.reshape(-1, *[1] * (len(shape) - 1))
        return dict(base) | {
            n: self.space[n].sample(np.clip(q, 0.0, 1.0)) for n, q in parts.items()
        }


def _is_curve(float_: Float) -> bool:
    return isinstance(float_, Group) and float_.curve and float_.shape[0] > 1


def can_spread(float_: Float) -> bool:
    """Whether a few runs can say something about a value, one for all its entries."""
    bounded = float_.min_value is not None and float_.max_value is not None
    few = _size(float_) <= MAX_ENTRIES or isinstance(float_, Group)
    return bounded and few and float_.constraint is None


def _size(float_: Float) -> int:
    return int(np.prod(float_.shape, dtype=int))
