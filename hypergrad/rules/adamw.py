"""AdamW."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypergrad.rules.adam import adam_scalars, adam_slots, adam_step
from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class AdamW(OwnRule):
    """``keras.optimizers.AdamW``: Adam with decoupled weight decay.

    ``θ ← θ − θ λ η``, then the update of `Adam` with a gradient that was taken before
    the decay. Here λ is ``weight_decay`` and η ``learning_rate``. In Keras every
    optimizer has ``weight_decay``; AdamW is the one that decays by default (0.004).

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon``,
            ``weight_decay`` and a clipping threshold where one is set.
        amsgrad: bool.

    References: Loshchilov & Hutter 2019, Alg. 2, arXiv:1711.05101 (their schedule
    multiplier and learning rate are one number in Keras: the decay scales with it).
    """

    amsgrad: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "AdamW":
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
