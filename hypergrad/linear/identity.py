"""The identity in the place of the inverse."""

import dataclasses
from typing import Any

from hypergrad.linear import vectors
from hypergrad.linear._abstract import AbstractSolver, Operator, Solution


@dataclasses.dataclass(frozen=True)
class Identity(AbstractSolver):
    """The identity in the place of the inverse: ``x = b``.

    The hypergradient is then that of T1-T2, which differentiates one step of gradient
    descent, up to its factor: T1-T2 carries the learning rate of that step, here it is
    1. Signs and the ratios between hyperparameters are those of T1-T2.

    Returns:
        `Solution`, whose residual ``‖A b − b‖ / ‖b‖`` says how far A is from I.

    Cost: one product with A, for the residual.

    Valid when: A is near a multiple of I; elsewhere an estimate without a bound, which
    never fails.

    Example:
        >>> hg.Implicit(hg.linear.Identity())

    References: Luketina et al. 2016 (T1-T2), arXiv:1511.06727.
    """

    @property
    def products(self) -> int:
        return 1

    def solve(self, operator: Operator, b: Any) -> Solution:
        return Solution(b, vectors.residual(operator, b, b), 1)
