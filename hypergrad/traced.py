"""A number that stands in for a Python float while user code is traced.

Layers, regularizers and optimizers of Keras ask Python questions about their own
numbers (``if self.stddev > 0``), which a traced tensor cannot answer. A `Traced` can,
as long as the answer is the same wherever the value may lie.
"""

import numbers
import sys
from typing import Any, NoReturn

import keras
import numpy as np

_THIS_FILE = __file__


class TracedNumberError(TypeError):
    """A question about a traced number that has no single answer."""


class Traced:
    """A tensor that behaves like a number of the open interval (low, high).

    Arithmetic gives tensors and carries the derivative. A comparison with a concrete
    number is answered where every point of (low, high) gives the same answer. Anything
    that would need the value itself (``float``, ``math.sqrt``, an undecided ``if``)
    raises `TracedNumberError` with file and line, because it would cut the derivative
    without a word.

    Next to a tensor of another floating dtype it takes that dtype, as a Python float
    does.

    Args:
        tensor: the value, a floating tensor of the backend.
        low: float or None, lower bound of the declared range; None is unbounded.
        high: float or None, upper bound of the declared range; None is unbounded.
        name: the path that errors name.
    """

    # NumPy arrays and scalars hand operations with a `Traced` over to it.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __init__(
        self,
        tensor: Any,
        low: float | None = None,
        high: float | None = None,
        name: str = "a tuned number",
    ) -> None:
        self.tensor = tensor
        self.low = -np.inf if low is None else float(low)
        self.high = np.inf if high is None else float(high)
        self.name = name

    # What frameworks ask for.

    def __jax_array__(self) -> Any:
        return self.tensor

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self.tensor if dtype is None else _cast(self.tensor, dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self._refuse("a NumPy array")

    @property
    def dtype(self) -> Any:
        return self.tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return len(self.tensor.shape)

    # Arithmetic.

    def __add__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return mine + other

    def __radd__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return other + mine

    def __sub__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return mine - other

    def __rsub__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return other - mine

    def __mul__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return mine * other

    def __rmul__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return other * mine

    def __truediv__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return mine / other

    def __rtruediv__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return other / mine

    def __pow__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return mine**other

    def __rpow__(self, other: Any) -> Any:
        mine, other = self._beside(other)
        return keras.ops.power(keras.ops.convert_to_tensor(other, mine.dtype), mine)

    def __neg__(self) -> Any:
        return -self.tensor

    def __pos__(self) -> Any:
        return self.tensor

    def __abs__(self) -> Any:
        return abs(self.tensor)

    def _beside(self, other: Any) -> tuple[Any, Any]:
        """Both operands as something the framework combines."""
        if isinstance(other, Traced):
            return self.tensor, other.tensor
        if _is_number(other):
            return self.tensor, int(other) if _is_integer(other) else float(other)
        if isinstance(other, np.ndarray):
            other = keras.ops.convert_to_tensor(other, self.tensor.dtype)
        return _cast(self.tensor, getattr(other, "dtype", None)), other

    # Questions.

    def __bool__(self) -> bool:
        return self._answer("!=", 0.0)

    def __eq__(self, other: Any) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: Any) -> Any:
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Any:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Any:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Any:
        return self._compare(">=", other)

    __hash__ = object.__hash__

    def _compare(self, sign: str, other: Any) -> Any:
        if other is None or isinstance(other, str):
            return _compare_with_no_number(sign)
        if isinstance(other, Traced):
            if other is self:
                return sign in ("==", "<=", ">=")
            return self._compare_ranges(sign, other)
        if isinstance(other, np.ndarray) and other.ndim == 0:
            other = other.item()
        if _is_number(other):
            return self._answer(sign, float(other))
        mine, other = self._beside(other)
        return _tensor_comparison(sign)(mine, other)

    def _answer(self, sign: str, number: float) -> bool:
        """The answer that every interior point gives, or an error."""
        if number <= self.low:
            return sign in (">", ">=", "!=")
        if number >= self.high:
            return sign in ("<", "<=", "!=")
        if np.isnan(number):
            return sign == "!="
        raise TracedNumberError(
            f"The code at {_caller()} asks whether `{self.name}` {sign} {number:g}, "
            "expected the same answer for every value of its range. Received: the "
            f"range ({self.low:g}, {self.high:g}), which holds {number:g}. Choose a "
            f"range on one side of {number:g}, or search it with the tuner."
        )

    def _compare_ranges(self, sign: str, other: "Traced") -> bool:
        if self.high <= other.low:
            return sign in ("<", "<=", "!=")
        if self.low >= other.high:
            return sign in (">", ">=", "!=")
        raise TracedNumberError(
            f"The code at {_caller()} asks whether `{self.name}` {sign} "
            f"`{other.name}`, expected ranges that do not overlap. Received: "
            f"({self.low:g}, {self.high:g}) and ({other.low:g}, {other.high:g}). "
            "Choose ranges that are apart, or search one with the tuner."
        )

    # What would cut the derivative.

    def __float__(self) -> float:
        self._refuse("a Python float")

    def __int__(self) -> int:
        self._refuse("a Python int")

    def __index__(self) -> int:
        self._refuse("an index")

    def __complex__(self) -> complex:
        self._refuse("a Python complex")

    def __round__(self, ndigits: int | None = None) -> Any:
        self._refuse("a rounded number")

    def _refuse(self, wanted: str) -> NoReturn:
        raise TracedNumberError(
            f"The code at {_caller()} turns `{self.name}` into {wanted}, expected "
            "arithmetic or `keras.ops` on it: the conversion would cut its "
            "derivative. Received: a traced number. Use `keras.ops` there (for "
            "instance `keras.ops.sqrt` for `math.sqrt`), or search it with the tuner."
        )

    def __repr__(self) -> str:
        return f"Traced({self.name!r}, low={self.low:g}, high={self.high:g})"

    def __format__(self, spec: str) -> str:
        return repr(self)


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Real)


def _is_integer(x: Any) -> bool:
    return isinstance(x, numbers.Integral)


def _cast(tensor: Any, dtype: Any) -> Any:
    """The tensor in another floating dtype; unchanged beside anything else."""
    if dtype is None:
        return tensor
    dtype = keras.backend.standardize_dtype(dtype)
    if "float" not in dtype or dtype == keras.backend.standardize_dtype(tensor.dtype):
        return tensor
    return keras.ops.cast(tensor, dtype)


def _compare_with_no_number(sign: str) -> Any:
    return {"==": False, "!=": True}.get(sign, NotImplemented)


def _tensor_comparison(sign: str) -> Any:
    return {
        "==": keras.ops.equal,
        "!=": keras.ops.not_equal,
        "<": keras.ops.less,
        "<=": keras.ops.less_equal,
        ">": keras.ops.greater,
        ">=": keras.ops.greater_equal,
    }[sign]


def _caller() -> str:
    """File and line of the code that uses the number, outside this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == _THIS_FILE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
