"""The history of a tune or search: one row for each run, and the best of them."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from hypergrad.outer.conditions import Conditions

NORM = "gradient_norm."
"""Prefix of the columns with the norm of dE/du of each hyperparameter."""


class History:
    """What was run, in order, as a dict of lists of equal length.

    ``"val_loss"``: E. ``"train_loss"``: mean of the training loss over the last tenth
    of the steps, penalties included, NaN where none is known. Each name of the space:
    the value, a float or a NumPy array.
    ``"runs"``, ``"seconds"``: cost when that E was known, cumulated from the beginning.
    ``"kind"``: "start", "interior" (the start moved off a bound), "screening", "step",
    "rejected", "again" (values that were run before, under other conditions) or
    "search". ``"draw"``, ``"num_steps"``: the `Conditions` of that E.
    ``"gradient_norm.<name>"``: the norm of dE/du there, NaN where no sweep was made.

    Args:
        names: the names of the space.
        num_steps: int, T.
        columns: what a stored history held, or None.
    """

    def __init__(
        self,
        names: list[str],
        num_steps: int,
        columns: Mapping[str, list[Any]] | None = None,
    ):
        self.names = names
        self.full = Conditions(0, num_steps)
        keys = ("val_loss", "train_loss", *names, "runs", "seconds", "kind")
        keys = (*keys, *Conditions._fields, *(NORM + name for name in names))
        given = columns or {}
        self.columns: dict[str, list[Any]] = {k: list(given.get(k, [])) for k in keys}
        # Older files have none of these.
        for name, value in {"train_loss": math.nan, **self.full._asdict()}.items():
            missing = len(self) - len(self.columns[name])
            self.columns[name] += [value] * missing

    def __len__(self) -> int:
        return len(self.columns["val_loss"])

    def add(
        self,
        kind: str,
        values: Mapping[str, np.ndarray],
        loss: float,
        cost: tuple[float, float],
        train_loss: float = math.nan,
        conditions: Conditions | None = None,
    ) -> int:
        """Appends a row; its index. ``conditions`` None: those of the result."""
        for name in self.names:
            self.columns[name].append(plain(values[name]))
            self.columns[NORM + name].append(math.nan)
        self.columns["val_loss"].append(float(loss))
        self.columns["train_loss"].append(float(train_loss))
        self.columns["runs"].append(cost[0])
        self.columns["seconds"].append(cost[1])
        self.columns["kind"].append(kind)
        for name, number in (conditions or self.full)._asdict().items():
            self.columns[name].append(number)
        return len(self) - 1

    def add_norms(self, row: int, gradient: Mapping[str, np.ndarray]) -> None:
        for name, g in gradient.items():
            self.columns[NORM + name][row] = float(np.linalg.norm(g))

    def values(self, row: int) -> dict[str, Any]:
        return {name: self.columns[name][row] for name in self.names}

    def conditions(self, row: int) -> Conditions:
        """Under what E of a row was measured."""
        return Conditions(*(self.columns[name][row] for name in Conditions._fields))

    def best(
        self,
        first: int = 0,
        without: Collection[int] = (),
        conditions: Conditions | None = None,
    ) -> int | None:
        """The row of the lowest finite E, the first of several; None where none is.

        Args:
            first: int, rows before it do not count.
            without: rows that do not count.
            conditions: of the rows that count; None: those of the result.
        """
        losses, alike = self.columns["val_loss"], conditions or self.full
        rows = [
            row
            for row in range(first, len(self))
            if row not in without and self.conditions(row) == alike
        ]
        finite = [row for row in rows if math.isfinite(losses[row])]
        return min(finite, key=losses.__getitem__, default=None)


def plain(value: Any) -> Any:
    """A Python float for a scalar, a NumPy array else."""
    array = np.asarray(value, np.float64)
    return array.item() if array.ndim == 0 else array.copy()
