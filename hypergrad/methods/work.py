"""What a method does and keeps, in numbers that can be timed and added up."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from hypergrad import backend

FEW = 5
"""Steps of a call that is timed; a call that is quick is timed with all its steps."""

QUICK = 0.02
"""Seconds."""

LEAST, MOST, ENOUGH = 3, 7, 0.5
"""How often all phases are timed: more than at least, until so many seconds passed."""


class Phase(NamedTuple):
    """Calls of one program, of which a method makes many.

    ``call``: function, number of steps → what a call of so many steps gives.
    ``length``: the steps of a call, 0 where it has none. ``calls``, ``steps``: how many
    there are in one hypergradient.
    """

    call: Callable[[int], Any]
    length: int
    calls: float
    steps: float = 0.0


class Work(NamedTuple):
    """One hypergradient of a method on a problem.

    ``phases``: dict, name → `Phase`; methods whose phases have one name time it once.
    ``device``, ``host``: dicts, name → bytes that are held beyond a plain training, in
    the memory of the device and of the host. ``disk``: bytes in files.
    """

    phases: Mapping[str, Phase]
    device: Mapping[str, int]
    host: Mapping[str, int] = {}
    disk: int = 0


class Clock:
    """Seconds of a call and of a step of each phase, timed when first asked for."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}

    def seconds(self, works: Iterable[Work]) -> list[dict[str, float]]:
        """Seconds of each phase of each work, in one hypergradient.

        All are timed in turns, so that a busy machine slows all of them alike.
        """
        works = list(works)
        phases = {name: p for work in works for name, p in work.phases.items()}
        new = {n: p for n, p in phases.items() if n not in self._known}
        steps = {name: _steps(phase) for name, phase in new.items()}
        rounds: list[dict[str, tuple[float, float]]] = []
        start = time.perf_counter()
        while len(rounds) < LEAST or (
            len(rounds) < MOST and time.perf_counter() - start < ENOUGH
        ):
            rounds.append(
                {n: (_seconds(p, 0), _seconds(p, steps[n])) for n, p in new.items()}
            )
        for name in new:
            empty, some = (
                statistics.median(r[name][k] for r in rounds) for k in (0, 1)
            )
            of_step = max(0.0, some - empty) / steps[name] if steps[name] else 0.0
            self._known[name] = empty, of_step
        return [
            {name: self._of(name, phase) for name, phase in work.phases.items()}
            for work in works
        ]

    def _of(self, name: str, phase: Phase) -> float:
        of_call, of_step = self._known[name]
        return phase.calls * of_call + phase.steps * of_step


def _steps(phase: Phase) -> int:
    """How many steps of a call are timed."""
    few = min(FEW, phase.length)
    _seconds(phase, few)  # compiles what is not compiled yet
    quick = few < phase.length and _seconds(phase, few) < QUICK
    return phase.length if quick else few


def _seconds(phase: Phase, steps: int) -> float:
    start = time.perf_counter()
    backend.synchronize(phase.call(steps))
    return time.perf_counter() - start


def nbytes(value: Any) -> int:
    """Of all arrays of a tree."""
    leaves = [leaf for leaf in tree.flatten(value) if leaf is not None]
    return sum(
        math.prod(leaf.shape)
        * np.dtype(keras.backend.standardize_dtype(leaf.dtype)).itemsize
        for leaf in leaves
    )
