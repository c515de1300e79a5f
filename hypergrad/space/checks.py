"""Reads what a user writes as a number, and refuses what is not one."""

import math
from typing import Any

import numpy as np

SAMPLINGS = ("linear", "log", "reverse_log")


def bound(name: str, value: Any) -> float | None:
    """A ``min_value`` or ``max_value`` as a float; None stays None."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(
            f"`Float({name}=...)` must be a number, or None for no bound. "
            f"Received: {value!r} of type {type(value).__name__}."
        )
    if not math.isfinite(value):
        raise ValueError(
            f"`Float({name}=...)` must be finite. Received: {value!r}. "
            "Write None for a side without a bound."
        )
    return float(value)


def numbers(name: str, value: Any) -> np.ndarray:
    """``value`` as a float64 array; what is not a finite real number is refused."""
    if value is None:
        raise TypeError(f"`{name}` must be a float or an array. Received: None.")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(
            f"`{name}` must be a float or a rectangular array of floats. "
            f"Received: {value!r}."
        ) from error
    if array.dtype.kind in "biu":
        kind = "boolean" if array.dtype.kind == "b" else "integer"
        raise TypeError(
            f"`{name}` must be a float: hyperparameters are tuned by their derivative. "
            f"Received: {kind} {_short(array)}. Write it as a float (1.0 for 1); a "
            "number that must stay an integer (units, batch size) belongs to the tuner."
        )
    # Kind "V" is how NumPy reports bfloat16.
    if array.dtype.kind not in "fV" or array.dtype.names is not None:
        raise TypeError(
            f"`{name}` must be a float or an array of floats. "
            f"Received: {value!r} of type {type(value).__name__}."
        )
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array)):
        bad = array[~np.isfinite(array)].flat[0]
        raise ValueError(
            f"`{name}` must be finite. Received: {_short(array)}, which holds {bad}. "
            "Check where the value comes from."
        )
    return array


def shaped(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A fresh array of ``shape``: one number fills it, another shape is refused."""
    if array.shape not in ((), shape):
        raise ValueError(
            f"`{name}` must have shape {shape}, or be one number. "
            f"Received: shape {array.shape}. Declare it with `Float(..., shape=...)`."
        )
    return np.array(np.broadcast_to(array, shape))


def check_range(min_value: Any, max_value: Any) -> None:
    """Refuses a range that is no open interval."""
    low = bound("min_value", min_value)
    high = bound("max_value", max_value)
    if low is not None and high is not None and not low < high:
        raise ValueError(
            "`Float` needs min_value < max_value. "
            f"Received: min_value={low}, max_value={high}. "
            + ("Swap them." if low > high else "A fixed value is no hyperparameter.")
        )


def check_sampling(sampling: Any, low: float | None, high: float | None) -> None:
    """Refuses a scale that is unknown, or that the range cannot have."""
    given = f"Received: min_value={low}, max_value={high}."
    if sampling not in SAMPLINGS:
        names = ", ".join(f'"{name}"' for name in SAMPLINGS)
        raise ValueError(
            f"`Float(sampling=...)` must be one of {names}. Received: {sampling!r}."
        )
    if sampling == "linear":
        return
    if low is None or high is None:
        raise ValueError(
            f'`Float(sampling="{sampling}")` needs both bounds. {given} '
            'Give the missing one, or use sampling="linear".'
        )
    if sampling == "log" and low <= 0.0:
        raise ValueError(
            f'`Float(sampling="log")` needs min_value > 0. {given} Use a small '
            "positive min_value (a `default` of exactly 0.0 is allowed), or "
            'sampling="linear".'
        )
    if sampling == "log" and high / low > 1e38:
        raise ValueError(
            '`Float(sampling="log")` must not span more than 38 decades. '
            f"{given} Raise min_value."
        )
    if sampling == "reverse_log" and high >= 1.0:
        raise ValueError(
            '`Float(sampling="reverse_log")` is logarithmic in the distance to 1 and '
            f"needs max_value < 1. {given} Use for example max_value=0.9999, or "
            'sampling="linear".'
        )


def is_shape(shape: Any) -> bool:
    """Whether ``shape`` is a tuple of positive integers."""
    return isinstance(shape, tuple) and all(
        isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size >= 1
        for size in shape
    )


def _short(array: np.ndarray) -> str:
    if array.ndim == 0:
        return str(array[()])
    return np.array2string(array, threshold=6, edgeitems=2)
