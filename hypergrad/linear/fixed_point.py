"""Iteration towards a fixed point."""

import dataclasses
from typing import Any

from hypergrad import backend
from hypergrad.linear import vectors
from hypergrad.linear._abstract import (
    NO_BETTER,
    AbstractSolver,
    Operator,
    Solution,
    check_count,
    failed,
)


@dataclasses.dataclass(frozen=True)
class FixedPoint(AbstractSolver):
    """K iterations of ``x ← M x + b`` from 0, towards ``(I − M) x = b``.

    For hypergradients M is ``(∂Φ/∂s)'``, where Φ is a whole training step, gradient and
    rule, at the last state s = (weights, other state, optimizer state): what `Reverse`
    would do if all of its last K steps had been taken there.

    Args:
        num_iterations: int ≥ 1, K.

    Returns:
        `Solution`. Its residual is ‖M^K b‖ / ‖b‖, over the weights.

    Cost: K products with M; one vector of memory beside b, and the product.

    Valid when: Φ contracts at the last state. Where the residual is not below 1 the
    status says that it did not, in K iterations.

    Example:
        >>> hg.Implicit(hg.linear.FixedPoint(100))

    References: Grazzi et al. 2020, Alg. 1 (fixed-point variant), arXiv:2006.16218.
    """

    num_iterations: int

    def __post_init__(self) -> None:
        check_count("FixedPoint", "num_iterations", self.num_iterations)

    @property
    def of_step(self) -> bool:
        return True

    @property
    def products(self) -> int:
        return self.num_iterations

    def solve(self, operator: Operator, b: Any) -> Solution:
        add = operator.program("linear.add", lambda: backend.add)
        subtract = operator.program("linear.difference", lambda: vectors.difference)
        size = vectors.norm(operator, b)
        x = b
        for _ in range(self.num_iterations - 1):
            x = add(operator.product(x), b)
        left = subtract(add(operator.product(x), b), x)
        length = vectors.norm(operator, left)
        residual = vectors.relative(length, size)
        if residual < NO_BETTER:
            return Solution(x, residual, self.num_iterations)
        reason = (
            "The training step does not contract at the last state: after "
            f"{self.num_iterations} iterations of FixedPoint ‖Av − b‖ = "
            f"{residual:.3g} ‖b‖, expected less than ‖b‖. Train longer or at a lower "
            "learning rate, raise `num_iterations`, or use CG(damping=…) or Reverse()."
        )
        return failed(x, residual, self.num_iterations, reason)
