"""Projections of weights after an update: Keras' constraints, with finite derivatives.

Keras takes the square root of the squared norm of a column, which is exactly zero for
the column of a unit that was never used. Its own constraint classes are replaced by
the functions below, which return the same values; any other callable runs as it is.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from hypergrad.rules import safe


def constrain(constraint: Callable | None, weight: Any) -> Any:
    """``constraint(weight)``; the derivative on the border is the one inside."""
    if constraint is None:
        return weight
    twin = _TWINS.get(type(constraint))
    new = constraint(weight) if twin is None else twin(constraint, weight)
    return ops.cast(new, weight.dtype)


def _max_norm(constraint: Any, weight: Any) -> Any:
    norms = safe.norm(weight, constraint.axis, keepdims=True)
    return _rescaled(weight, norms, _between(norms, 0.0, constraint.max_value))


def _min_max_norm(constraint: Any, weight: Any) -> Any:
    norms = safe.norm(weight, constraint.axis, keepdims=True)
    inside = _between(norms, constraint.min_value, constraint.max_value)
    rate = constraint.rate
    return _rescaled(weight, norms, rate * inside + (1 - rate) * norms)


def _unit_norm(constraint: Any, weight: Any) -> Any:
    norms = safe.norm(weight, constraint.axis, keepdims=True)
    return weight / (keras.config.epsilon() + norms)


def _rescaled(weight: Any, norms: Any, desired: Any) -> Any:
    return weight * (desired / (keras.config.epsilon() + norms))


def _between(x: Any, low: Any, high: Any) -> Any:
    x = ops.where(ops.less(x, low), ops.cast(low, x.dtype), x)
    return ops.where(ops.greater(x, high), ops.cast(high, x.dtype), x)


_TWINS = {
    keras.constraints.MaxNorm: _max_norm,
    keras.constraints.MinMaxNorm: _min_max_norm,
    keras.constraints.UnitNorm: _unit_norm,
}
