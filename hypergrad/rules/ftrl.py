"""Follow the regularized leader."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from hypergrad.rules import safe
from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot, constant


@dataclass(frozen=True)
class Ftrl(OwnRule):
    """``keras.optimizers.Ftrl``: follow the regularized leader, proximally.

    ``n' = n + g²``; ``z ← z + g + 2 λₛ θ − θ (n'ᵖ − nᵖ) / η``; ``n ← n'``;
    ``q = nᵖ / η + 2 (λ₂ + β / (2 η))``; ``θ ← (c(z) − z) / q`` with
    ``c(z) = min(max(z, −λ₁), λ₁)``. Here η is ``learning_rate``, p the negative of
    ``learning_rate_power``, λ₁ ``l1_regularization_strength``, λ₂
    ``l2_regularization_strength``, λₛ ``l2_shrinkage_regularization_strength``, β
    ``beta``, g the gradient; the slots are n ``"accumulators"``, which starts at
    ``initial_accumulator_value``, and z ``"linears"``.

    A new weight is a function of n and z alone: the initial weights of what never has a
    gradient become 0 in the first step.

    The soft threshold is piecewise smooth: where |z| < λ₁ the weight is 0, and so are
    its derivatives; elsewhere (on the border too) ``θ = (λ₁ sign(z) − z) / q``. With
    λ₁ = 0 that is exact at z = 0 as well. Where n = 0 the derivatives of nᵖ are taken
    as 0: there g was always 0.

    Attributes:
        hyperparameters: ``learning_rate``, ``learning_rate_power``, the three
            strengths, ``beta`` and the shared ones.
        initial: float, ``initial_accumulator_value``. It acts on the first state only,
            and is no hyperparameter of an update.

    References: McMahan et al. 2013, "Ad click prediction: a view from the trenches",
    Alg. 1 (the shrinkage and the power are Keras').
    """

    initial: float

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Ftrl":
        return cls(
            *common(optimizer, variables, _NUMBERS),
            initial=float(optimizer.initial_accumulator_value),
        )

    def slots(self) -> Sequence[Slot]:
        return [
            Slot("accumulators", "_accumulators", constant(self.initial)),
            Slot("linears", "_linears"),
        ]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        eta = scalar(numbers["learning_rate"], dtype)
        l2 = scalar(numbers["l2_regularization_strength"], dtype)
        return _Scalars(
            eta=eta,
            power=-scalar(numbers["learning_rate_power"], dtype),
            l1=scalar(numbers["l1_regularization_strength"], dtype),
            twice_l2=2 * (l2 + scalar(numbers["beta"], dtype) / (2.0 * eta)),
            twice_shrinkage=2
            * scalar(numbers["l2_shrinkage_regularization_strength"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        old = slot["accumulators"]
        new = old + ops.square(g)
        raised = safe.real_power(new, n.power)
        difference = raised - safe.real_power(old, n.power)
        z = slot["linears"] + (g + n.twice_shrinkage * w - difference / n.eta * w)
        clipped = ops.where(ops.less(ops.abs(z), n.l1), z, n.l1 * ops.sign(z))
        w = (clipped - z) / (raised / n.eta + n.twice_l2)
        return w, {"accumulators": new, "linears": z}


class _Scalars(NamedTuple):
    eta: Any
    power: Any
    l1: Any
    twice_l2: Any
    twice_shrinkage: Any


_NUMBERS = (
    "learning_rate_power",
    "l1_regularization_strength",
    "l2_regularization_strength",
    "l2_shrinkage_regularization_strength",
    "beta",
)
