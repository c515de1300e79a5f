"""The history of a tune or search: one row for each run, and the best of them."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

NORM = "gradient_norm."
"""Prefix of the columns with the norm of dE/du of each hyperparameter."""


class History:
    """What was run, in order, as a dict of lists of equal length.

    ``"val_loss"``: E. ``"train_loss"``: mean of the training loss over the last tenth
    of the steps, penalties included, NaN where none is known. Each name of the space:
    the value, a float or a NumPy array.
    ``"runs"``, ``"seconds"``: cost when that E was known, cumulated from the beginning.
    ``"kind"``: "start", "interior" (the start moved off a bound), "screening", "step",
    "rejected" or "search". ``"gradient_norm.<name>"``: the norm of dE/du there, NaN
    where no sweep was made.

    Args:
        names: the names of the space.
        columns: what a stored history held, or None.
    """

    def __init__(
        self, names: list[str], columns: Mapping[str, list[Any]] | None = None
    ):
        self.names = names
        keys = ("val_loss", "train_loss", *names, "runs", "seconds", "kind")
        keys = (*keys, *(NORM + name for name in names))
        given = columns or {}
        self.columns: dict[str, list[Any]] = {k: list(given.get(k, [])) for k in keys}
        missing = len(self) - len(self.columns["train_loss"])
        self.columns["train_loss"] += [math.nan] * missing  # older files have none

    def __len__(self) -> int:
        return len(self.columns["val_loss"])

    def add(
        self,
        kind: str,
        values: Mapping[str, np.ndarray],
        loss: float,
        cost: tuple[float, float],
        train_loss: float = math.nan,
    ) -> int:
        """Appends a row; its index."""
        for name in self.names:
            self.columns[name].append(plain(values[name]))
            self.columns[NORM + name].append(math.nan)
        self.columns["val_loss"].append(float(loss))
        self.columns["train_loss"].append(float(train_loss))
        self.columns["runs"].append(cost[0])
        self.columns["seconds"].append(cost[1])
        self.columns["kind"].append(kind)
        return len(self) - 1

    def add_norms(self, row: int, gradient: Mapping[str, np.ndarray]) -> None:
        for name, g in gradient.items():
            self.columns[NORM + name][row] = float(np.linalg.norm(g))

    def values(self, row: int) -> dict[str, Any]:
        return {name: self.columns[name][row] for name in self.names}

    def best(self, first: int = 0, without: Collection[int] = ()) -> int | None:
        """The row of the lowest finite E, the first of several; None where none is.

        Args:
            first: int, rows before it do not count.
            without: rows that do not count.
        """
        losses = self.columns["val_loss"]
        rows = [r for r in range(first, len(self)) if r not in without]
        finite = [row for row in rows if math.isfinite(losses[row])]
        return min(finite, key=losses.__getitem__, default=None)


def plain(value: Any) -> Any:
    """A Python float for a scalar, a NumPy array else."""
    array = np.asarray(value, np.float64)
    return array.item() if array.ndim == 0 else array.copy()
