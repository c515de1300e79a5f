"""Where descents begin: the best runs of the screening that lie apart."""

from collections.abc import Collection
from typing import Any

import numpy as np

from hypergrad.outer.coordinates import Coordinates
from hypergrad.outer.history import History

APART = 0.5
"""Decades of the coordinate that differs most: closer runs lead to the same values."""


def next_start(
    space: Any, history: History, rows: Collection[int], begun: Collection[int]
) -> int | None:
    """The row of the lowest finite E that lies apart from where descents began.

    Args:
        space: dict, name → `hg.Float`.
        history: `History`.
        rows: those that a descent may begin at.
        begun: rows that descents began at.
    """
    box = Coordinates(space)
    losses = history.columns["val_loss"]

    def place(row: int) -> np.ndarray:
        values = {n: np.asarray(v) for n, v in history.values(row).items()}
        return box.place(values)

    taken = [place(row) for row in begun]
    finite = [row for row in rows if np.isfinite(losses[row])]
    for row in sorted(finite, key=losses.__getitem__):
        here = place(row)
        # Where nothing can be screened all runs are at one place.
        gaps = [float(np.max(np.abs(here - at), initial=0.0)) for at in taken]
        if row not in begun and all(gap > APART for gap in gaps):
            return row
    return None
