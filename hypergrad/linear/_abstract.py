"""What a solver is, and what it is given."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from hypergrad.status import Status

NO_BETTER = 1.0 - 1e-5
"""A residual from here on, but for rounding, is that of 0: nothing was gained."""


class Operator(NamedTuple):
    """A linear map on trees of arrays.

    ``product``: function, v → A v, a tree of the same structure; compiled.
    ``program``: function (key, build) → compiled function, made once for each key: what
    a solver compiles is kept beside the product, and not made again for another A.
    ``measured``: function, v → the part of it whose length errors are measured by.
    """

    product: Callable[[Any], Any]
    program: Callable[[Any, Callable[[], Callable]], Callable]
    measured: Callable[[Any], Any] = lambda v: v


class Solution(NamedTuple):
    """What a solver found.

    ``x``: tree like b. ``residual``: ‖A x − b‖ / ‖b‖, a float; for `FixedPoint`
    A = I − M. ``products``: how many products with A (or M) were taken. ``status``: not
    ok where x must not be used, saying why.
    """

    x: Any
    residual: float
    products: int
    status: Status = Status()


@dataclasses.dataclass(frozen=True)
class AbstractSolver(abc.ABC):
    """How A v = b is solved, where A is known by its products alone."""

    @abc.abstractmethod
    def solve(self, operator: Operator, b: Any) -> Solution:
        """An approximation of A⁻¹ b.

        Args:
            operator: A; for a solver with ``of_step`` the map M of A = I − M.
            b: tree of arrays.
        """

    @property
    @abc.abstractmethod
    def products(self) -> int:
        """How many products `solve` takes at most."""

    @property
    def of_step(self) -> bool:
        """Whether it is given the transposed derivative of a training step, M."""
        return False


def failed(x: Any, residual: float, products: int, reason: str) -> Solution:
    """A solution that must not be used."""
    status = Status(False, reason, None, "hypergradient")
    return Solution(x, residual, products, status)


def check_count(solver: str, name: str, given: Any) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError(
            f"`{name}` of {solver} must be an int of at least 1. Received: {given!r}."
        )


def check_number(
    solver: str, name: str, given: Any, zero: bool = False, none: str = ""
) -> None:
    """Raises unless a finite number above 0 was given, or at 0 where ``zero``.

    ``none``: what None means, "" where it is not allowed.
    """
    if given is None and none:
        return
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or not math.isfinite(given) or given < 0 or (given == 0 and not zero):
        least = "at least 0" if zero else "above 0"
        other = f", or None {none}" if none else ""
        raise ValueError(
            f"`{name}` of {solver} must be a finite number {least}{other}. Received: "
            f"{given!r}."
        )
