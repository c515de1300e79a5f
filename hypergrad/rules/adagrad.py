"""Adagrad."""

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
class Adagrad(OwnRule):
    """``keras.optimizers.Adagrad``: steps divided by the root of all squares so far.

    ``a ← a + g²``; ``θ ← θ − η g / √(a + ε)``. Here η is ``learning_rate``, ε
    ``epsilon``, g the gradient; the slot is a ``"accumulators"``, which starts at
    ``initial_accumulator_value``.

    With a start or an ε above 0 everything is smooth, zero gradients included.

    Attributes:
        hyperparameters: ``learning_rate``, ``epsilon`` and the shared ones.
        initial: float, ``initial_accumulator_value``. It acts on the first state only,
            and is no hyperparameter of an update.

    References: Duchi et al. 2011, JMLR 12, Fig. 1 (diagonal matrices, no projection).
    """

    initial: float

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Adagrad":
        return cls(
            *common(optimizer, variables, ("epsilon",)),
            initial=float(optimizer.initial_accumulator_value),
        )

    def slots(self) -> Sequence[Slot]:
        return [Slot("accumulators", "_accumulators", constant(self.initial))]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            epsilon=scalar(numbers["epsilon"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        a = slot["accumulators"] + ops.square(g)
        return w - n.eta * g / safe.sqrt(a + n.epsilon), {"accumulators": a}


class _Scalars(NamedTuple):
    eta: Any
    epsilon: Any
