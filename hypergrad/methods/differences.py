"""Differences by step halving, extrapolated to step 0, with an error estimate."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

CENTRAL = 4.0
"""The error of a central difference falls by this factor when the step is halved."""

ONE_SIDED = 2.0
"""The same of a one-sided difference."""


class Difference(NamedTuple):
    """``value``: the derivative; ``error``: an estimate of its absolute error."""

    value: float = math.nan
    error: float = math.inf


class Sampled(NamedTuple):
    """A difference quotient at one step, and how far noise may have moved it."""

    quotient: float
    noise: float


def extrapolated(
    sample: Callable[[float], Sampled],
    step: float,
    levels: int,
    factor: float,
    tolerance: float,
) -> Difference:
    """The derivative from quotients at h, h/2, h/4, …, by Richardson extrapolation.

    Of the entries of the Neville table the one with the smallest error estimate is
    returned: its largest distance to the two entries it was made of, and at least the
    noise of f, as the extrapolation amplifies it, and what smaller steps contradict.
    (The smallest of fifty estimates without these floors is an accident wherever f is
    noisy or rough.) A kink within the step shows as a large error until the halved step
    no longer reaches it; steps at which f is not finite are left out.

    Args:
        sample: function, h → `Sampled`.
        step: float, the first h.
        levels: int ≥ 2, how many steps are tried at most.
        factor: `CENTRAL` or `ONE_SIDED`.
        tolerance: float, the relative error at which halving ends. It also ends where
            noise alone exceeds the best error.

    References: Ridders 1982, Adv. Eng. Software 4(2); Press et al., Numerical Recipes,
    section 5.7.
    """
    best, rows = Difference(), []
    row: list[float] = []
    for level in range(levels):
        first, noise = sample(step / 2.0**level)
        if not math.isfinite(first):
            row = []
            continue
        new, power, amplified = [first], 1.0, noise
        found = Difference()
        for previous in row:
            power *= factor
            amplified *= (power + 1.0) / (power - 1.0)
            new.append((power * new[-1] - previous) / (power - 1.0))
            error = max(abs(new[-1] - new[-2]), abs(new[-1] - previous), amplified)
            if error < found.error:
                found = Difference(new[-1], error)
        row = new
        rows.append(found)
        best = _uncontradicted(rows)
        if best.error <= tolerance * abs(best.value) or noise > best.error:
            break
    return best


def _uncontradicted(rows: list[Difference]) -> Difference:
    """The best of what each step size found.

    An error is at least the distance to what smaller steps found, less the error of
    that: numbers that agree by accident do not outlive a look from nearer.
    """
    best = Difference()
    for i, (value, error) in enumerate(rows):
        later = [abs(value - v) - e for v, e in rows[i + 1 :] if math.isfinite(e)]
        error = max(error, *later, 0.0)
        if error < best.error:
            best = Difference(value, error)
    return best


def central(
    f: Callable[[float], tuple[float, float]], x: float, noise: float
) -> Callable[[float], Sampled]:
    """Samples ``(f(x+h) − f(x−h)) / 2h``.

    ``f``: function, x → (the number that x was rounded to, the value there).
    ``noise``: the absolute noise of f.
    """

    def sample(h: float) -> Sampled:
        (above, up), (below, down) = f(x + h), f(x - h)
        return _sampled(above - below, up, down, noise)

    return sample


def one_sided(
    f: Callable[[float], tuple[float, float]],
    x: float,
    here: float,
    side: int,
    noise: float,
) -> Callable[[float], Sampled]:
    """Samples ``(f(x ± h) − f(x)) / ±h``; ``here`` is f(x)."""

    def sample(h: float) -> Sampled:
        place, value = f(x + side * h)
        return _sampled(place - x, value, here, noise)

    return sample


def _sampled(width: float, up: float, down: float, noise: float) -> Sampled:
    if width == 0.0 or not (math.isfinite(up) and math.isfinite(down)):
        return Sampled(math.nan, math.inf)
    return Sampled((up - down) / width, 2.0 * noise / abs(width))


NOISE_VALUES = 8
"""How many values at neighbouring points tell the noise of a function."""

ORDER = 4


def noise_of(values: Sequence[float]) -> float:
    """The standard deviation of the noise of values at evenly spaced points.

    Fourth differences leave nothing of a smooth function; those of independent noise
    have 8!/(4!)² = 70 times its variance.

    References: Moré & Wild 2011, SIAM J. Sci. Comput. 33(3), eq. (2.3).
    """
    rough = np.diff(np.asarray(values, np.float64), ORDER)
    scale = math.comb(2 * ORDER, ORDER)
    return float(np.sqrt(np.mean(rough**2) / scale))
