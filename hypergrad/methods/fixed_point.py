"""Fixed-point numbers that are multiplied by factors without losing a bit.

A number is an integer z for the value z · 2^-F. Times a factor 1 − δ it loses
information, which a second integer b takes: the pair goes to ((1 − δ) z, b / (1 − δ)),
a map of determinant 1, as four shears, each a multiple of one added to the other. With
``⌊·⌉`` a rounded product, the shears of z with those of b between them are

    p = ⌊δ (b + z)⌉,  z ← z − p;     q = ⌊δ/(1−δ) z⌉,  b ← b + p − q;
    z ← z + ⌊δ (1−δ) b⌉.

A shear is undone by subtracting what was added, whatever its rounding, so all of it
runs backwards to the last bit, for any δ < 1. z is right to about a unit while δ b is
below what a float resolves; b starts at 0, is about a unit by rounding, and then grows
by log₂(1/(1−δ)) bits each time: it is put aside in time, and begins at 0 again.

References: Maclaurin et al. 2015, Alg. 3, arXiv:1502.03492, where the factor is a
fraction n/d, the lost digit goes to the end of an integer of any size, and a z is right
to d units; Daubechies & Sweldens 1998, "Factoring wavelet transforms into lifting
steps", section 7 (the four shears).
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

LOST_BITS = 54
"""b is put aside before it needs more, beyond which z loses precision."""


@dataclasses.dataclass(frozen=True)
class Int64:
    """Numbers that are an int64 each, and their arithmetic, in float64.

    Both are 64 bits whatever ``floatx`` is: call it inside of ``backend.wide()``.

    Args:
        fraction_bits: F; the range is ±2^(61−F). 50 for weights in float64, 40 for
            those in float32, about as fine as what these are rounded to.
    """

    fraction_bits: int = 50

    @property
    def range(self) -> float:
        """Numbers are below it in magnitude; sums of two are still exact."""
        return 2.0 ** (61 - self.fraction_bits)

    def from_float(self, x: Any) -> Any:
        """The nearest integer; one out of range for what is too large or NaN."""
        return _rounded(ops.cast(x, "float64") * 2.0**self.fraction_bits)

    def to_float(self, z: Any) -> Any:
        return _units(z) * 2.0**-self.fraction_bits

    def in_range(self, z: Any) -> Any:
        """Array of booleans."""
        return ops.less(ops.abs(z), 2**61)

    def fits(self, b: Any) -> Any:
        """Array of booleans, whether what was lost has not outgrown its array."""
        return ops.less(ops.abs(b), 2**LOST_BITS)

    def nothing_lost(self, like: Any) -> Any:
        return ops.zeros(like.shape, "int64")

    def scale(self, z: Any, b: Any, delta: Any) -> tuple[Any, Any]:
        """(z, b) after z was multiplied by 1 − δ."""
        p = _times(delta, z + b)
        z = z - p
        b = b + p - _times(delta / (1.0 - delta), z)
        return z + _times(delta * (1.0 - delta), b), b

    def unscale(self, z: Any, b: Any, delta: Any) -> tuple[Any, Any]:
        """(z, b) before `scale`, to the last bit."""
        z = z - _times(delta * (1.0 - delta), b)
        t = b + _times(delta / (1.0 - delta), z)  # b + p; with z − p what p is made of
        p = _times(delta, t + z)
        return z + p, t - p


def _units(z: Any) -> Any:
    return ops.cast(z, "float64")


def _times(factor: Any, z: Any) -> Any:
    return _rounded(factor * _units(z))


def _rounded(units: Any) -> Any:
    limit = 2.0**62
    inside = ops.less(ops.abs(units), limit)  # false for NaN
    return ops.cast(ops.round(ops.where(inside, units, limit)), "int64")


def fixed_point_for(weights: Iterable[Any]) -> Int64:
    """The format that is about as fine as what these weights are rounded to."""
    kinds = {keras.backend.standardize_dtype(w.dtype) for w in weights}
    return Int64(50 if "float64" in kinds else 40)
