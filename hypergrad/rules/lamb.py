"""Lamb."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from hypergrad.rules import safe
from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class Lamb(OwnRule):
    """``keras.optimizers.Lamb``: Adam's direction, as long as the weights say.

    ``m ← m + (g − m)(1 − β₁)``; ``v ← v + (g² − v)(1 − β₂)``;
    ``d = (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)`` with t the step, from 1;
    ``θ ← θ − η φ d`` with ``φ = ‖θ‖ / ‖d‖``, or 1 where one of the norms is 0. Here η
    is ``learning_rate``, β₁ ``beta_1``, β₂ ``beta_2``, ε ``epsilon``, g the gradient;
    the slots are m ``"momentums"`` and v ``"velocities"``; norms are over one variable.

    φ jumps where a norm becomes 0, and the derivative is that of the piece in force:
    of a constant 1 for a variable that is exactly zero (a bias before its first step)
    or never had a gradient. Where an entry of v is 0 the derivative of its root is
    taken as 0, next to an m of 0, as in `Adam`. A variable with one entry moves by
    ``η |θ| sign(d)``, in which only η and θ have a derivative.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon`` and the
            shared ones.

    References: You et al. 2020, Alg. 2, arXiv:1904.00962 (there the decay is part of d;
    in Keras it is the shared one, before the step).
    """

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Lamb":
        return cls(*common(optimizer, variables, ("beta_1", "beta_2", "epsilon")))

    def slots(self) -> Sequence[Slot]:
        return [Slot("momentums", "_momentums"), Slot("velocities", "_velocities")]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        beta_1, beta_2 = numbers["beta_1"], numbers["beta_2"]
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            one_minus_beta_1=scalar(1 - beta_1, dtype),
            one_minus_beta_2=scalar(1 - beta_2, dtype),
            correction_1=1 - safe.power(scalar(beta_1, dtype), t),
            correction_2=1 - safe.power(scalar(beta_2, dtype), t),
            epsilon=scalar(numbers["epsilon"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        m, v = slot["momentums"], slot["velocities"]
        m = m + (g - m) * n.one_minus_beta_1
        v = v + (ops.square(g) - v) * n.one_minus_beta_2
        root = safe.sqrt(v / n.correction_2) + n.epsilon
        d = (m / n.correction_1) / root
        of_w, of_d = safe.norm(w), safe.norm(d)
        both = ops.logical_and(ops.greater(of_w, 0), ops.greater(of_d, 0))
        ratio = ops.where(both, safe.divide(of_w, of_d), 1.0)
        return w - ratio * n.eta * d, {"momentums": m, "velocities": v}


class _Scalars(NamedTuple):
    eta: Any
    one_minus_beta_1: Any
    one_minus_beta_2: Any
    correction_1: Any
    correction_2: Any
    epsilon: Any
