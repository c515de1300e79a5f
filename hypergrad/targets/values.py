"""Which Python and framework objects count as a number that could be tuned."""

import numbers
from typing import Any

import keras
import numpy as np


def real_value(held: Any) -> float | np.ndarray | None:
    """A float or a floating array; None for everything else, integers included."""
    if isinstance(held, (bool, int)):
        return None
    if isinstance(held, (float, np.floating)):
        return float(held)
    if isinstance(held, keras.Variable):
        return None  # trained, or a state of the layer
    if isinstance(held, np.ndarray) or keras.ops.is_tensor(held):
        if "float" not in keras.backend.standardize_dtype(held.dtype):
            return None
        array = np.asarray(keras.ops.convert_to_numpy(held))
        return float(array) if array.ndim == 0 else array
    return None


def real_list(held: Any) -> np.ndarray | None:
    """A list or tuple of numbers as an array; None for everything else."""
    if not isinstance(held, (list, tuple)) or not held:
        return None
    if all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in held):
        return np.asarray([float(x) for x in held])
    return None


def is_integer(held: Any) -> bool:
    """An integer, or a list or tuple of nothing but integers."""
    if isinstance(held, (list, tuple)):
        return bool(held) and all(is_integer(x) for x in held)
    return isinstance(held, (int, np.integer)) and not isinstance(held, bool)


def is_choice(held: Any) -> bool:
    return isinstance(held, (bool, str))
