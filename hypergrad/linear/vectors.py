"""Trees of arrays as vectors, inside compiled code.

Leaves that are not differentiated (counters, seeds) have no part in a vector: they keep
what stands there.
"""

from typing import Any

import keras
from keras import ops, tree

from hypergrad import backend
from hypergrad.linear._abstract import Operator


def dot(a: Any, b: Any) -> Any:
    """⟨a, b⟩, in float32 at least: a scalar."""
    dtype = "float64" if keras.config.floatx() == "float64" else "float32"
    total = ops.zeros((), dtype)
    for x, y in zip(tree.flatten(a), tree.flatten(b), strict=True):
        if backend.is_inexact(x):
            total = total + ops.sum(ops.cast(x, dtype) * ops.cast(y, dtype))
    return total


def scaled(factor: Any, a: Any) -> Any:
    """factor · a, every leaf in its own dtype."""

    def leaf(x: Any) -> Any:
        return ops.cast(factor, x.dtype) * x if backend.is_inexact(x) else x

    return tree.map_structure(leaf, a)


def difference(a: Any, b: Any) -> Any:
    """a − b."""
    return backend.add(a, scaled(-1.0, b))


def norm(operator: Operator, v: Any) -> float:
    """‖v‖ of the measured part, on the host."""

    def square(v: Any) -> Any:
        part = operator.measured(v)
        return dot(part, part)

    program = operator.program("linear.square", lambda: square)
    return float(backend.to_numpy(program(v))) ** 0.5


def residual(operator: Operator, x: Any, b: Any) -> float:
    """‖A x − b‖ / ‖b‖; takes a product."""
    program = operator.program("linear.difference", lambda: difference)
    left = program(operator.product(x), b)
    return relative(norm(operator, left), norm(operator, b))


def relative(length: float, whole: float) -> float:
    """Their ratio; 0 for a residual of nothing."""
    return length / whole if whole > 0.0 else length
