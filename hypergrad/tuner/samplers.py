"""Where the values of a trial come from.

A sampler proposes for trial ``index`` (0 is the first). Those below depend on nothing
but their seed and that number: a search that was killed, or is shared by several
workers, makes the trials that an undisturbed one makes.
"""

import functools
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hypergrad.tuner.hyperparameters import HyperParameters

MOST_COLLISIONS = 20
"""Draws of known values after which a space counts as exhausted."""


class Random:
    """Every number from its own scale, independently.

    No values twice: what an earlier trial had is drawn again, and the search ends where
    that finds nothing new.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._drawn: list[dict[str, Any] | None] = []
        self._entries: list[str] = []

    def values(self, space: HyperParameters, index: int) -> dict[str, Any] | None:
        """The values of the active entries; None where the space is exhausted."""
        entries = [repr(entry) + repr(entry.conditions) for entry in space.space]
        if entries != self._entries:  # it has grown
            self._entries, self._drawn = entries, []
        while len(self._drawn) <= index:
            self._drawn.append(self._new(space, len(self._drawn)))
        return self._drawn[index]

    def _new(self, space: HyperParameters, index: int) -> dict[str, Any] | None:
        for attempt in range(MOST_COLLISIONS):
            key = (self.seed, index, attempt)
            values = filled(space, functools.partial(_drawn, key))
            if values not in self._drawn:
                return values
        return None


class Grid:
    """Every combination, the defaults first, the last entries changing fastest.

    Of a number without steps ten values are tried.
    """

    def values(self, space: HyperParameters, index: int) -> dict[str, Any] | None:
        """The values of combination ``index``; None after the last."""
        return next(itertools.islice(_combinations(space), index, None), None)


class QuasiRandom:
    """Points that fill the space evenly (Sobol, scrambled); the defaults are first."""

    def __init__(self, seed: int):
        self.seed = seed

    def values(self, space: HyperParameters, index: int) -> dict[str, Any] | None:
        """The values of point ``index``."""
        if index == 0:
            return filled(space, lambda entry, name: entry.default)
        points = self._points(max(1, len(space.space)), index)
        coordinates = iter(points[index - 1])
        by_entry = {id(entry): float(next(coordinates)) for entry in space.space}
        return filled(space, lambda e, name: e.prob_to_value(by_entry[id(e)]))

    def _points(self, dimensions: int, number: int) -> np.ndarray:
        from scipy.stats import qmc

        power = max(0, (number - 1).bit_length())
        rng = np.random.default_rng(self.seed)
        return qmc.Sobol(dimensions, scramble=True, rng=rng).random_base2(power)


def filled(space: HyperParameters, value: Any) -> dict[str, Any]:
    """name → ``value(entry, name with conditions)`` of the entries that are active."""
    hp = space.copy()
    hp.values = {}
    for entry, original in zip(hp.space, space.space):
        if hp.is_active(entry):
            name = " ".join((entry.name, *map(str, entry.conditions)))
            hp.values[entry.name] = value(original, name)
    return hp.values


def _drawn(key: tuple[int, ...], entry: Any, name: str) -> Any:
    """A value at random, which other entries of the space do not change."""
    rng = np.random.default_rng((*key, zlib.crc32(name.encode())))
    return entry.prob_to_value(float(rng.random()))


def _combinations(space: HyperParameters) -> Iterator[dict[str, Any]]:
    hp = space.copy()
    return _below(hp, hp.space, {})


def _below(
    hp: HyperParameters, entries: Sequence[Any], values: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    if not entries:
        yield dict(values)
        return
    entry, *rest = entries
    hp.values = dict(values)
    if not hp.is_active(entry):
        yield from _below(hp, rest, values)
        return
    tried = [entry.default, *(v for v in entry.values if v != entry.default)]
    for value in tried:
        yield from _below(hp, rest, {**values, entry.name: value})
