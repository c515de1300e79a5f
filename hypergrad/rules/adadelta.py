"""Adadelta."""

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
class Adadelta(OwnRule):
    """``keras.optimizers.Adadelta``: steps in the units of the weights.

    ``v ← ρ v + (1 − ρ) g²``; ``d = − g √(s + ε) / √(v + ε)``;
    ``s ← ρ s + (1 − ρ) d²``; ``θ ← θ + η d``. Here η is ``learning_rate``, ρ ``rho``, ε
    ``epsilon``, g the gradient; the slots are v ``"accumulated_grads"`` and s
    ``"accumulated_delta_vars"``.

    With ε > 0 everything is smooth in all arguments, zero gradients included.

    Attributes:
        hyperparameters: ``learning_rate``, ``rho``, ``epsilon`` and the shared ones.

    References: Zeiler 2012, Alg. 1, arXiv:1212.5701 (there η = 1).
    """

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Adadelta":
        return cls(*common(optimizer, variables, ("rho", "epsilon")))

    def slots(self) -> Sequence[Slot]:
        names = ("accumulated_grads", "accumulated_delta_vars")
        return [Slot(name, f"_{name}") for name in names]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            rho=scalar(numbers["rho"], dtype),
            one_minus_rho=scalar(1 - numbers["rho"], dtype),
            epsilon=scalar(numbers["epsilon"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        s = slot["accumulated_delta_vars"]
        v = n.rho * slot["accumulated_grads"] + n.one_minus_rho * ops.square(g)
        d = -(safe.sqrt(s + n.epsilon) * g / safe.sqrt(v + n.epsilon))
        s = n.rho * s + n.one_minus_rho * ops.square(d)
        return w + n.eta * d, {"accumulated_grads": v, "accumulated_delta_vars": s}


class _Scalars(NamedTuple):
    eta: Any
    rho: Any
    one_minus_rho: Any
    epsilon: Any
