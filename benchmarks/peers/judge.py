"""What a derivative is worth, against the truth."""

import math

TOLERANCE = 1e-4
"""Differences of a float64 training are known far better than that."""


def verdict(found: float | None, truth: float) -> str:
    """ "right", "none", "NaN", "wrong sign" or "wrong by …"."""
    if found is None:
        return "none"
    if not math.isfinite(found):
        return "NaN"
    error = abs(found - truth) / abs(truth)
    if error <= TOLERANCE:
        return "right"
    if found * truth < 0:
        return f"wrong sign ({found:.3g}, true {truth:.3g})"
    return f"wrong ({found:.3g}, true {truth:.3g})"
