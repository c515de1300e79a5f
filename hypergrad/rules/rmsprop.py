"""RMSprop."""

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
class RMSprop(OwnRule):
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
        centered: bool.
        has_momentum: whether there is a momentum slot; see `SGD`.

    References: Tieleman & Hinton 2012, "Neural networks for machine learning", lecture
    6e; Graves 2013, eqs. (38)-(41), arXiv:1308.0850 (centered, momentum).
    """

    centered: bool
    has_momentum: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "RMSprop":
        return cls(
            *common(optimizer, variables, ("rho", "momentum", "epsilon")),
            centered=bool(optimizer.centered),
            has_momentum=optimizer.momentum > 0 or "momentum" in tuned,
        )

    def slots(self) -> Sequence[Slot]:
        slots = [Slot("velocities", "_velocities")]
        if self.centered:
            slots += [Slot("average_gradients", "_average_gradients")]
        if self.has_momentum:
            slots += [Slot("momentums", "_momentums")]
        return slots

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            rho=scalar(numbers["rho"], dtype),
            one_minus_rho=scalar(1 - numbers["rho"], dtype),
            epsilon=scalar(numbers["epsilon"], dtype),
            mu=scalar(numbers["momentum"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        new = dict(slot)
        v = n.rho * slot["velocities"] + n.one_minus_rho * ops.square(g)
        new["velocities"] = v
        if self.centered:
            a = n.rho * slot["average_gradients"] + n.one_minus_rho * g
            new["average_gradients"] = a
            root = safe.sqrt(v - ops.square(a) + n.epsilon)
        else:
            root = safe.sqrt(v + n.epsilon)
        step = n.eta * g / root
        if self.has_momentum:
            step = n.mu * slot["momentums"] + step
            new["momentums"] = step
        return w - step, new


class _Scalars(NamedTuple):
    eta: Any
    rho: Any
    one_minus_rho: Any
    epsilon: Any
    mu: Any
