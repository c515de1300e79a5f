"""Gradient descent with momentum."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class SGD(OwnRule):
    """``keras.optimizers.SGD``: gradient descent, heavy ball, or Nesterov's.

    ``v ← μ v − η g``; ``θ ← θ + v``, or with ``nesterov`` ``θ ← θ + μ v − η g``;
    without momentum ``θ ← θ − η g``. Here η is ``learning_rate``, μ ``momentum``, g the
    gradient, v the slot ``"momentums"``.

    Attributes:
        hyperparameters: ``learning_rate``, ``momentum`` and the shared ones.
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

    nesterov: bool
    has_momentum: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "SGD":
        return cls(
            *common(optimizer, variables, ("momentum",)),
            nesterov=bool(optimizer.nesterov),
            has_momentum=optimizer.momentum != 0 or "momentum" in tuned,
        )

    def slots(self) -> Sequence[Slot]:
        return [Slot("momentums", "momentums")] if self.has_momentum else []

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        return _Scalars(
            eta=scalar(numbers["learning_rate"], dtype),
            mu=scalar(numbers["momentum"], dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        step = g * n.eta
        if not self.has_momentum:
            return w - step, {}
        v = slot["momentums"] * n.mu - step
        if self.nesterov:
            return w + (v * n.mu - step), {"momentums": v}
        return w + v, {"momentums": v}


class _Scalars(NamedTuple):
    eta: Any
    mu: Any
