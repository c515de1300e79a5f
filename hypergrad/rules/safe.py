"""Square root, power and division with a finite derivative everywhere.

The derivative of ``sqrt`` at 0 is infinite, and infinity times the zero that follows
it in the chain rule is NaN: one weight whose gradient is exactly zero (a dead ReLU
unit, an unused embedding row) is enough to lose a whole hypergradient. Each function
here returns, bit for bit, the value of the plain operation. Where the plain derivative
is infinite, its derivative is the one stated.

They are written with two selections each ("double where"): the inner one keeps the
point out of the differentiated operation, the outer one puts its value back. Custom
gradients would be ignored by TensorFlow's forward mode and refused by JAX' jvp.
"""

from typing import Any

from keras import ops


def sqrt(x: Any) -> Any:
    """``√x``; the derivative at ``x = 0`` is ½ instead of infinite.

    Where ``x`` is a (moving average of a) square ``g²``, ``√(g²)`` enters an update
    only next to a factor that vanishes with ``g``: any finite value is right there.

    Args:
        x: floating array of any shape.

    Returns:
        Array like ``x``; NaN for negative entries, as the plain square root.
    """
    # √(0 + 1) − 1: half as many operations in the derivative as two `where`.
    one = ops.cast(ops.equal(x, 0), x.dtype)
    return ops.sqrt(x + one) - one


def power(base: Any, exponent: Any) -> Any:
    """``baseⁿ`` for whole ``n ≥ 1``; right derivatives in ``base``, at 0 too.

    ``d(baseⁿ)/dbase`` at 0 is 1 for n = 1 and 0 above; the second derivative is 2 for
    n = 2 and 0 otherwise. (TensorFlow's own second derivative there is NaN.)

    Args:
        base: floating array.
        exponent: array of the same dtype with whole values ≥ 1; not differentiated.

    Returns:
        Array of the common shape.
    """
    exponent = ops.stop_gradient(exponent)
    zero = ops.equal(base, 0)
    at_zero = ops.where(
        ops.equal(exponent, 1), base, ops.where(ops.equal(exponent, 2), base * base, 0)
    )
    return ops.where(zero, at_zero, ops.power(ops.where(zero, 1.0, base), exponent))


def real_power(base: Any, exponent: Any) -> Any:
    """``baseᵖ`` for ``base ≥ 0`` and any ``p``; all derivatives at ``base = 0`` are 0.

    For ``0 < p < 1`` that in ``base`` is infinite there. An accumulated ``Σ g²`` that
    is 0 changes by ``2 g dg = 0``, so that any finite value is right.
    """
    zero = ops.equal(base, 0)
    at_zero = ops.stop_gradient(ops.power(ops.zeros_like(base), exponent))
    return ops.where(zero, at_zero, ops.power(ops.where(zero, 1.0, base), exponent))


def divide(numerator: Any, denominator: Any) -> Any:
    """``numerator / denominator``; both derivatives are 0 where the latter is 0.

    The value there stays the plain one (±inf or NaN): only a quotient that a later
    selection throws away is saved by this.
    """
    zero = ops.equal(denominator, 0)
    plain = ops.stop_gradient(ops.divide(numerator, denominator))
    return ops.where(
        zero, plain, ops.divide(numerator, ops.where(zero, 1.0, denominator))
    )


def tiny_quotient(numerator: Any, denominator: Any) -> Any:
    """``numerator / denominator`` of comparable positive numbers, however small.

    The derivative has the square of the denominator, which float32 rounds to 0 below
    1e-23. Both are scaled by a power of two first, which changes no bit of the value.
    """
    scale = ops.where(ops.less(denominator, 2.0**-60), 2.0**60, 1.0)
    scale = ops.cast(scale, denominator.dtype)
    return (numerator * scale) / (denominator * scale)


def larger(x: Any, y: Any) -> Any:
    """``max(x, y)`` with the derivative of the branch in force; at a tie that of ``y``.

    ``ops.maximum`` shares the derivative at a tie on JAX and gives it to the first
    argument on TensorFlow. NaN in ``y`` is kept, NaN in ``x`` is not.
    """
    return ops.where(ops.greater(x, y), x, y)


def smaller(x: Any, y: Any) -> Any:
    """``min(x, y)`` with the derivative of the branch in force; at a tie that of ``y``.

    NaN in ``y`` is kept, NaN in ``x`` is not.
    """
    return ops.where(ops.less(x, y), x, y)


def absolute(x: Any) -> Any:
    """``|x|``; the derivative at 0 is 0 (that of ``ops.abs`` is 1 on JAX)."""
    return x * ops.stop_gradient(ops.sign(x))


def norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """``‖x‖₂`` over ``axis``; the derivative at ``x = 0`` is 0."""
    return sqrt(ops.sum(ops.square(x), axis=axis, keepdims=keepdims))
