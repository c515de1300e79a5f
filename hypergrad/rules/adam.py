"""Adam and AMSGrad."""

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
class Adam(OwnRule):
    """``keras.optimizers.Adam``: moving averages of the gradient and of its square.

    ``α = η √(1 − β₂ᵗ) / (1 − β₁ᵗ)`` with t the step, from 1;
    ``m ← m + (g − m)(1 − β₁)``; ``v ← v + (g² − v)(1 − β₂)``;
    ``θ ← θ − α m / (√v + ε)``, with ``amsgrad`` ``u ← max(u, v)`` in place of v there.
    Here η is ``learning_rate``, β₁ ``beta_1``, β₂ ``beta_2``, ε ``epsilon``, g the
    gradient; the slots are m ``"momentums"``, v ``"velocities"`` and
    u ``"velocity_hats"``.

    Where ``v = 0`` (every gradient so far exactly zero) the derivative of √v is taken
    as 0: it enters next to ``m``, which is 0 there, so the derivative of the update is
    exact. The maximum of AMSGrad passes the derivative to the larger of the two, to
    the new ``v`` at a tie.

    On TensorFlow Keras rounds β₁ᵗ and β₂ᵗ through float32 even for float64 variables.
    Here they are exact; with betas that float32 cannot hold a float64 step differs
    from Keras' there, relatively by 1e-8 / (1 − β₂) in the first steps.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon`` and the
            shared ones.
        amsgrad: bool.

    References: Kingma & Ba 2015, Alg. 1 in the order of computation of the end of
    section 2 (ε is their ε̂), arXiv:1412.6980; Reddi et al. 2018, Alg. 2,
    arXiv:1904.09237 (the maximum is taken of v without bias correction, as Keras does).
    """

    amsgrad: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Adam":
        return cls(
            *common(optimizer, variables, ("beta_1", "beta_2", "epsilon")),
            amsgrad=bool(optimizer.amsgrad),
        )

    def slots(self) -> Sequence[Slot]:
        return adam_slots(self.amsgrad)

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        return adam_scalars(numbers, t, dtype)

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        return adam_step(g, w, slot, n)


def adam_slots(amsgrad: bool) -> list[Slot]:
    """The slots of Adam and AdamW."""
    slots = [Slot("momentums", "_momentums"), Slot("velocities", "_velocities")]
    if amsgrad:
        slots += [Slot("velocity_hats", "_velocity_hats")]
    return slots


class AdamScalars(NamedTuple):
    """α, 1 − β₁, 1 − β₂, ε."""

    alpha: Any
    one_minus_beta_1: Any
    one_minus_beta_2: Any
    epsilon: Any


def adam_scalars(numbers: Numbers, t: Any, dtype: str) -> AdamScalars:
    """The scalars of Adam and AdamW at update t."""
    beta_1, beta_2 = numbers["beta_1"], numbers["beta_2"]
    eta = scalar(numbers["learning_rate"], dtype)
    root = safe.sqrt(1 - safe.power(scalar(beta_2, dtype), t))
    return AdamScalars(
        alpha=eta * root / (1 - safe.power(scalar(beta_1, dtype), t)),
        one_minus_beta_1=scalar(1 - beta_1, dtype),
        one_minus_beta_2=scalar(1 - beta_2, dtype),
        epsilon=scalar(numbers["epsilon"], dtype),
    )


def adam_step(
    g: Any, w: Any, slot: Mapping[str, Any], n: AdamScalars
) -> tuple[Any, dict[str, Any]]:
    """The equation of `Adam`; AdamW's differs in its default weight decay only."""
    m, v = slot["momentums"], slot["velocities"]
    m = m + (g - m) * n.one_minus_beta_1
    v = v + (ops.square(g) - v) * n.one_minus_beta_2
    new = {"momentums": m, "velocities": v}
    if "velocity_hats" in slot:
        v = new["velocity_hats"] = safe.larger(slot["velocity_hats"], v)
    return w - m * n.alpha / (safe.sqrt(v) + n.epsilon), new
