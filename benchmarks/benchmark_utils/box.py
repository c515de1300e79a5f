"""A space as the unit cube, for methods that know nothing of transforms."""

from collections.abc import Iterator, Mapping

import numpy as np

import hypergrad as hg

MOST = 256
"""Numbers beyond which proposing a point takes longer than training."""


class Box:
    """Each number as its place in 0..1 on the sampling scale of its range.

    Args:
        space: dict, name → `hg.Float`, as of a `hg.Problem`.
    """

    def __init__(self, space: Mapping[str, hg.Float]):
        self.space = space
        self.sizes = {n: int(np.prod(f.shape)) for n, f in space.items()}
        self.dimensions = sum(self.sizes.values())

    @property
    def names(self) -> list[str]:
        """A name for each coordinate."""
        return [f"{n}[{i}]" for n, size in self.sizes.items() for i in range(size)]

    def values(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Point of the cube, shape (dimensions,) → values in user units."""
        return {
            name: float_.sample(part.reshape(float_.shape))
            for (name, float_), part in zip(self.space.items(), self._parts(point))
        }

    def start(self) -> np.ndarray:
        """The defaults; one on a bound, or the 0 below it, lies on the side."""
        places = []
        for float_ in self.space.values():
            u = float_.to_unconstrained(float_.start(), clip=True)
            places.append(1.0 / (1.0 + np.exp(-np.clip(u, -500, 500))))
        return np.concatenate([np.ravel(place) for place in places])

    def _parts(self, point: np.ndarray) -> Iterator[np.ndarray]:
        ends = np.cumsum(list(self.sizes.values()))
        return iter(np.split(np.asarray(point, float), ends[:-1]))
