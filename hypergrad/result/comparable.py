"""Which runs of a history measured E on the terms of the result."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def comparable(history: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """Bools, one a row: same samples and same length of training as the first run.

    Others are of a growing horizon, or of samples that were drawn anew.
    """
    rows = len(history.get("val_loss", ()))
    same = np.ones(rows, bool)
    for name in ("draw", "num_steps"):
        column = np.asarray(history.get(name, ()))
        if len(column) == rows and rows:
            same &= column == column[0]
    return same


def compared_losses(history: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """E of each row; infinite where it diverged or is not `comparable`."""
    losses = np.asarray(history["val_loss"], float)
    return np.where(np.isfinite(losses) & comparable(history), losses, np.inf)
