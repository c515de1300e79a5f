"""Nadam."""

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
class Nadam(OwnRule):
    """``keras.optimizers.Nadam``: Adam with Nesterov's momentum, on a schedule.

    ``μₜ = β₁ (1 − ½ · 0.96ᵗ)`` with t the step, from 1; ``P ← P μₜ``;
    ``m ← m + (g − m)(1 − β₁)``; ``v ← v + (g² − v)(1 − β₂)``;
    ``m̂ = μₜ₊₁ m / (1 − P μₜ₊₁) + (1 − μₜ) g / (1 − P)``; ``v̂ = v / (1 − β₂ᵗ)``;
    ``θ ← θ − η m̂ / (√v̂ + ε)``. Here η is ``learning_rate``, β₁ ``beta_1``, β₂
    ``beta_2``, ε ``epsilon``, g the gradient; the slots are m ``"momentums"``, v
    ``"velocities"`` and P ``"u_products"``, which starts at 1: one number in Keras, one
    for each variable here, because β₁ may be one for each variable.

    Where ``v = 0`` the derivative of √v̂ is taken as 0: as in `Adam`, it enters next to
    m̂, which is 0 there.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon`` and the
            shared ones.

    References: Dozat 2016, "Incorporating Nesterov momentum into Adam", Alg. 8 in the
    technical report (the schedule of μ is its section 3.3).
    """

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Nadam":
        return cls(*common(optimizer, variables, ("beta_1", "beta_2", "epsilon")))

    def slots(self) -> Sequence[Slot]:
        return [
            Slot("momentums", "_momentums"),
            Slot("velocities", "_velocities"),
            Slot("u_products", "_u_product", _one),
        ]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        beta_1, beta_2 = scalar(numbers["beta_1"], dtype), numbers["beta_2"]
        # Two forms of one number: Keras' on TensorFlow differ in the eighth digit.
        decay = ops.cast(0.96, dtype)
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            factor=beta_1 * (1.0 - 0.5 * ops.power(0.96, t)),
            mu=beta_1 * (1.0 - 0.5 * ops.power(decay, t)),
            next_mu=beta_1 * (1.0 - 0.5 * ops.power(decay, t + 1)),
            one_minus_beta_1=scalar(1 - numbers["beta_1"], dtype),
            one_minus_beta_2=scalar(1 - beta_2, dtype),
            correction=1 - safe.power(scalar(beta_2, dtype), t),
            epsilon=scalar(numbers["epsilon"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        m, v = slot["momentums"], slot["velocities"]
        product = slot["u_products"] * n.factor
        m = m + (g - m) * n.one_minus_beta_1
        v = v + (ops.square(g) - v) * n.one_minus_beta_2
        of_m = n.next_mu / (1 - product * n.next_mu)
        of_g = (1 - n.mu) / (1 - product)
        step = n.eta * (of_m * m + of_g * g)
        new = {"momentums": m, "velocities": v, "u_products": product}
        return w - step / (safe.sqrt(v / n.correction) + n.epsilon), new


def _one(position: int, weight: Any) -> Any:
    return ops.ones((), dtype=weight.dtype)


class _Scalars(NamedTuple):
    eta: Any
    factor: Any
    mu: Any
    next_mu: Any
    one_minus_beta_1: Any
    one_minus_beta_2: Any
    correction: Any
    epsilon: Any
