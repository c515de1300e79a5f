"""The range that a hyperparameter gets when only its path is named."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from hypergrad.space import checks
from hypergrad.space.float import Float


class Range(NamedTuple):
    """A row of the table of default ranges.

    ``hard_low`` and ``hard_high`` are the ends of what the attribute can mean at all,
    which no widening passes; a current value may sit on the lower one. On a log scale
    the hard lower end is 0. ``min_value`` and ``max_value`` None: no bound at all.
    """

    min_value: float | None
    max_value: float | None
    sampling: Literal["linear", "log", "reverse_log"]
    hard_low: float = -math.inf
    hard_high: float = math.inf


_RATE = Range(1e-5, 1.0, "log", 0.0)
_MEMORY = Range(0.0, 0.9999, "reverse_log", 0.0, 1.0)
_LONG_MEMORY = Range(0.0, 0.99999, "reverse_log", 0.0, 1.0)
_PENALTY = Range(1e-8, 1e-1, "log", 0.0)
_THRESHOLD = Range(1e-3, 1e2, "log", 0.0)
_WEIGHT = Range(1e-2, 1e2, "log", 0.0)
_UNBOUNDED = Range(None, None, "linear")

DEFAULT_RANGES: dict[str, Range] = {
    # Optimizers and their schedules.
    "learning_rate": _RATE,
    "initial_learning_rate": _RATE,
    "warmup_target": _RATE,
    "end_learning_rate": Range(1e-7, 1e-1, "log", 0.0),
    "decay_rate": Range(1e-2, 1.0, "log", 0.0),
    "decay_steps": Range(1.0, 1e6, "log", 0.0),
    "power": Range(1e-1, 1e1, "log", 0.0),
    "momentum": _MEMORY,
    "rho": _MEMORY,
    "beta_1": _MEMORY,
    "beta_2": _LONG_MEMORY,
    "epsilon": Range(1e-10, 1e-1, "log", 0.0),
    "weight_decay": _PENALTY,
    "clipnorm": _THRESHOLD,
    "clipvalue": _THRESHOLD,
    "global_clipnorm": _THRESHOLD,
    # Regularizers.
    "l1": _PENALTY,
    "l2": _PENALTY,
    "factor": _PENALTY,
    # Layers.
    "stddev": Range(1e-3, 1.0, "log", 0.0),
    "rate": Range(0.0, 0.9, "linear", 0.0, 1.0),
    "negative_slope": Range(0.0, 1.0, "linear", 0.0),
    "alpha": Range(0.0, 1.0, "linear", 0.0),
    "scale": Range(1e-4, 1e2, "log", 0.0),
    "offset": Range(-1.0, 1.0, "linear"),
    "mean": _UNBOUNDED,
    "variance": Range(1e-8, 1e4, "log", 0.0),
    # Losses.
    "label_smoothing": Range(0.0, 0.5, "linear", 0.0, 1.0),
    "delta": Range(1e-2, 1e2, "log", 0.0),
    "gamma": Range(0.0, 5.0, "linear", 0.0),
    "loss_weights": _WEIGHT,
    # Data. A weight of 0 leaves an example out; 2 counts it twice.
    "data.sample_weight": Range(0.0, 2.0, "linear", 0.0),
    "data.class_weight": _WEIGHT,
    "data.x": _UNBOUNDED,
    "data.y": _UNBOUNDED,
    # Variables: what they start from, and a factor on it.
    "initial.*": _UNBOUNDED,
    "scale.*": Range(1e-2, 1e2, "log", 0.0),
}

ABSENT_IS_ZERO = ("weight_decay", "l1", "l2")
"""Attributes where Keras' None means exactly 0."""


def default_float(
    attribute_name: str, current_value: Any, *, path: str | None = None
) -> Float:
    """The documented default range of an attribute, around what the model holds.

    The row of `DEFAULT_RANGES` is widened where it must be, so that every element of
    ``current_value`` lies strictly inside: tenfold beyond it on a log scale, to a tenth
    of its distance to 1 on a reverse_log scale, to twice its magnitude (at most
    half-way to a hard end) on a linear one. A value exactly on a hard end (momentum 0,
    l2 0, or ``weight_decay=None``) keeps the row's range and stays the exact default;
    `Float.interior` names the value a descent starts from.

    Args:
        attribute_name: last part of the path, e.g. ``"beta_1"``.
        current_value: number, array or None, as compiled; its shape becomes the
        Float's.
        path: what the errors call it; ``attribute_name`` if None.

    Returns:
        Float with ``default`` equal to ``current_value`` (0.0 for an absent penalty).

    Raises:
        ValueError: no row for the attribute, nothing to start from, or a value that the
            attribute cannot have.

    Example:
        >>> default_float("learning_rate", 3.0).max_value
        30.0
        >>> default_float("momentum", 0.0).default
        0.0
    """
    path = path or attribute_name
    row = DEFAULT_RANGES.get(attribute_name)
    if row is None:
        raise ValueError(
            f"`{path}` has no default range: there is none for the attribute "
            f"{attribute_name!r}. Received: a path without a range. Declare it: "
            f'hyperparameters={{"{path}": hg.Float(min_value, max_value)}}.'
        )
    if current_value is None:
        if attribute_name not in ABSENT_IS_ZERO:
            raise ValueError(
                f"`{path}` must hold a number to start from. Received: None. Set it in "
                "the compiled model, or declare the range with its `default`."
            )
        current_value = 0.0
    # Keras keeps an integer where the user wrote one (momentum=0): here it is a float.
    current = checks.numbers(path, np.asarray(current_value) * 1.0)
    if np.any((current < row.hard_low) | (current >= row.hard_high)):
        raise ValueError(
            f"`{path}` must lie in [{row.hard_low}, {row.hard_high}) to have a default "
            f"range. Received: {current}. Declare it: "
            f'hyperparameters={{"{path}": hg.Float(min_value, max_value)}}.'
        )
    free = current[current > row.hard_low]
    low, high = row.min_value, row.max_value
    if low is not None and high is not None and free.size:
        reach = high - low
        low = _widened_low(row, low, reach, float(np.min(free)))
        high = _widened_high(row, high, reach, float(np.max(free)))
    return Float(
        low,
        high,
        sampling=row.sampling,
        default=float(current) if current.ndim == 0 else current,
        shape=current.shape,
    )


def _widened_low(row: Range, low: float, reach: float, smallest: float) -> float:
    if smallest > low:
        return low
    if row.sampling == "log":
        return smallest / 10.0
    lower = smallest - max(abs(smallest), reach)
    return max(lower, (smallest + row.hard_low) / 2.0)


def _widened_high(row: Range, high: float, reach: float, largest: float) -> float:
    if largest < high:
        return high
    if row.sampling == "log":
        return largest * 10.0
    if row.sampling == "reverse_log":
        return 1.0 - (1.0 - largest) / 10.0
    higher = largest + max(abs(largest), reach)
    return min(higher, (largest + row.hard_high) / 2.0)
