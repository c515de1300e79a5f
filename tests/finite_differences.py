"""Step-halved central differences with an error estimate.

The one judge of derivatives in this suite: a value and how far off it may be, so that
a test compares within what the differences can know and fails where they know nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

LEVELS = 11
"""How often the step is halved at most."""

ENOUGH = 1e-9
"""The relative error at which halving stops."""


class Difference(NamedTuple):
    """``value``: the derivative; ``error``: an estimate of its absolute error."""

    value: float
    error: float

    @property
    def relative_error(self) -> float:
        return self.error / max(abs(self.value), 1e-300)


def central(
    f: Callable[[float], float], x: float, step: float, levels: int = LEVELS
) -> Difference:
    """f'(x) by ``(f(x+h) − f(x−h)) / 2h`` at h, h/2, h/4, …, extrapolated to h = 0.

    The entry of the Neville table with the smallest error is returned; the error of an
    entry is its largest distance to the two it was made of, and never less than the
    rounding of ``f`` over the step. Kinks inside a step show as a large error, until
    the halved step no longer reaches them.

    Args:
        f: scalar function.
        x: float.
        step: float, the first h; ``x ± step`` must lie in the domain of ``f``.
        levels: int, the number of steps tried at most.

    References: Ridders 1982, Adv. Eng. Software 4(2); Press et al., Numerical Recipes,
    section 5.7.
    """
    best = Difference(np.nan, np.inf)
    row: list[float] = []
    for level in range(levels):
        h = step / 2.0**level
        above, below = f(x + h), f(x - h)
        rounding = np.finfo(float).eps * max(abs(above), abs(below)) / h
        new = [(above - below) / ((x + h) - (x - h))]
        for order, previous in enumerate(row, start=1):
            factor = 4.0**order
            new.append((factor * new[-1] - previous) / (factor - 1.0))
            error = max(abs(new[-1] - new[-2]), abs(new[-1] - previous), rounding)
            if error < best.error:
                best = Difference(float(new[-1]), float(error))
        row = new
        if best.relative_error <= ENOUGH:
            break
    return best


def first_step(name: str, value: float) -> float:
    """A first step that stays inside of what a hyperparameter of that name can be."""
    room = abs(value) if value else 0.1
    if name.rpartition(".")[2] in ("beta_1", "beta_2", "rho", "momentum"):
        room = min(room, 1.0 - value)
    return 0.02 * room


def of_problem(
    loss: Callable[[Mapping[str, Any]], float], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The difference of ``loss(values)`` in each entry of each value.

    Returns:
        dict, name → `Difference` for a scalar, or an object array of them.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        value = np.asarray(value, np.float64)
        entries = np.empty(value.shape, object)
        for index in np.ndindex(value.shape):

            def along(
                x: float, name: str = name, index: tuple = index, held: Any = value
            ) -> float:
                moved = held.copy()
                moved[index] = x
                return float(loss({**values, name: moved}))

            here = float(value[index])
            entries[index] = central(along, here, first_step(name, here))
        found[name] = entries[()] if value.shape == () else entries
    return found
