"""How far a step goes: distances on the sampling scale, in decades.

A step is measured on the scale on which the range is sampled, so that one number means
the same for every hyperparameter: a step of 1 changes a learning rate tenfold, takes a
beta from 0.9 to 0.99, or crosses a quarter of a linear range. Towards an end of the
range it never goes further than half of the way that is left.
"""

import math

import numpy as np

from hypergrad.space import Float

LINEAR_DECADES = 4.0
"""A linear range counts as this many decades."""


def length(float_: Float) -> float | None:
    """Decades from end to end; None where the range has not two ends."""
    low, high = float_.min_value, float_.max_value
    if low is None or high is None:
        return None
    if float_.sampling == "log":
        return math.log10(high / low)
    if float_.sampling == "reverse_log":
        return math.log10((1.0 - low) / (1.0 - high))
    return LINEAR_DECADES


def move(float_: Float, u: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The unconstrained value ``steps`` decades away from ``u``.

    Args:
        float_: the range.
        u: array of unconstrained values.
        steps: array of the same shape, signed.

    Returns:
        array; with a ``constraint`` it is projected.
    """
    decades = length(float_)
    if float_.constraint is not None:
        # User units: of the range where there is one, else of the value itself.
        if decades is None:
            unit = np.maximum(1.0, np.abs(u)) / LINEAR_DECADES
        else:
            assert float_.max_value is not None and float_.min_value is not None
            unit = (float_.max_value - float_.min_value) / LINEAR_DECADES
        return float_.project(u + steps * unit)
    if decades is None:
        return u + steps * np.maximum(1.0, np.abs(u)) / 2.0
    # Fractions of the range below and above, each with full relative precision.
    below, above = _logistic(u), _logistic(-u)
    room = np.where(steps < 0, below, above)
    part = np.minimum(np.abs(steps) / decades, room / 2.0) * np.sign(steps)
    return np.log(below + part) - np.log(above - part)


def fraction(float_: Float, value: np.ndarray) -> np.ndarray | None:
    """Where values lie on the scale, 0 and 1 at its ends; None without two ends."""
    if length(float_) is None or float_.constraint is not None:
        return None
    return _logistic(float_.to_unconstrained(value, clip=True))


def _logistic(u: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, small) / (1.0 + small)
