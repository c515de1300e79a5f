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

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from hypergrad import backend

Number = tuple[Any, ...]
"""Integer arrays that make up a fixed-point number."""


class AbstractFixedPoint(abc.ABC):
    """A format of numbers, and the arithmetic of its integers.

    Attributes:
        fraction_bits: F.
        floats: the dtype of what it is converted from and to.
        lost: the dtype of b.
        lost_bits: b is put aside before it needs more, beyond which z loses precision.
    """

    fraction_bits: int
    lost_bits: int
    floats: str
    lost: str

    @property
    @abc.abstractmethod
    def range(self) -> float:
        """Numbers are below it in magnitude; sums of two are still exact."""

    @abc.abstractmethod
    def rounded(self, units: Any) -> Number:
        """The nearest integer; one out of range for what is too large or NaN."""

    @abc.abstractmethod
    def units(self, z: Number) -> Any:
        """The integer as a float, rounded."""

    @abc.abstractmethod
    def add(self, a: Number, b: Number) -> Number:
        """a + b."""

    @abc.abstractmethod
    def subtract(self, a: Number, b: Number) -> Number:
        """a − b."""

    @abc.abstractmethod
    def plus(self, z: Number, b: Any) -> Number:
        """z + b for what was lost, b."""

    @abc.abstractmethod
    def narrow(self, z: Number) -> Any:
        """The integer as a b; where it has no room, one that does not fit."""

    @abc.abstractmethod
    def in_range(self, z: Number) -> Any:
        """Array of booleans."""

    def fits(self, b: Any) -> Any:
        """Array of booleans, whether what was lost has not outgrown its array."""
        return ops.less(ops.abs(b), 2**self.lost_bits)

    def nothing_lost(self, like: Any) -> Any:
        return ops.zeros(like.shape, self.lost)

    def from_float(self, x: Any) -> Number:
        return self.rounded(ops.cast(x, self.floats) * 2.0**self.fraction_bits)

    def to_float(self, z: Number) -> Any:
        return self.units(z) * 2.0**-self.fraction_bits

    def scale(self, z: Number, b: Any, delta: Any) -> tuple[Number, Any]:
        """(z, b) after z was multiplied by 1 − δ."""
        p = self._times(delta, self.plus(z, b))
        z = self.subtract(z, p)
        q = self._times(delta / (1.0 - delta), z)
        b = self.narrow(self.plus(self.subtract(p, q), b))
        return self.plus(z, self._part(delta * (1.0 - delta), b)), b

    def unscale(self, z: Number, b: Any, delta: Any) -> tuple[Number, Any]:
        """(z, b) before `scale`, to the last bit."""
        z = self.plus(z, -self._part(delta * (1.0 - delta), b))
        q = self._times(delta / (1.0 - delta), z)
        t = self.plus(q, b)  # b + p, and b + p + (z − p) is what p was made of
        p = self._times(delta, self.add(t, z))
        return self.add(z, p), self.narrow(self.subtract(t, p))

    def _times(self, factor: Any, z: Number) -> Number:
        return self.rounded(factor * self.units(z))

    def _part(self, factor: Any, b: Any) -> Any:
        return ops.cast(ops.round(factor * ops.cast(b, self.floats)), self.lost)


class Int32Pairs(AbstractFixedPoint):
    """Two int32 for a number, high · 2^30 + low with −2^29 ≤ low < 2^29.

    For weights in float32 without integers of 64 bits. Resolution 2^-34, range ±2^25.
    With digits of both signs a small negative number is not the difference of two
    large ones.
    """

    fraction_bits = 34
    lost_bits = 30
    floats = "float32"
    lost = "int32"

    @property
    def range(self) -> float:
        return 2.0**25

    def rounded(self, units: Any) -> Number:
        limit = 2.0**60
        # The selection also keeps a product apart from the difference below: fused
        # with it into one instruction it would not be rounded, here or there.
        inside = ops.less(ops.abs(units), limit)  # false for NaN
        units = ops.where(inside, units, limit)
        high = ops.round(units * 2.0**-30)
        low = ops.round(units - high * 2.0**30)
        return _carried(ops.cast(high, "int32"), ops.cast(low, "int32"))

    def units(self, z: Number) -> Any:
        high, low = (ops.cast(digit, self.floats) for digit in z)
        return high * 2.0**30 + low

    def add(self, a: Number, b: Number) -> Number:
        return _carried(a[0] + b[0], a[1] + b[1])

    def subtract(self, a: Number, b: Number) -> Number:
        return _carried(a[0] - b[0], a[1] - b[1])

    def plus(self, z: Number, b: Any) -> Number:
        return _carried(z[0], z[1] + b)

    def narrow(self, z: Number) -> Any:
        high, low = z
        whole = ops.left_shift(high, 30) + low
        return ops.where(ops.less(ops.abs(high), 2), whole, 2**31 - 1)

    def in_range(self, z: Number) -> Any:
        return ops.less(ops.abs(z[0]), 2**29)


def _carried(high: Any, low: Any) -> Number:
    # Twice: in one the sum might overflow.
    carry = ops.right_shift(ops.right_shift(low, 29) + 1, 1)
    return high + carry, low - ops.left_shift(carry, 30)


@dataclasses.dataclass(frozen=True)
class Int64(AbstractFixedPoint):
    """One int64 for a number.

    Args:
        fraction_bits: F; the range is ±2^(61−F). 50 for weights in float64, 40 for
            those in float32 where there are integers of 64 bits.
    """

    fraction_bits: int = 50
    lost_bits = 54
    floats = "float64"
    lost = "int64"

    @property
    def range(self) -> float:
        return 2.0 ** (61 - self.fraction_bits)

    def rounded(self, units: Any) -> Number:
        limit = 2.0**62
        inside = ops.less(ops.abs(units), limit)  # false for NaN
        return (ops.cast(ops.round(ops.where(inside, units, limit)), "int64"),)

    def units(self, z: Number) -> Any:
        return ops.cast(z[0], self.floats)

    def add(self, a: Number, b: Number) -> Number:
        return (a[0] + b[0],)

    def subtract(self, a: Number, b: Number) -> Number:
        return (a[0] - b[0],)

    def plus(self, z: Number, b: Any) -> Number:
        return (z[0] + b,)

    def narrow(self, z: Number) -> Any:
        return z[0]

    def in_range(self, z: Number) -> Any:
        return ops.less(ops.abs(z[0]), 2**61)


def fixed_point_for(weights: Iterable[Any]) -> AbstractFixedPoint:
    """The format that is about as fine as what these weights are rounded to."""
    kinds = {keras.backend.standardize_dtype(w.dtype) for w in weights}
    if "float64" in kinds:
        return Int64()
    # JAX makes an int32 of it unless float64 is switched on for the whole process.
    widest = backend.convert(np.zeros((), "int64")).dtype
    has_int64 = keras.backend.standardize_dtype(widest) == "int64"
    return Int64(40) if has_int64 else Int32Pairs()
