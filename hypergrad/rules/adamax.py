"""Adamax."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypergrad.rules import safe
from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class Adamax(OwnRule):
    """``keras.optimizers.Adamax``: Adam with the largest gradient in place of a root.

    ``m ← m + (g − m)(1 − β₁)``; ``u ← max(β₂ u, |g|)``;
    ``θ ← θ − η m / ((1 − β₁ᵗ)(u + ε))`` with t the step, from 1. Here η is
    ``learning_rate``, β₁ ``beta_1``, β₂ ``beta_2``, ε ``epsilon``, g the gradient; the
    slots are m ``"momentums"`` and u ``"norms"``.

    The maximum is piecewise smooth: the derivative is that of the larger one, of |g| at
    a tie; |g| has the derivative 0 at g = 0. Where u = 0 every gradient so far was
    exactly zero, and so is m, so that neither choice reaches the weights.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon`` and the
            shared ones.

    References: Kingma & Ba 2015, Alg. 2, arXiv:1412.6980 (there ε = 0).
    """

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Adamax":
        return cls(*common(optimizer, variables, ("beta_1", "beta_2", "epsilon")))

    def slots(self) -> Sequence[Slot]:
        return [Slot("momentums", "_m"), Slot("norms", "_u")]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        beta_1 = numbers["beta_1"]
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            one_minus_beta_1=scalar(1 - beta_1, dtype),
            correction=1 - safe.power(scalar(beta_1, dtype), t),
            beta_2=scalar(numbers["beta_2"], dtype),
            epsilon=scalar(numbers["epsilon"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        m = slot["momentums"]
        m = m + (g - m) * n.one_minus_beta_1
        u = safe.larger(n.beta_2 * slot["norms"], safe.absolute(g))
        new = {"momentums": m, "norms": u}
        return w - n.eta * m / (n.correction * (u + n.epsilon)), new


class _Scalars(NamedTuple):
    eta: Any
    one_minus_beta_1: Any
    correction: Any
    beta_2: Any
    epsilon: Any
