"""AdamW without a learning rate schedule."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from hypergrad.rules import safe
from hypergrad.rules.keras_internals import reads_momentum_after_the_step
from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class ScheduleFreeAdamW(OwnRule):
    """``keras.optimizers.ScheduleFreeAdamW``: averaging in place of a schedule.

    ``v ← v + (g² − v)(1 − β₂)``; ``z' = z − η min(t/W, 1) g / (√(v / (1 − β₂ᵗ)) + ε)``
    with t the step, from 1; ``x = (θ − (1 − β₁) z) / β₁``;
    ``x' = (1 − 1/t) x + z'/t``; ``θ ← (1 − β₁) z' + β₁ x'``; ``z ← z'``. Here η is
    ``learning_rate``, β₁ ``beta_1``, β₂ ``beta_2``, ε ``epsilon``, W ``warmup_steps``
    (0 for none), g the gradient; the slots are z ``"momentums"``, which starts as the
    weights, and v ``"velocities"``.

    The weights θ are the points at which gradients are taken, in Keras at the end of
    ``fit`` too; the paper evaluates at the average x.

    On TensorFlow Keras 3.15 computes x from z' instead of z (its ``momentum.value`` is
    the variable, read after the assignment), which makes it
    ``θ ← (1 − 1/t) θ + z'/t`` without β₁. The rule follows the Keras at hand, which it
    asks.

    Where ``v = 0`` the derivative of the root is taken as 0, next to a g of 0, as in
    `Adam`. β₁ = 0 divides by zero, in Keras too.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon`` and the
            shared ones.
        warmup_steps: int.
        x_from_new: whether x is computed from z'.

    References: Defazio et al. 2024, Alg. 1, arXiv:2405.15682 (averaged with equal
    weights; the decay is Keras' shared one, at θ).
    """

    warmup_steps: int
    x_from_new: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "ScheduleFreeAdamW":
        return cls(
            *common(optimizer, variables, ("beta_1", "beta_2", "epsilon")),
            warmup_steps=int(optimizer.warmup_steps),
            x_from_new=reads_momentum_after_the_step(),
        )

    def slots(self) -> Sequence[Slot]:
        return [
            Slot("momentums", "_momentums", _weight),
            Slot("velocities", "_velocities"),
        ]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        beta_1 = scalar(numbers["beta_1"], dtype)
        beta_2 = scalar(numbers["beta_2"], dtype)
        eta = scalar(numbers["learning_rate"], dtype)
        if self.warmup_steps > 0:
            eta = eta * ops.minimum(t / self.warmup_steps, 1.0)
        return _Scalars(
            eta=eta,
            beta_1=beta_1,
            one_minus_beta_1=1 - beta_1,
            one_minus_beta_2=1 - beta_2,
            correction=1 - safe.power(beta_2, t),
            epsilon=scalar(numbers["epsilon"], dtype),
            weight=1.0 / t,
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        v, old = slot["velocities"], slot["momentums"]
        v = v + (ops.square(g) - v) * n.one_minus_beta_2
        z = old - n.eta * g / (safe.sqrt(v / n.correction) + n.epsilon)
        x = (w - n.one_minus_beta_1 * (z if self.x_from_new else old)) / n.beta_1
        x = (1 - n.weight) * x + n.weight * z
        w = n.one_minus_beta_1 * z + n.beta_1 * x
        return w, {"momentums": z, "velocities": v}


def _weight(position: int, weight: Any) -> Any:
    return ops.copy(weight)


class _Scalars(NamedTuple):
    eta: Any
    beta_1: Any
    one_minus_beta_1: Any
    one_minus_beta_2: Any
    correction: Any
    epsilon: Any
    weight: Any
