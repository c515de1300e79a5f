"""Gradient descent with momentum."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hypergrad.rules import options as opt
from hypergrad.rules import slots
from hypergrad.rules._abstract import AbstractRule


@dataclass(frozen=True)
class SGD(AbstractRule):
    """``keras.optimizers.SGD``: gradient descent, heavy ball, or Nesterov's.

    ``v ← μ v − η g``; ``θ ← θ + v``, or with ``nesterov`` ``θ ← θ + μ v − η g``;
    without momentum ``θ ← θ − η g``. Here η is ``learning_rate``, μ ``momentum``, g the
    gradient, v the slot ``"momentums"``.

    Attributes:
        hyperparameters: ``learning_rate``, ``momentum`` and the shared ones.
        options: clipping, decay, constraints, schedule.
        nesterov: bool.
        has_momentum: whether there is a slot. A momentum that is compiled as 0 and
            tuned has one; at exactly 0 the values are those without.

    Example:

    >>> rule = rule_for(keras.optimizers.SGD(0.1, momentum=0.9), variables)
    >>> state = rule.init(weights)
    >>> weights, state = rule.update(grads, state, weights, rule.hyperparameters)

    References: Polyak 1964, "Some methods of speeding up the convergence of iteration
    methods", eq. (9); Sutskever et al. 2013, "On the importance of initialization and
    momentum in deep learning", section 2.
    """

    hyperparameters: Mapping[str, float]
    options: opt.Options
    nesterov: bool
    has_momentum: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "SGD":
        shared = opt.shared_hyperparameters(optimizer)
        momentum = float(optimizer.momentum)
        return cls(
            hyperparameters={**shared, "momentum": momentum},
            options=opt.read_options(optimizer, variables),
            nesterov=bool(optimizer.nesterov),
            has_momentum=momentum != 0 or "momentum" in tuned,
        )

    def _slots(self) -> dict[str, str]:
        return {"momentums": "momentums"} if self.has_momentum else {}

    def init(self, weights: list) -> dict:
        return slots.zeros(self._slots(), weights)

    def read(self, optimizer: Any) -> dict:
        return slots.read(self._slots(), optimizer)

    def write(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        slots.write(self._slots(), optimizer, state)

    def update(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        hparams: Mapping[str, Any],
    ) -> tuple[list, dict]:
        rate = opt.learning_rate(self.options, state["iterations"], hparams)
        grads = opt.clip_gradients(self.options.clip, grads, hparams)
        weights = opt.decay_weights(self.options, grads, weights, rate, hparams)
        new, velocities = list(weights), list(state.get("momentums", ()))

        for i, (g, w) in enumerate(zip(grads, weights)):
            if g is None:
                continue
            eta = opt.scalar(rate, w.dtype)
            step = opt.cast_like(g, w) * eta
            if not self.has_momentum:
                new[i] = w - step
                continue
            mu = opt.scalar(hparams["momentum"], w.dtype)
            velocities[i] = velocities[i] * mu - step
            if self.nesterov:
                new[i] = w + (velocities[i] * mu - step)
            else:
                new[i] = w + velocities[i]

        state = {**state, "iterations": state["iterations"] + 1}
        if self.has_momentum:
            state["momentums"] = velocities
        return opt.constrain_weights(self.options, grads, new), state
