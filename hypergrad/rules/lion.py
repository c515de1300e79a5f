"""Lion."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class Lion(OwnRule):
    """``keras.optimizers.Lion``: steps of one length, along a sign.

    ``θ ← θ − η sign(β₁ m + (1 − β₁) g)``, then ``m ← β₂ m + (1 − β₂) g``. Here η is
    ``learning_rate``, β₁ ``beta_1``, β₂ ``beta_2``, g the gradient; the slot is m
    ``"momentums"``.

    Valid for: ``learning_rate`` and ``weight_decay``. The sign is constant between
    jumps, and its derivative is 0: whatever reaches the weights through a gradient
    alone (β₁, β₂, the clippings, every number of a layer or of the loss, the data) has
    a derivative of exactly 0. It is right almost everywhere, and says nothing of the
    jumps. With steps of one length, and a sign of 0 where all gradients were 0, the
    derivative with respect to η is minus the sum of the signs, times dE/dθ.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2`` and the shared ones.

    References: Chen et al. 2023, Alg. 2, arXiv:2302.06675.
    """

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Lion":
        return cls(*common(optimizer, variables, ("beta_1", "beta_2")))

    def slots(self) -> Sequence[Slot]:
        return [Slot("momentums", "_momentums")]

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            beta_1=scalar(numbers["beta_1"], dtype),
            one_minus_beta_1=scalar(1 - numbers["beta_1"], dtype),
            beta_2=scalar(numbers["beta_2"], dtype),
            one_minus_beta_2=scalar(1 - numbers["beta_2"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        m = slot["momentums"]
        direction = ops.sign(m * n.beta_1 + g * n.one_minus_beta_1)
        m = m * n.beta_2 + g * n.one_minus_beta_2
        return w - n.eta * direction, {"momentums": m}


class _Scalars(NamedTuple):
    eta: Any
    beta_1: Any
    one_minus_beta_1: Any
    beta_2: Any
    one_minus_beta_2: Any
