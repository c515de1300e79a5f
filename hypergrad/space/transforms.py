"""Maps between a declared range and the real line, each formula written once.

Every formula takes ``xp``, the module that computes it: ``numpy`` on the host
(float64), ``keras.ops`` inside traced code. Only functions that both spell alike are
used (``exp, expm1, log, log1p, where``), and constants meet arrays through operators,
because ``keras.ops`` converts a Python float through float32 on TensorFlow.

With σ the logistic function, a = ``min_value``, b = ``max_value``, δ = 1 − b:

===============  =========================================================
`Linear`         ``v = a + (b−a) σ(u)``
`Log`            ``v = exp(log a + (log b − log a) σ(u))``
`ReverseLog`     ``v = b + δ − exp(log δ + (log(b+δ−a) − log δ)(1−σ(u)))``
`Lower`          ``v = a + softplus(u)``
`Upper`          ``v = b − softplus(−u)``
`Unbounded`      ``v = u``
===============  =========================================================

The two-sided ones carry both fractions, q = σ(u) and p = 1 − σ(u) = σ(−u), so that a
value next to either end keeps its full relative distance to that end, and ``u`` is
recovered as ``log q − log p``.
"""

import abc
import dataclasses
import math
from typing import Any

import numpy as np

Array = Any
"""A NumPy array or a backend tensor, as ``xp`` takes it."""


class AbstractTransform(abc.ABC):
    """An increasing map from the real line onto an open range."""

    @abc.abstractmethod
    def to_user(self, u: Array, xp: Any) -> Array:
        """Value in user units of the unconstrained ``u``, elementwise."""

    @abc.abstractmethod
    def to_unconstrained(self, v: Array, xp: Any) -> Array:
        """Inverse of `to_user`; finite at the ends of the range and outside it too."""

    @abc.abstractmethod
    def slope(self, v: np.ndarray) -> np.ndarray:
        """dv/du at the value ``v`` (NumPy); 0 at the ends of the range and outside."""


class AbstractTwoSided(AbstractTransform):
    """A range with two ends: ``v = at(σ(u), 1 − σ(u))``."""

    @abc.abstractmethod
    def at(self, q: Array, p: Array, xp: Any) -> Array:
        """Value at the fraction ``q`` of the scale, where ``p = 1 − q``."""

    @abc.abstractmethod
    def fractions(self, v: Array, xp: Any) -> tuple[Array, Array]:
        """``(q, p)`` of a value inside the closed range."""

    @abc.abstractmethod
    def rate(self, v: np.ndarray) -> np.ndarray:
        """dv/dq at the value ``v``."""

    @abc.abstractmethod
    def ends(self) -> tuple[float, float]:
        """``(a, b)``."""

    def to_user(self, u: Array, xp: Any) -> Array:
        q, p = logistic(u, xp)
        return self.at(q, p, xp)

    def to_unconstrained(self, v: Array, xp: Any) -> Array:
        low, high = self.ends()
        q, p = self.fractions(_between(v, low, high, xp), xp)
        return xp.log(_floored(q, xp)) - xp.log(_floored(p, xp))

    def slope(self, v: np.ndarray) -> np.ndarray:
        v = np.clip(v, *self.ends())
        q, p = self.fractions(v, np)
        return self.rate(v) * q * p


@dataclasses.dataclass(frozen=True)
class Linear(AbstractTwoSided):
    """``v = a + (b−a) σ(u)``."""

    low: float
    high: float

    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def at(self, q: Array, p: Array, xp: Any) -> Array:
        width = self.high - self.low
        return xp.where(q < 0.5, self.low + width * q, self.high - width * p)

    def fractions(self, v: Array, xp: Any) -> tuple[Array, Array]:
        width = self.high - self.low
        return (v - self.low) / width, (self.high - v) / width

    def rate(self, v: np.ndarray) -> np.ndarray:
        return np.full_like(v, self.high - self.low)


@dataclasses.dataclass(frozen=True)
class Log(AbstractTwoSided):
    """``v = exp(log a + (log b − log a) σ(u))``, a > 0."""

    low: float
    high: float

    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def length(self) -> float:
        return math.log(self.high) - math.log(self.low)

    def at(self, q: Array, p: Array, xp: Any) -> Array:
        length = self.length()
        from_low = self.low * xp.exp(length * q)
        from_high = self.high * xp.exp(-length * p)
        return xp.where(q < 0.5, from_low, from_high)

    def fractions(self, v: Array, xp: Any) -> tuple[Array, Array]:
        length = self.length()
        q = xp.log1p((v - self.low) / self.low) / length
        p = xp.log1p((self.high - v) / v) / length
        return q, p

    def rate(self, v: np.ndarray) -> np.ndarray:
        return self.length() * v


@dataclasses.dataclass(frozen=True)
class ReverseLog(AbstractTwoSided):
    """``v = b + δ − exp(log δ + (log(b+δ−a) − log δ)(1−σ(u)))``, δ = 1 − b > 0.

    Logarithmic in the distance to 1: 0.9, 0.99 and 0.999 are evenly spaced.
    """

    low: float
    high: float

    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def delta(self) -> float:
        return 1.0 - self.high

    def span(self) -> float:
        """``b + δ − a``: the distance of the lower end to 1."""
        return self.delta() + (self.high - self.low)

    def length(self) -> float:
        return math.log(self.span()) - math.log(self.delta())

    def at(self, q: Array, p: Array, xp: Any) -> Array:
        length = self.length()
        # Measured from the nearer end: the formula as printed loses a small distance to
        # an end at 0 to cancellation.
        from_low = self.low - self.span() * xp.expm1(-length * q)
        from_high = self.high - self.delta() * xp.expm1(length * p)
        return xp.where(q < 0.5, from_low, from_high)

    def fractions(self, v: Array, xp: Any) -> tuple[Array, Array]:
        length = self.length()
        q = -xp.log1p(-(v - self.low) / self.span()) / length
        p = xp.log1p((self.high - v) / self.delta()) / length
        return q, p

    def rate(self, v: np.ndarray) -> np.ndarray:
        return self.length() * (self.delta() + (self.high - v))


@dataclasses.dataclass(frozen=True)
class Lower(AbstractTransform):
    """``v = a + softplus(u)``: a lower end only."""

    low: float

    def to_user(self, u: Array, xp: Any) -> Array:
        return self.low + softplus(u, xp)

    def to_unconstrained(self, v: Array, xp: Any) -> Array:
        return _inverse_softplus(v - self.low, xp)

    def slope(self, v: np.ndarray) -> np.ndarray:
        return -np.expm1(-np.maximum(v - self.low, 0.0))


@dataclasses.dataclass(frozen=True)
class Upper(AbstractTransform):
    """``v = b − softplus(−u)``: an upper end only, the mirror image of `Lower`."""

    high: float

    def to_user(self, u: Array, xp: Any) -> Array:
        return self.high - softplus(-u, xp)

    def to_unconstrained(self, v: Array, xp: Any) -> Array:
        return -_inverse_softplus(self.high - v, xp)

    def slope(self, v: np.ndarray) -> np.ndarray:
        return -np.expm1(-np.maximum(self.high - v, 0.0))


@dataclasses.dataclass(frozen=True)
class Unbounded(AbstractTransform):
    """``v = u``."""

    def to_user(self, u: Array, xp: Any) -> Array:
        return u

    def to_unconstrained(self, v: Array, xp: Any) -> Array:
        return v

    def slope(self, v: np.ndarray) -> np.ndarray:
        return np.ones_like(v)


def logistic(u: Array, xp: Any) -> tuple[Array, Array]:
    """``(σ(u), σ(−u))``, each with full relative precision for any finite ``u``.

    The magnitude is taken with ``where`` and not ``abs``: the derivative of ``abs`` at
    0 is 0, which would cut the gradient at the middle of every range.
    """
    small = xp.exp(-xp.where(u >= 0, u, -u))
    larger, smaller = 1.0 / (1.0 + small), small / (1.0 + small)
    return xp.where(u >= 0, larger, smaller), xp.where(u >= 0, smaller, larger)


def softplus(u: Array, xp: Any) -> Array:
    """``log(1 + exp(u))``, with full relative precision and derivative ½ at 0."""
    tail = xp.log1p(xp.exp(-xp.where(u >= 0, u, -u)))
    return xp.where(u >= 0, u + tail, tail)


def _inverse_softplus(d: Array, xp: Any) -> Array:
    """``log(exp(d) − 1)`` as ``d + log(1 − exp(−d))``; large and negative for d ≤ 0."""
    d = _floored(d, xp)
    return d + xp.log(-xp.expm1(-d))


def _between(v: Array, low: float, high: float, xp: Any) -> Array:
    """``v`` clipped to the closed range; derivative 1 on its ends and 0 outside."""
    v = xp.where(v < low, low + 0.0 * v, v)
    return xp.where(v > high, high + 0.0 * v, v)


def _floored(d: Array, xp: Any) -> Array:
    """``d``, or a tiny positive number where ``d`` is below it.

    Both ``log`` of the result and its derivative are finite.
    """
    floor = 1e-300 if "float64" in str(d.dtype) else 1e-36
    return xp.where(d > floor, d, floor + 0.0 * d)
