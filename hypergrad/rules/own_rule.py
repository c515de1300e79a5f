"""The step that all rules of this package share; a rule file gives its own part."""

import abc
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from hypergrad.rules import options as opt
from hypergrad.rules import slots
from hypergrad.rules._abstract import AbstractRule
from hypergrad.rules.per_variable import Numbers, Once, of_each_variable
from hypergrad.rules.slots import Slot

_AVERAGES = Slot("averages", "_model_variables_moving_average")
_SUMS = Slot("gradient_sums", "_accumulated_gradients")


@dataclass(frozen=True)
class OwnRule(AbstractRule):
    """One step of a Keras optimizer, written as an equation for one variable.

    The order is that of ``optimizer.apply``: learning rate, gradients summed up,
    clipped, weights decayed, the rule's own equation, weights averaged, constrained,
    steps counted.

    With ``gradient_accumulation_steps`` n, every n-th step is an update with the mean
    of n gradients; the others only sum up (and constrain). Betas and averages count
    updates, a learning rate schedule counts steps, as in Keras. Selections take the
    place of branches, so every step costs an update.

    With ``use_ema`` the state holds moving averages of the weights, before constraints,
    updated in every step. T steps end at the weights themselves, which ``fit`` shows in
    its ``val_loss``; what ``fit`` leaves in the model after its last epoch are the
    averages, `final_weights`. Without ``ema_overwrite_frequency`` the averages never
    act on the weights, so ``ema_momentum`` has a derivative only through
    `final_weights`.

    Attributes:
        hyperparameters: the rule's own numbers and the shared ones (``learning_rate``,
            ``weight_decay``, a clipping threshold, ``ema_momentum``).
        options: clipping, decay, constraints, schedule, accumulation, averages.
    """

    hyperparameters: Mapping[str, float]
    options: opt.Options

    @classmethod
    @abc.abstractmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "OwnRule":
        """The rule of a Keras optimizer on these variables; see `rule_for`."""

    @abc.abstractmethod
    def slots(self) -> Sequence[Slot]:
        """The state that the equation needs for each variable."""

    @abc.abstractmethod
    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        """What the equation needs of the numbers; made once for many variables.

        Args:
            numbers: attribute → Python number or scalar tensor, ``"learning_rate"``
                among them.
            t: scalar of ``dtype``, the update, from 1.
            dtype: that of the variables.
        """

    @abc.abstractmethod
    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The equation for the variable at position ``i``.

        Args:
            i: int.
            g: its gradient, clipped, in the dtype of ``w``.
            w: its weight, decayed.
            slot: the arrays of its slots.
            n: what ``scalars`` returned.

        Returns:
            (weight, slots) after the step.
        """

    def all_slots(self) -> list[Slot]:
        """The slots of the equation, and those of the shared options."""
        shared = [_SUMS] if self.options.accumulation > 1 else []
        shared += [_AVERAGES] if self.options.averages else []
        return [*self.slots(), *shared]

    def init(self, weights: list) -> dict:
        return slots.fresh(self.all_slots(), weights)

    def read(self, optimizer: Any) -> dict:
        return slots.read(self.all_slots(), optimizer)

    def write(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        slots.write(self.all_slots(), optimizer, state)

    def final_weights(self, weights: list, state: Mapping[str, Any]) -> list:
        return list(state[_AVERAGES.name]) if self.options.averages else weights

    def update(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        hparams: Mapping[str, Any],
    ) -> tuple[list, dict]:
        options, count = self.options, state["iterations"]
        rate = opt.learning_rate(options, count, hparams)
        numbers = of_each_variable({**hparams, "learning_rate": rate}, len(weights))
        state = {**state, "iterations": count + 1}

        if options.accumulation == 1:
            weights, state = self._updated(grads, state, weights, numbers, count)
        else:
            due = ops.equal((count + 1) % options.accumulation, 0)
            means, sums = _accumulated(
                options.accumulation, due, grads, state[_SUMS.name]
            )
            count = count // options.accumulation
            new, after = self._updated(means, state, weights, numbers, count)
            weights = _chosen(due, new, weights)
            for slot in self.slots():
                after[slot.name] = _chosen(due, after[slot.name], state[slot.name])
            state = {**after, _SUMS.name: sums}

        if options.averages:
            state[_AVERAGES.name], weights = opt.average_weights(
                options, state[_AVERAGES.name], weights, count, numbers
            )
        return opt.constrain_weights(options, grads, weights), state

    def _updated(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        numbers: Sequence[Numbers],
        updates: Any,
    ) -> tuple[list, dict]:
        """(weights, state) after clipping, decay and the rule's own equation."""
        grads = opt.clip_gradients(self.options.clip, grads, numbers)
        weights = opt.decay_weights(self.options, grads, weights, numbers)
        scalars = Once(
            lambda numbers, dtype: self.scalars(
                numbers, ops.cast(updates + 1, dtype), dtype
            )
        )
        new, names = list(weights), [slot.name for slot in self.slots()]
        after = {name: list(state[name]) for name in names}
        for i, (g, w) in enumerate(zip(grads, weights)):
            if g is None:
                continue
            n = scalars(numbers[i], keras.backend.standardize_dtype(w.dtype))
            slot = {name: after[name][i] for name in names}
            new[i], slot = self.step(i, opt.cast_like(g, w), w, slot, n)
            for name in names:
                after[name][i] = slot[name]
        return new, {**state, **after}


def _accumulated(steps: int, due: Any, grads: list, sums: list) -> tuple[list, list]:
    """(mean gradients, sums after this step); the sums begin again after an update."""
    totals = [
        None if g is None else opt.cast_like(g, s) + s for g, s in zip(grads, sums)
    ]
    means = [None if total is None else total / steps for total in totals]
    after = [
        s if total is None else ops.where(due, ops.zeros_like(total), total)
        for total, s in zip(totals, sums)
    ]
    return means, after


def _chosen(due: Any, new: list, old: list) -> list:
    return [b if a is b else ops.where(due, a, b) for a, b in zip(new, old)]
