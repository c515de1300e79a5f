"""Keeps a value inside its range when it is rounded to another precision."""

import functools
import math
from typing import Any

import numpy as np
from keras import ops

FLOAT32_STEP = 2.0**-23
"""The step between neighbouring float32 numbers, relative."""


@functools.lru_cache(maxsize=1024)
def limits(low: float, high: float, dtype: str) -> tuple[float, float]:
    """The smallest and the largest number of ``dtype`` in ``[low, high]``."""
    if dtype not in ("float32", "float64"):
        raise TypeError(
            "Hyperparameters are float32 or float64 numbers. "
            f"Received: dtype {dtype!r}. Cast to float32 first."
        )
    if dtype == "float64":
        return low, high
    first, last = _next_float32(low), -_next_float32(-high)
    if first > last:
        raise ValueError(
            f"The range [{low}, {high}] holds no float32 number. Widen it, or set "
            '`keras.config.set_floatx("float64")`.'
        )
    return first, last


def clipped(v: Any, low: float, high: float, dtype: str) -> Any:
    """The tensor ``v`` clipped with bounds of its own dtype.

    A Python float would be converted through float32 on TensorFlow.
    """
    v = ops.where(v < np.asarray(low, dtype), np.asarray(low, dtype), v)
    return ops.where(v > np.asarray(high, dtype), np.asarray(high, dtype), v)


def snapped(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """``value``, put on a bound where it is over it by float32 rounding only.

    A bound that went through float32 (a compiled learning rate of 0.1 reads
    0.10000000149) is still that bound.
    """
    for end, side in ((low, 1.0), (high, -1.0)):
        if math.isfinite(end):
            over = side * (end - value)
            close = (over > 0) & (over <= FLOAT32_STEP * abs(end))
            value = np.where(close, end, value)
    return value


def _next_float32(low: float) -> float:
    """The smallest normal float32 number that is not below ``low``."""
    tiny = float(np.finfo(np.float32).tiny)
    if 0.0 < low < tiny:
        return tiny  # Compiled code flushes smaller ones to 0.
    if -tiny < low < 0.0:
        return 0.0
    with np.errstate(over="ignore"):
        nearest = np.float32(low)
    if float(nearest) < low:
        nearest = np.nextafter(nearest, np.float32(np.inf))
    return float(nearest)
