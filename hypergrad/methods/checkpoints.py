"""Which states of a run are kept, so that it can be swept back in little memory.

A run is a row of units; running one forwards gives the state at the next, and sweeping
it back needs the state at its own start. With a place for every start each unit is run
again once. With fewer places they are laid out binomially, which repeats the fewest
units (Griewank & Walther 2000, Alg. 799): with c places, C(c + r, c) units can be swept
while none is run forwards more than r times.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from hypergrad.methods.storage import AbstractStorage


def advance(length: int, places: int) -> int:
    """How many units to run from a kept state to the next one to keep.

    Args:
        length: int ≥ 2, units from the kept state to the end of what is to be swept.
        places: int ≥ 1, places for states, the kept one's among them.

    References: Griewank & Walther 2000, Prop. 1: the split into l₁ + l₂ with
    C(c + r − 2, c) ≤ l₁ ≤ C(c + r − 1, c) and C(c + r − 2, c − 1) ≤ l₂ is optimal.
    """
    repeats = 1
    while math.comb(places + repeats, places) < length:
        repeats += 1
    most = math.comb(places + repeats - 1, places)
    return max(1, min(most, length - math.comb(places + repeats - 2, places - 1)))


def layout(first: int, stop: int, places: int) -> list[int]:
    """The units after ``first`` at whose starts to keep the state, on the way there.

    ``places`` counts the one that holds the state at ``first``.
    """
    found = []
    while places > 1 and stop - first > 1:
        first += advance(stop - first, places)
        places -= 1
        found.append(first)
    return found


class Checkpoints:
    """States at the starts of units, at most ``places`` of them at a time.

    Args:
        units: range of the units that are swept back.
        places: int ≥ 1.
        storage: where states are kept.
        kept: the units whose states are there already.
    """

    def __init__(
        self,
        units: range,
        places: int,
        storage: AbstractStorage,
        kept: Iterable[int] = (),
    ):
        self.units = units
        self.places = places
        self._storage = storage
        self._kept: list[int] = [k for k in kept if k in units]
        self._wanted = {units.start, *layout(units.start, units.stop, places)}

    def offer(self, unit: int, state: Any) -> None:
        """Keeps the state at the start of a unit, where the layout has a place."""
        if unit in self._wanted and unit not in self._kept:
            self._storage.put(unit, state)
            self._kept.append(unit)

    def holds(self, unit: int) -> bool:
        return unit in self._kept

    def peek(self, unit: int) -> Any:
        """The state at the start of a unit, or None where it is not kept."""
        return self._storage.get(unit) if unit in self._kept else None

    def take(self, unit: int, run: Callable[[int, Any], Any]) -> Any:
        """The state at the start of a unit; those of later ones are let go.

        Args:
            unit: int, not after one that was taken before, but to begin anew.
            run: function, (unit, state at its start) → state at its end.
        """
        while self._kept[-1] > unit:
            self._storage.drop(self._kept.pop())
        first = self._kept[-1]
        state = self._storage.get(first)
        free = self.places - len(self._kept) + 1
        self._wanted = set(layout(first, unit + 1, free))
        for k in range(first, unit):
            state = run(k, state)
            self.offer(k + 1, state)
        return state
