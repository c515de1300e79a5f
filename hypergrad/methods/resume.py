"""A run and its sweep on disk: what a killed one needs to go on to the same numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from hypergrad import backend, files
from hypergrad.fingerprint import fingerprint, refuse_other
from hypergrad.methods.storage import OnDisk
from hypergrad.problem import Problem

RUN, SWEEP = "run", "sweep"


class Resumption:
    """What is kept in a directory while one run is made and swept.

    The states at starts of units are in its `OnDisk` storage. Beside them are the
    training losses up to there, and, once the sweep has begun, how far it came.

    Args:
        problem, values: of the run.
        settings: what else decides its numbers.
        storage: in the directory.

    Raises:
        ValueError: the directory belongs to another run.
    """

    def __init__(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        settings: Mapping[str, Any],
        storage: OnDisk,
    ):
        self.storage = storage
        self.directory: Path = storage.directory
        given = {f"value of {name}": value for name, value in values.items()}
        self._marks = fingerprint(problem, {**settings, **given})
        self._losses = np.zeros(0)
        if (self.directory / f"{RUN}.json").exists():
            found = files.read(self.directory, RUN)
            refuse_other(self.directory, found["fingerprint"], self._marks, what="run")
            self._losses = np.asarray(found["losses"])

    def begin(self, lengths: list[int]) -> tuple[int, np.ndarray]:
        """(the unit to go on with, whose start is stored; losses of those before).

        Args:
            lengths: steps of each unit.
        """
        ends = np.cumsum([0, *lengths])
        known = [k for k in self.storage.keys() if ends[k] <= len(self._losses)]
        unit = known[-1] if known else 0
        self._losses = self._losses[: ends[unit]]
        return unit, self._losses

    def ran(self, unit: int, losses: np.ndarray, state: Any) -> None:
        """Keeps that a unit ran, and the state after it."""
        self._losses = np.concatenate([self._losses, losses])
        content = {"fingerprint": self._marks, "losses": self._losses}
        files.write(self.directory, RUN, content)
        self.storage.put(unit + 1, state)

    def swept(self, unit: int, adjoint: Any) -> None:
        """Keeps how far a sweep came: every unit from this one on."""
        leaves = [leaf for leaf in tree.flatten(adjoint.carry) if leaf is not None]
        content = {
            "unit": unit,
            "carry": backend.to_numpy(leaves),
            "per_step": adjoint.per_step,
            "per_example": adjoint.per_example,
        }
        files.write(self.directory, SWEEP, content)

    def restore(self, adjoint: Any) -> int | None:
        """Puts an adjoint back to where it was kept; the last unit swept, or None."""
        if not (self.directory / f"{SWEEP}.json").exists():
            return None
        found = files.read(self.directory, SWEEP)
        old = iter(found["carry"])
        adjoint.carry = tree.map_structure(
            lambda leaf: None if leaf is None else _like(leaf, next(old)), adjoint.carry
        )
        for kind in ("per_step", "per_example"):
            for name, rows in getattr(adjoint, kind).items():
                rows[...] = found[kind][name]
        unit: int = found["unit"]
        return unit

    def finish(self) -> None:
        """Removes all of it."""
        for name in (RUN, SWEEP):
            (self.directory / f"{name}.json").unlink(missing_ok=True)
            for path in self.directory.glob(f"{name}-*.npz"):
                path.unlink(missing_ok=True)
        for key in self.storage.keys():
            self.storage.drop(key)


def _like(leaf: Any, value: Any) -> Any:
    return backend.convert(np.asarray(value, backend.to_numpy(leaf).dtype))
