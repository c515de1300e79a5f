"""RMSprop."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

from hypergrad.rules import options as opt
from hypergrad.rules import safe, slots
from hypergrad.rules._abstract import AbstractRule


@dataclass(frozen=True)
class RMSprop(AbstractRule):
    """``keras.optimizers.RMSprop``: steps divided by a moving root mean square.

    ``v ← ρ v + (1 − ρ) g²``; ``d = η g / √(v + ε)``, or with ``centered``
    ``a ← ρ a + (1 − ρ) g`` and ``d = η g / √(v − a² + ε)``; ``θ ← θ − d``, or with
    momentum ``b ← μ b + d`` and ``θ ← θ − b``. Here η is ``learning_rate``, ρ ``rho``,
    ε ``epsilon``, μ ``momentum``, g the gradient; the slots are v ``"velocities"``, a
    ``"average_gradients"``, b ``"momentums"``.

    With ε > 0 everything is smooth in all arguments, zero gradients included.

    Attributes:
        hyperparameters: ``learning_rate``, ``rho``, ``momentum``, ``epsilon`` and the
            shared ones.
        options: clipping, decay, constraints, schedule.
        centered: bool.
        has_momentum: whether there is a momentum slot; see `SGD`.

    References: Tieleman & Hinton 2012, "Neural networks for machine learning", lecture
    6e; Graves 2013, eqs. (38)-(41), arXiv:1308.0850 (centered, momentum).
    """

    hyperparameters: Mapping[str, float]
    options: opt.Options
    centered: bool
    has_momentum: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "RMSprop":
        own = {name: float(getattr(optimizer, name)) for name in _NUMBERS}
        return cls(
            hyperparameters={**opt.shared_hyperparameters(optimizer), **own},
            options=opt.read_options(optimizer, variables),
            centered=bool(optimizer.centered),
            has_momentum=own["momentum"] > 0 or "momentum" in tuned,
        )

    def _slots(self) -> dict[str, str]:
        names = {"velocities": "_velocities"}
        if self.centered:
            names["average_gradients"] = "_average_gradients"
        if self.has_momentum:
            names["momentums"] = "_momentums"
        return names

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
        new = list(weights)
        slot = {name: list(state[name]) for name in self._slots()}

        for i, (g, w) in enumerate(zip(grads, weights)):
            if g is None:
                continue
            g = opt.cast_like(g, w)
            eta = opt.scalar(rate, w.dtype)
            rho = opt.scalar(hparams["rho"], w.dtype)
            one_minus_rho = opt.scalar(1 - hparams["rho"], w.dtype)
            epsilon = opt.scalar(hparams["epsilon"], w.dtype)

            v = rho * slot["velocities"][i] + one_minus_rho * ops.square(g)
            slot["velocities"][i] = v
            if self.centered:
                a = rho * slot["average_gradients"][i] + one_minus_rho * g
                slot["average_gradients"][i] = a
                root = safe.sqrt(v - ops.square(a) + epsilon)
            else:
                root = safe.sqrt(v + epsilon)
            step = eta * g / root
            if self.has_momentum:
                mu = opt.scalar(hparams["momentum"], w.dtype)
                step = mu * slot["momentums"][i] + step
                slot["momentums"][i] = step
            new[i] = w - step

        state = {**slot, "iterations": state["iterations"] + 1}
        return opt.constrain_weights(self.options, grads, new), state


_NUMBERS = ("rho", "momentum", "epsilon")
