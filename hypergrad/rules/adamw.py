"""AdamW."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hypergrad.rules import options as opt
from hypergrad.rules import slots
from hypergrad.rules._abstract import AbstractRule
from hypergrad.rules.adam import adam_hyperparameters, adam_slots, adam_update


@dataclass(frozen=True)
class AdamW(AbstractRule):
    """``keras.optimizers.AdamW``: Adam with decoupled weight decay.

    ``θ ← θ − θ λ η``, then the update of `Adam` with a gradient that was taken before
    the decay. Here λ is ``weight_decay`` and η ``learning_rate``. In Keras every
    optimizer has ``weight_decay``; AdamW is the one that decays by default (0.004).

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon``,
            ``weight_decay`` and a clipping threshold where one is set.
        options: clipping, decay, constraints, schedule.
        amsgrad: bool.

    References: Loshchilov & Hutter 2019, Alg. 2, arXiv:1711.05101 (their schedule
    multiplier and learning rate are one number in Keras: the decay scales with it).
    """

    hyperparameters: Mapping[str, float]
    options: opt.Options
    amsgrad: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "AdamW":
        return cls(
            hyperparameters=adam_hyperparameters(optimizer),
            options=opt.read_options(optimizer, variables),
            amsgrad=bool(optimizer.amsgrad),
        )

    def init(self, weights: list) -> dict:
        return slots.zeros(adam_slots(self.amsgrad), weights)

    def read(self, optimizer: Any) -> dict:
        return slots.read(adam_slots(self.amsgrad), optimizer)

    def write(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        slots.write(adam_slots(self.amsgrad), optimizer, state)

    def update(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        hparams: Mapping[str, Any],
    ) -> tuple[list, dict]:
        return adam_update(self.options, self.amsgrad, grads, state, weights, hparams)
