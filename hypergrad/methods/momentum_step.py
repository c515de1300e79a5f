"""One step of gradient descent with momentum that can be undone.

    v ← μ v + i,   w ← (1 − d) w + v,   i = −a g(w), clipped as the rule does it,

with w and v in fixed point: they are only added to, or multiplied by factors, which
leaves what it loses elsewhere. Backwards each line is undone in turn.
"""

from typing import Any, NamedTuple

from hypergrad import backend
from hypergrad.methods.fixed_point import Int64


class Position(NamedTuple):
    """Weights and velocities in fixed point, lists; and what they have lost."""

    weights: list
    velocities: list
    lost: list


class Factors(NamedTuple):
    """What weights and velocities lose in each step: arrays (steps, variables).

    ``momentum``: 1 − μ. ``decay``: d, learning rate times weight decay.
    """

    momentum: Any
    decay: Any


class MomentumStep:
    """One step of the position, forwards and backwards.

    Args:
        numbers: the format.
        decays: for each variable, whether its weight is multiplied by 1 − d.
    """

    def __init__(self, numbers: Int64, decays: list[bool]):
        self.numbers, self.decays = numbers, decays

    @backend.wide()
    def on(self, position: Position, losing: Factors, increments: list) -> Position:
        """One step forwards."""
        numbers, (momentum, decay) = self.numbers, losing
        weights, velocities, lost = (list(part) for part in position)
        for k, increment in enumerate(increments):
            v, b = numbers.scale(velocities[k], lost[k], momentum[k])
            v = v + numbers.from_float(increment)
            w = weights[k]
            if self.decays[k]:
                w, b = numbers.scale(w, b, decay[k])
            weights[k], velocities[k], lost[k] = w + v, v, b
        return Position(weights, velocities, lost)

    @backend.wide()
    def weights_back(self, position: Position, losing: Factors) -> Position:
        """The weights before the step: the last two lines of `on`, undone."""
        numbers, (_, decay) = self.numbers, losing
        weights, velocities, lost = (list(part) for part in position)
        for k, v in enumerate(velocities):
            weights[k] = weights[k] - v
            if self.decays[k]:
                weights[k], lost[k] = numbers.unscale(weights[k], lost[k], decay[k])
        return Position(weights, velocities, lost)

    @backend.wide()
    def back(self, position: Position, losing: Factors, increments: list) -> Position:
        """The velocities before the step: the first two lines of `on`, undone."""
        numbers, (momentum, _) = self.numbers, losing
        weights, velocities, lost = (list(part) for part in position)
        for k, increment in enumerate(increments):
            v = velocities[k] - numbers.from_float(increment)
            velocities[k], lost[k] = numbers.unscale(v, lost[k], momentum[k])
        return Position(weights, velocities, lost)
