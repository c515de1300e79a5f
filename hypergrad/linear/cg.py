"""Conjugate gradients."""

import dataclasses
import math
from typing import Any

import numpy as np
from keras import ops

from hypergrad import backend
from hypergrad.linear import vectors
from hypergrad.linear._abstract import (
    AbstractSolver,
    Operator,
    Solution,
    check_count,
    check_number,
    failed,
)


@dataclasses.dataclass(frozen=True)
class CG(AbstractSolver):
    """Conjugate gradients on ``(A + δI) x = b``.

    After k products x is the best approximation in span{b, Ab, …, A^(k−1) b}, measured
    by ``(x − x*)'(A + δI)(x − x*)``.

    Args:
        tolerance: float above 0: it stops where ``‖(A + δI) x − b‖ ≤ tolerance · ‖b‖``,
            and fails where that takes more than ``max_iterations``. None: it takes
            ``max_iterations`` products and what they give.
        max_iterations: int ≥ 1.
        damping: float ≥ 0, δ. It makes an indefinite A definite where it exceeds the
            most negative eigenvalue, and biases the solution.

    Returns:
        `Solution`, whose residual is that of A without damping.

    Cost: at most ``max_iterations`` products with A, and one for the residual; three
    vectors of memory beside b, and the product.

    Valid when: A + δI is symmetric and positive definite. A direction p with
    p'(A + δI) p ≤ 0 that is met makes the status say so.

    Example:
        >>> hg.Implicit(hg.linear.CG(tolerance=1e-6, damping=1e-3))

    References: Hestenes & Stiefel 1952, "Methods of conjugate gradients for solving
    linear systems"; for hypergradients Pedregosa 2016 (HOAG), arXiv:1602.02355.
    """

    tolerance: float | None = 1e-4
    max_iterations: int = 100
    damping: float = 0.0

    def __post_init__(self) -> None:
        meaning = "to take `max_iterations` products"
        check_number("CG", "tolerance", self.tolerance, none=meaning)
        check_count("CG", "max_iterations", self.max_iterations)
        check_number("CG", "damping", self.damping, zero=True)

    @property
    def products(self) -> int:
        return self.max_iterations + 1

    def solve(self, operator: Operator, b: Any) -> Solution:
        advance = operator.program("linear.CG", lambda: _advance)
        size = vectors.norm(operator, b)
        x, r, p = backend.zeros_like(b), b, b
        if size == 0.0:
            return Solution(x, 0.0, 0)
        damping = np.asarray(self.damping)
        best, k = 1.0, 0
        while k < self.max_iterations and best > (self.tolerance or 0.0):
            *new, scalars = advance(x, r, p, operator.product(p), damping)
            k += 1
            curvature, square = backend.to_numpy(scalars).tolist()
            # Of NaN too.
            if not curvature > 0.0:
                return failed(x, math.nan, k, self._indefinite(k, curvature))
            x, r, p = new
            best = min(best, square**0.5 / size)
        residual = vectors.residual(operator, x, b)
        if self.tolerance is None or best <= self.tolerance:
            return Solution(x, residual, k + 1)
        return failed(x, residual, k + 1, self._unfinished(best))

    def _indefinite(self, k: int, curvature: float) -> str:
        return (
            f"CG needs a positive definite Hessian, and in iteration {k} met a "
            f"direction p with p'Ap = {curvature:.3g}. Train longer, or add damping: "
            f"`CG(damping=…)`, here {self.damping:g}, above the most negative "
            "eigenvalue."
        )

    def _unfinished(self, best: float) -> str:
        return (
            f"CG reached ‖Av − b‖ = {best:.3g} ‖b‖ in {self.max_iterations} "
            f"iterations, expected {self.tolerance:g}. Raise `max_iterations`, "
            "`tolerance` or `damping`; `tolerance=None` takes what there is."
        )


def _advance(x: Any, r: Any, p: Any, curved: Any, damping: Any) -> tuple:
    """(x, r, p, (p'Ap, ‖r‖²)) of one iteration."""
    curved = backend.add(curved, vectors.scaled(damping, p))
    curvature = vectors.dot(p, curved)
    before = vectors.dot(r, r)
    length = before / curvature
    x = backend.add(x, vectors.scaled(length, p))
    r = backend.add(r, vectors.scaled(-length, curved))
    after = vectors.dot(r, r)
    p = backend.add(r, vectors.scaled(after / before, p))
    return x, r, p, ops.stack([curvature, after])
