"""What turns hypergradients into steps, and the default that does."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad.outer import decades
from hypergrad.space import Float
from hypergrad.space.groups import Group

Arrays = Mapping[str, np.ndarray]


class AbstractSteps(abc.ABC):
    """A rule of the outer loop: two pure functions of arrays on the unconstrained line.

    The direction is fixed after a sweep. Where a trial along it makes things worse, the
    loop asks for a shorter ``move`` along the same direction, which costs no sweep.
    """

    @abc.abstractmethod
    def init(self, space: Mapping[str, Float], u: Arrays) -> Any:
        """The state before the first step; a tree of NumPy arrays."""

    @abc.abstractmethod
    def direct(
        self, space: Mapping[str, Float], u: Arrays, gradient: Arrays, state: Any
    ) -> tuple[dict[str, np.ndarray], Any]:
        """(direction, state) of dE/du at ``u``."""

    @abc.abstractmethod
    def move(
        self, space: Mapping[str, Float], u: Arrays, direction: Arrays, length: float
    ) -> dict[str, np.ndarray]:
        """The point ``length`` along a direction; 1 is the whole step."""

    @abc.abstractmethod
    def settle(self, state: Any, length: float) -> Any:
        """The state after a step of that length was kept."""

    @abc.abstractmethod
    def longest(self, direction: Arrays) -> float:
        """How far the whole step goes, in decades of the coordinate that goes most."""


@dataclasses.dataclass(frozen=True)
class SignSteps(AbstractSteps):
    """Steps whose size is learned for each coordinate from the sign of its slope.

    Coordinate i goes ``−sᵢ · sign(gᵢ)``, in decades of its sampling scale. sᵢ grows
    while the sign stays, up to ``largest``, and shrinks where it flips: a slope is only
    asked for its direction, so its scale does not matter. In an array the slope is
    taken relative to the root mean square of the array's, and cut at ±1, so that
    entries of little influence stay nearly where they are.

    Args:
        first: float, decades of a first step.
        first_in_groups: float, the same for schedules, and for values per variable or
            per target: all of them move at once, and from where the screening put them.
        largest: float, decades that no step exceeds.
        grow: float > 1.
        shrink: float in (0, 1).

    References: Riedmiller & Braun 1993 (Rprop). Departure: sizes are distances on the
    sampling scale, and the loop takes back steps by the objective, not by the sign.
    """

    first: float = 0.5
    first_in_groups: float = 0.125
    largest: float = 1.0
    grow: float = 1.5
    shrink: float = 0.4

    def init(self, space: Mapping[str, Float], u: Arrays) -> Any:
        sizes = {
            name: np.full(
                value.shape,
                self.first_in_groups if isinstance(space[name], Group) else self.first,
            )
            for name, value in u.items()
        }
        return {"sizes": sizes, "last": {n: np.zeros(v.shape) for n, v in u.items()}}

    def direct(
        self, space: Mapping[str, Float], u: Arrays, gradient: Arrays, state: Any
    ) -> tuple[dict[str, np.ndarray], Any]:
        direction, sizes, last = {}, {}, {}
        for name, g in gradient.items():
            along = g * state["last"][name]
            size = state["sizes"][name]
            size = np.where(along > 0, np.minimum(self.grow * size, self.largest), size)
            sizes[name] = np.where(along < 0, self.shrink * size, size)
            last[name] = np.sign(g)
            direction[name] = -sizes[name] * _relative(g)
        return direction, {"sizes": sizes, "last": last}

    def move(
        self, space: Mapping[str, Float], u: Arrays, direction: Arrays, length: float
    ) -> dict[str, np.ndarray]:
        return {
            name: decades.move(space[name], u[name], length * direction[name])
            for name in u
        }

    def settle(self, state: Any, length: float) -> Any:
        sizes = {
            n: np.minimum(length * s, self.largest) for n, s in state["sizes"].items()
        }
        return state | {"sizes": sizes}

    def longest(self, direction: Arrays) -> float:
        return max(float(np.max(np.abs(d))) for d in direction.values())


def _relative(g: np.ndarray) -> np.ndarray:
    if g.size == 1:
        return np.sign(g)
    # Scaled first: squares of tiny slopes would vanish.
    largest = np.max(np.abs(g))
    if largest == 0.0:
        return np.zeros_like(g)
    g = g / largest
    return np.clip(g / np.sqrt(np.mean(g * g)), -1.0, 1.0)
