"""`Float`: the declared range of one hyperparameter."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from hypergrad.space import checks, rounding, transforms

Array = Any
"""A Python number, a NumPy array (host, float64) or a backend tensor (traced)."""

INTERIOR_MARGIN = 0.01
"""How far inside the range `Float.interior` moves a value that sits on an end."""


@dataclasses.dataclass(frozen=True, eq=False)
class Float:
    """A real hyperparameter, or an array of them, with its range and its scale.

    The outer loop steps on the real line: ``v = to_user(u)``, with σ the logistic
    function, a = ``min_value``, b = ``max_value``:

    - linear: ``v = a + (b−a) σ(u)``
    - log: ``v = exp(log a + (log b − log a) σ(u))``
    - reverse_log: ``v = b + δ − exp(log δ + (log(b+δ−a) − log δ)(1−σ(u)))``, δ = 1 − b
    - one bound: ``v = a + softplus(u)``, or its mirror image ``v = b − softplus(−u)``
    - no bound: ``v = u``

    Methods compute Python numbers and NumPy arrays on the host in float64, and backend
    tensors with ``keras.ops`` in their own precision; formulas and names are the same.

    Args:
        min_value: float, or None for no lower bound.
        max_value: float, or None for no upper bound.
        sampling: ``"linear"``, ``"log"`` (needs ``0 < min_value``), or
            ``"reverse_log"`` (needs ``max_value < 1``; 0.9, 0.99, 0.999 are evenly
            spaced): the scale on which the range is walked and sampled. The last two
            need both bounds.
        default: float, or array of ``shape``: the starting value. None takes what the
            compiled model holds. It may lie on a bound; with ``sampling="log"`` it may
            also be exactly 0.0 (no penalty, no decay), though no other value below
            ``min_value``.
        shape: tuple of ints, the shape of the value.
        constraint: function, NumPy array → NumPy array of the same shape: a projection
            onto the allowed set, for the few sets that no transform gives. Such a value
            is stepped in user units (``u = v``) and projected after every step.

    Raises:
        ValueError: empty or non-finite range, a range its ``sampling`` cannot have,
            unknown ``sampling``, default outside the range.
        TypeError: a bound that is no number, a default that is an integer or a boolean.

    Example:
        >>> momentum = Float(0.0, 0.9999, sampling="reverse_log", default=0.9)
        >>> float(momentum.sample(0.5).round(4))
        0.99
    """

    min_value: float | None = None
    max_value: float | None = None
    _: dataclasses.KW_ONLY
    sampling: Literal["linear", "log", "reverse_log"] = "linear"
    default: Any = None
    shape: tuple[int, ...] = ()
    constraint: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self) -> None:
        checks.check_range(self.min_value, self.max_value)
        checks.check_sampling(self.sampling, self.min_value, self.max_value)
        if not checks.is_shape(self.shape):
            raise TypeError(
                "`Float(shape=...)` must be a tuple of positive integers. "
                f"Received: {self.shape!r}. Write `shape=()` for one number, "
                "`shape=(3,)` for three."
            )
        if self.constraint is not None and not callable(self.constraint):
            raise TypeError(
                "`Float(constraint=...)` must be a function that projects an array "
                f"onto the allowed set. Received: {self.constraint!r}."
            )
        if self.default is not None:
            self._checked("Float(default=...)", self.default, zero_fits=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Float) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    # -- between user units and the real line ------------------------------------------

    def to_user(self, u: Array) -> Array:
        """The value of the unconstrained ``u``, elementwise.

        A value never leaves its range: what rounding would push over a bound is put on
        the last number inside, in the precision of a tensor ``u``; a NumPy ``u`` gives
        a float64 value that stays inside when it is cast to ``floatx`` later.

        Args:
            u: number, array or tensor.

        Returns:
            array or tensor like ``u``. With a ``constraint``, a NumPy ``u`` is
            projected; a tensor ``u`` is returned as it is (projections run on the
            host).
        """
        if not _on_host(u):
            if self.constraint is not None:
                return u
            v = self._transform.to_user(u, ops)
            dtype = keras.backend.standardize_dtype(v.dtype)
            inside = rounding.clipped(v, *self.limits(dtype), dtype)
            # Straight through: the slope is kept where rounding was undone.
            return v + ops.stop_gradient(inside - v)
        u = np.asarray(u, np.float64)
        if self.constraint is not None:
            return self.project(u)
        return np.asarray(np.clip(self._transform.to_user(u, np), *self.limits()))

    def to_unconstrained(self, v: Array, *, clip: bool = False) -> Array:
        """The inverse of `to_user`.

        Args:
            v: number or array inside the range, or a tensor.
            clip: if True, a value on a bound or outside gives the large finite ``u`` at
                that end (about ±690; ±83 in float32). A tensor is always treated so: a
                traced value cannot be inspected.

        Returns:
            array or tensor like ``v``, finite.

        Raises:
            ValueError: a value on a bound or outside, unless ``clip``.
        """
        if not _on_host(v):
            return self._transform.to_unconstrained(v, ops)
        v = np.asarray(v, np.float64)
        if not clip and self.constraint is None and not np.all(self._inside(v)):
            bad = v[~self._inside(v)].flat[0]
            raise ValueError(
                f"A value must lie strictly inside {self.range_text()} to have a "
                f"finite place on the real line. Received: {bad}. Start from "
                "`interior(value)`, or pass `clip=True`."
            )
        return np.asarray(self._transform.to_unconstrained(v, np))

    def to_unconstrained_gradient(self, v: Any, grad_user: Any) -> np.ndarray:
        """dE/du = dE/dv · dv/du, on the host.

        Args:
            v: number or array, the value in user units.
            grad_user: dE/dv, same shape.

        Returns:
            float64 array; exactly 0 where ``v`` is on a bound, even where dE/dv is
            infinite there. NaN in ``grad_user`` stays NaN. Without bounds it is
            ``grad_user`` itself.
        """
        if isinstance(self._transform, transforms.Unbounded):
            return np.asarray(grad_user)
        v = np.asarray(v, np.float64)
        grad_user = np.asarray(grad_user, np.float64)
        slope = np.asarray(self._transform.slope(v))
        flat = (slope == 0) & ~np.isnan(grad_user)
        return np.where(flat, 0.0, grad_user) * slope

    # -- values ------------------------------------------------------------------------

    def validate(self, name: str, value: Any) -> np.ndarray:
        """Checks a value in user units.

        Args:
            name: what the errors call it, e.g. ``"optimizer.beta_1"``.
            value: float, NumPy array or eager tensor; one number fills ``shape``.

        Returns:
            float64 array of ``shape``. A value that is over a bound by no more than
            float32 rounding is put on the bound.

        Raises:
            TypeError: integers, booleans, what is no number.
            ValueError: NaN, infinities, another shape, a value outside the range or off
                the ``constraint``. The exact 0 of a log range is a value only if the
                default holds it.
        """
        zero_fits = self.default is not None and np.any(np.asarray(self.default) == 0)
        return self._checked(name, value, zero_fits=bool(zero_fits))

    def with_default(self, name: str, value: Any) -> "Float":
        """This Float; ``value``, what the model holds, fills in a missing default.

        ``name`` is what the errors call it.
        """
        if self.default is not None:
            return self
        value = self._checked(name, value, zero_fits=True)
        return dataclasses.replace(self, default=value)

    def start(self) -> np.ndarray:
        """The default as a float64 array of ``shape``, which is not to be written to.

        Without one, the value at u = 0: the middle of the range on its scale.
        """
        if self.default is None:
            return self.to_user(np.zeros(self.shape))
        # Checked once: it may be as large as the training data.
        known = vars(self).get("_start")
        if known is None:
            known = self._checked("Float(default=...)", self.default, zero_fits=True)
            known.setflags(write=False)
            object.__setattr__(self, "_start", known)
        return known

    def on_bound(self, value: Any) -> np.ndarray:
        """Where ``value`` sits on a bound or on the exact 0 of a log range (booleans).

        No descent can start there.
        """
        value = np.asarray(value, np.float64)
        if self.constraint is not None:
            return np.zeros(value.shape, bool)
        return np.asarray(~self._inside(value))

    def interior(self, value: Any, margin: float = INTERIOR_MARGIN) -> np.ndarray:
        """``value`` with every element that sits on a bound moved inside.

        Such an element goes to the point at ``margin`` of the range on its own scale,
        from that bound; with one bound, to ``u = ±log(margin/(1−margin))``, about
        ``margin`` away from the bound. The other elements stay as they are.

        Args:
            value: number or array in user units.
            margin: float in (0, 0.5).

        Returns:
            float64 array, strictly inside the range.
        """
        if not 0.0 < margin < 0.5:
            raise ValueError(
                f"`margin` must be strictly between 0 and 0.5. Received: {margin}."
            )
        value = np.array(value, np.float64)
        if self.constraint is not None:
            return self.project(value)
        low, high = self._closed()
        edge = math.log(margin) - math.log1p(-margin)
        value = np.where(value <= low, self.to_user(edge), value)
        return np.asarray(np.where(value >= high, self.to_user(-edge), value))

    def sample(self, q: Any) -> np.ndarray:
        """The value at the fraction ``q`` of the range on its scale.

        Args:
            q: number or array in [0, 1]; uniform draws give the distribution that
                ``sampling`` names.

        Returns:
            float64 array like ``q``, projected if there is a ``constraint``.

        Raises:
            ValueError: the range has no two ends, or ``q`` leaves [0, 1].
        """
        scale = self._scale
        if not isinstance(scale, transforms.AbstractTwoSided):
            raise ValueError(
                "Random, grid and quasi-random search need both ends of the range. "
                f"Received: {self.range_text()}. Declare "
                "`Float(min_value, max_value)`."
            )
        q = np.asarray(q, np.float64)
        if not np.all((q >= 0.0) & (q <= 1.0)):
            raise ValueError(f"`q` must lie in [0, 1]. Received: {q}.")
        value = np.asarray(np.clip(scale.at(q, 1.0 - q, np), *self.limits()))
        return value if self.constraint is None else self.project(value)

    def project(self, value: Any) -> np.ndarray:
        """The nearest allowed value: ``constraint(value)``, else clipped to the range.

        Raises:
            ValueError: the constraint returns another shape, something non-finite, or a
                value outside the declared range.
        """
        value = np.asarray(value, np.float64)
        if self.constraint is None or not np.all(np.isfinite(value)):
            return np.asarray(np.clip(value, *self.limits()))
        low, high = self._closed()
        projected = np.asarray(self.constraint(value), np.float64)
        slack = 1e-9 * (1.0 + np.abs(projected))
        inside = (projected >= low - slack) & (projected <= high + slack)
        if projected.shape != value.shape or not np.all(inside & np.isfinite(slack)):
            raise ValueError(
                "`constraint` must return an array of the same shape inside "
                f"{self.range_text()}. Received for shape {value.shape}: shape "
                f"{projected.shape}, values from {np.min(projected):.6g} to "
                f"{np.max(projected):.6g}. Mend the projection, or widen the range."
            )
        return np.asarray(np.clip(projected, *self.limits()))

    def cast(self, value: Any, dtype: str) -> np.ndarray:
        """``value`` in another precision, rounded so that it stays inside the range.

        The exact 0 of a log range stays 0.
        """
        value = np.asarray(value, np.float64)
        clipped = np.clip(value, *self.limits(dtype))
        return np.where(self._exact_zero(value), value, clipped).astype(dtype)

    def limits(self, dtype: str | None = None) -> tuple[float, float]:
        """The smallest and the largest number of ``dtype`` inside the closed range.

        Args:
            dtype: ``"float64"`` or ``"float32"``; None means Keras' ``floatx``, where
                what is below float32 counts as float32.
        """
        if dtype is None:
            dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        return rounding.limits(*self._closed(), dtype)

    def range_text(self) -> str:
        """The range in words, for errors: ``[0.0, 1.0] (log)``."""
        low, high = self._closed()
        left = "(-inf" if math.isinf(low) else f"[{low}"
        right = "inf)" if math.isinf(high) else f"{high}]"
        scale = "" if self.sampling == "linear" else f" ({self.sampling})"
        return f"{left}, {right}{scale}"

    # -- inside ------------------------------------------------------------------------

    @property
    def _transform(self) -> transforms.AbstractTransform:
        return transforms.Unbounded() if self.constraint is not None else self._scale

    @property
    def _scale(self) -> transforms.AbstractTransform:
        low = checks.bound("min_value", self.min_value)
        high = checks.bound("max_value", self.max_value)
        if low is None:
            return transforms.Unbounded() if high is None else transforms.Upper(high)
        if high is None:
            return transforms.Lower(low)
        if self.sampling == "log":
            return transforms.Log(low, high)
        if self.sampling == "reverse_log":
            return transforms.ReverseLog(low, high)
        return transforms.Linear(low, high)

    def _closed(self) -> tuple[float, float]:
        low, high = self.min_value, self.max_value
        return (
            -math.inf if low is None else float(low),
            math.inf if high is None else float(high),
        )

    def _inside(self, value: np.ndarray) -> np.ndarray:
        low, high = self._closed()
        return (value > low) & (value < high)

    def _exact_zero(self, value: np.ndarray) -> np.ndarray:
        return (value == 0.0) & (self.sampling == "log")

    def _checked(self, name: str, value: Any, *, zero_fits: bool) -> np.ndarray:
        array = checks.shaped(name, checks.numbers(name, value), self.shape)
        low, high = self._closed()
        array = rounding.snapped(array, low, high)
        outside = (array < low) | (array > high)
        if zero_fits:
            outside &= ~self._exact_zero(array)
        if np.any(outside):
            raise ValueError(
                f"`{name}` must lie in {self.range_text()}. "
                f"Received: {array[outside].flat[0]}{_how_many(outside)}. Change the "
                "value, or widen the range with `Float(min_value, max_value)`."
            )
        if self.constraint is not None:
            moved = np.max(np.abs(self.project(array) - array))
            if moved > 1e-6 * (1.0 + np.max(np.abs(array))):
                raise ValueError(
                    f"`{name}` must satisfy its constraint. Received: a value that "
                    f"the constraint moves by {moved:.3g}. Pass `constraint(value)`."
                )
        return array

    def _key(self) -> tuple:
        default = self.default
        if default is not None:
            default = np.asarray(default, np.float64)
            default = (default.shape, default.tobytes())
        bounds = (self.min_value, self.max_value)
        return (*bounds, self.sampling, default, self.shape, self.constraint)


def _on_host(value: Any) -> bool:
    return isinstance(value, (int, float, list, tuple, np.ndarray, np.generic))


def _how_many(outside: np.ndarray) -> str:
    if outside.ndim == 0:
        return ""
    return f" ({np.count_nonzero(outside)} of {outside.size} elements are outside)"
