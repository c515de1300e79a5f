"""The Neumann series, truncated."""

import dataclasses
import math
from typing import Any

import numpy as np
from keras import ops

from hypergrad import backend
from hypergrad.linear import vectors
from hypergrad.linear._abstract import (
    NO_BETTER,
    AbstractSolver,
    Operator,
    Solution,
    check_count,
    check_number,
    failed,
)

POWERS = 8
"""The most products that estimate the largest eigenvalue, where no scale is given."""

RISE = 1.1
"""An estimate that rises by less than this factor from one product to the next, which
it does ever more slowly, is good enough: half the eigenvalue would do."""

GROWTH = 1.01
"""How much longer than the one before a term may be. Of a symmetric A the lengths are
log-convex: once they grow by this factor, they grow by as much in every later term."""


@dataclasses.dataclass(frozen=True)
class Neumann(AbstractSolver):
    """A truncated Neumann series: ``x = scale · Σ_{k<K} (I − scale·A)^k b``.

    At a minimum it is what K steps of gradient descent with rate ``scale`` give that
    are swept back, as by `Truncated(K)`.

    Args:
        num_terms: int ≥ 1, K.
        scale: float in (0, 2/λ_max(A)). None: 1/λ, where λ is what at most 8 steps
            of power iteration from b find of λ_max. It is too small where b has little
            of the longest direction, which then matters little, or shows as growth.

    Returns:
        `Solution`. Its residual is the length of term K, the first left out, over ‖b‖.

    Cost: K products with A, and up to 8 more where ``scale`` is None; two vectors of
    memory beside b, and the product.

    Valid when: A is symmetric and positive definite, and the scale below 2/λ_max.
    Elsewhere the series diverges: where a term is longer than the one before it, or the
    residual not below 1, the status says so.

    Example:
        >>> hg.Implicit(hg.linear.Neumann(20), batch=128)

    References: Lorraine et al. 2020, Alg. 3, arXiv:1911.02590.
    """

    num_terms: int
    scale: float | None = None

    def __post_init__(self) -> None:
        check_count("Neumann", "num_terms", self.num_terms)
        meaning = "for an estimate of 1/λ_max"
        check_number("Neumann", "scale", self.scale, none=meaning)

    @property
    def products(self) -> int:
        return self.num_terms + (POWERS if self.scale is None else 0)

    def solve(self, operator: Operator, b: Any) -> Solution:
        advance = operator.program("linear.Neumann", lambda: _advance)
        size = vectors.norm(operator, b)
        if size == 0.0:
            return Solution(b, 0.0, 0)
        scale, powers = self.scale, 0
        if scale is None:
            largest, powers = largest_eigenvalue(operator, b)
            if not 0.0 < largest < math.inf:
                reason = (
                    "Neumann found no curvature to scale its terms by: the power "
                    f"iteration gave {largest:g} for the largest eigenvalue of the "
                    "Hessian, expected a positive number. Use `CG(damping=…)`, or "
                    "`Neumann(num_terms, scale)` with a scale of your own."
                )
                return failed(backend.zeros_like(b), 1.0, powers, reason)
            scale = 1.0 / largest
        factor = np.asarray(scale)
        total = operator.program("linear.scaled", lambda: vectors.scaled)(factor, b)
        term, before = b, size
        for k in range(1, self.num_terms):
            total, term, square = advance(total, term, operator.product(term), factor)
            length = float(backend.to_numpy(square)) ** 0.5
            # Of NaN too.
            if not length <= GROWTH * before:
                grown = length / before if before > 0.0 else math.inf
                reason = _diverges(f"term {k} is {grown:.3g} times term {k - 1}", scale)
                return failed(total, length / size, powers + k, reason)
            before = length
        residual = vectors.residual(operator, total, b)
        products = powers + self.num_terms
        if residual < NO_BETTER:
            return Solution(total, residual, products)
        reason = _diverges(f"the residual is {residual:.3g}, that of v = 0 is 1", scale)
        return failed(total, residual, products, reason)


def largest_eigenvalue(operator: Operator, b: Any) -> tuple[float, int]:
    """(|λ_max(A)|, from below, by power iteration from b; products taken)."""

    def normalised(v: Any) -> tuple:
        square = vectors.dot(v, v)
        return vectors.scaled(1.0 / ops.sqrt(square), v), square

    program = operator.program("linear.normalised", lambda: normalised)
    v, _ = program(b)
    found, products = 0.0, 0
    while products < POWERS:
        before = found
        v, square = program(operator.product(v))
        products += 1
        found = float(backend.to_numpy(square)) ** 0.5
        # Of NaN too.
        if not found > RISE * before:
            break
    return found, products


def _advance(total: Any, term: Any, curved: Any, scale: Any) -> tuple:
    """(total, term, squared length of it) with the next term, given A · term."""
    term = backend.add(term, vectors.scaled(-scale, curved))
    total = backend.add(total, vectors.scaled(scale, term))
    return total, term, vectors.dot(term, term)


def _diverges(sign: str, scale: float) -> str:
    return (
        f"The Neumann series diverges: {sign}, at scale {scale:.3g}. It needs a "
        "positive definite Hessian and a scale below 2 / (its largest eigenvalue). Use "
        "a smaller `scale`, `CG(damping=…)`, or train longer."
    )
