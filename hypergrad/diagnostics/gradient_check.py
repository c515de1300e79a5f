"""A method against differences of plain trainings, entry by entry."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hypergrad._hypergradient import hypergradient
from hypergrad.arguments import checked_whole
from hypergrad.methods import AbstractMethod, FiniteDifference
from hypergrad.methods.finite_difference import (
    RELIABLE,
    Place,
    Runs,
    difference_at,
    places_of,
)
from hypergrad.parts import hparam_dtype
from hypergrad.problem import Problem
from hypergrad.status import Status

AGREES, DIFFERS, UNCERTAIN, NOT_FINITE = "agrees", "differs", "uncertain", "not finite"

MOST_MOVED = 10_000
"""Larger arrays stay when the noise of E is measured."""


class CheckedEntry(NamedTuple):
    """One number: what the method says, and what differences say.

    ``name``, ``position``: which entry of which hyperparameter. ``derivative``: dE/dv
    of the method. ``difference``, ``error``: of differences, extrapolated to step 0.
    ``steps``, ``slopes``: arrays, the step sizes tried, in user units (negative: to
    below only), and the quotient at each. ``verdict``: "agrees", "differs",
    "uncertain" (differences do not know the derivative to 1 %: E is rough or noisy on
    the scale of every step) or "not finite".
    """

    name: str
    position: tuple[int, ...]
    derivative: float
    difference: float
    error: float
    steps: np.ndarray
    slopes: np.ndarray
    verdict: str

    @property
    def label(self) -> str:
        where = f"[{', '.join(map(str, self.position))}]" if self.position else ""
        return f"{self.name}{where}"


class GradientCheck(NamedTuple):
    """What `check_gradient` found; ``print`` shows a table.

    ``entries``: list of `CheckedEntry`. ``method``: its name. ``loss``: E. ``noise``:
    of E, by rounding. ``status``: of the method's run. ``runs``: what it cost.
    """

    entries: list[CheckedEntry]
    method: str
    loss: float
    noise: float
    status: Status
    runs: float

    @property
    def ok(self) -> bool:
        """Whether nothing differs and nothing is not finite."""
        bad = (DIFFERS, NOT_FINITE)
        return self.status.ok and not any(e.verdict in bad for e in self.entries)

    @property
    def verdicts(self) -> dict[str, str]:
        """Name → the worst verdict of its entries."""
        order = (AGREES, UNCERTAIN, DIFFERS, NOT_FINITE)
        found: dict[str, str] = {}
        for entry in self.entries:
            known = found.get(entry.name, AGREES)
            found[entry.name] = max(known, entry.verdict, key=order.index)
        return found

    def __str__(self) -> str:
        if not self.status.ok:
            return f"{self.method}: {self.status}"
        width = max([len(e.label) for e in self.entries] + [14])
        lines = [
            f"{self.method} against differences, E = {self.loss:.6g} "
            f"(noise {self.noise:.1e}), {self.runs:g} runs",
            f"{'hyperparameter':{width}}  {'method':>12}  {'differences':>12}"
            f"  {'±':>8}  {'steps tried':>19}  verdict",
        ]
        for e in self.entries:
            lines.append(
                f"{e.label:{width}}  {e.derivative:12.5g}  {e.difference:12.5g}"
                f"  {e.error:8.1e}  {_span(e.steps):>19}  {e.verdict}"
            )
        if any(e.verdict == UNCERTAIN for e in self.entries):
            lines.append(
                "uncertain: E is too noisy or rough for differences here; fewer steps, "
                "or float64, may tell."
            )
        return "\n".join(lines)


def _span(steps: np.ndarray) -> str:
    if not len(steps):
        return "none"
    sizes = np.abs(steps)
    return f"{sizes.max():.1e} … {sizes.min():.1e}"


def check_gradient(
    problem: Problem,
    values: Mapping[str, Any] | None = None,
    method: AbstractMethod | None = None,
    *,
    tolerance: float | None = None,
    entries: int = 6,
    judge: FiniteDifference | None = None,
) -> GradientCheck:
    """Checks a hypergradient against finite differences of E.

    For each number v: ``(E(v+h) − E(v−h)) / 2h`` at h, h/2, h/4, …, extrapolated to 0
    with an error estimate, as `FiniteDifference` does. The derivative agrees where it
    lies within ``tolerance`` (relative) and three of those errors.

    Args:
        problem: a `Problem`; of ``average=N`` sample 0 is checked.
        values: dict, name → number or array; None: the defaults.
        method: what is checked; None: ``Reverse()``.
        tolerance: float, relative; None: 1e-4 in float64, 1e-2 in float32.
        entries: int ≥ 1, of an array so many entries are checked: half of them the
            largest derivatives, the others spread over the array.
        judge: `FiniteDifference`, for other step sizes.

    Returns:
        A `GradientCheck`. A method that fails has its status and no entries.

    Raises:
        ValueError, TypeError: as `hypergradient`.

    Cost: the hypergradient, 8 plain trainings, and at most 22 for each entry.

    Example:
        >>> print(hg.check_gradient(problem))
        >>> assert hg.check_gradient(problem, method=hg.Truncated(50)).ok  # it is not
    """
    checked_whole("entries", entries)
    judge = FiniteDifference() if judge is None else judge
    if problem.average > 1:
        problem = problem.sample(0)
    found = hypergradient(problem, values, method)
    name = "Reverse()" if method is None else repr(method)
    checked = found.info["values"]
    loss, cost = float(found.loss), float(found.info["runs"])
    if not (found.status.ok or found.status.variable == "hypergradient"):
        return GradientCheck([], name, loss, math.nan, found.status, cost)
    if tolerance is None:
        tolerance = 1e-4 if hparam_dtype() == "float64" else 1e-2
    runs = Runs(problem, checked, loss)
    noise = runs.noise(
        {
            n: places_of(problem.space[n], value, judge.step)
            for n, value in checked.items()
            if value.size <= MOST_MOVED
        }
    )
    rows = []
    for n, value in checked.items():
        gradient = np.asarray(found.gradient[n], np.float64)
        for index in chosen(gradient, entries):
            place = places_of(problem.space[n], value[index], judge.step).item()
            entry = _difference(n, index, place, runs, noise, judge.halvings + 1)
            rows.append(_judged(entry, float(gradient[index]), tolerance, runs, place))
    status = found.status if found.status.variable != "hypergradient" else Status()
    return GradientCheck(rows, name, loss, noise, status, cost + runs.count)


def chosen(gradient: np.ndarray, number: int) -> list[tuple[int, ...]]:
    """Which entries of an array are checked: the largest, and some evenly spread."""
    flat = np.abs(np.ravel(np.nan_to_num(gradient, nan=np.inf)))
    if flat.size <= number:
        return list(np.ndindex(gradient.shape))
    largest = np.argsort(-flat, kind="stable")[: (number + 1) // 2]
    others = np.setdiff1d(np.arange(flat.size), largest)
    spread = np.linspace(0, others.size - 1, number - largest.size).astype(int)
    rows = sorted({*largest.tolist(), *others[spread].tolist()})
    return [tuple(int(i) for i in np.unravel_index(r, gradient.shape)) for r in rows]


def _difference(
    name: str, index: tuple, place: Place, runs: Runs, noise: float, levels: int
) -> CheckedEntry:
    tried: list[tuple[float, float]] = []
    along = runs.along(name, index)

    def f(x: float) -> tuple[float, float]:
        tried.append(along(x))
        return tried[-1]

    found, _ = difference_at(f, place, runs.loss, noise, levels, runs.tolerance)
    steps, slopes = quotients(tried, place.value, runs.loss)
    return CheckedEntry(
        name, index, math.nan, found.value, found.error, steps, slopes, UNCERTAIN
    )


def _judged(
    entry: CheckedEntry,
    derivative: float,
    tolerance: float,
    runs: Runs,
    place: Place,
) -> CheckedEntry:
    value, error = entry.difference, entry.error
    small = math.sqrt(runs.epsilon) * abs(runs.loss) / place.scale
    if not math.isfinite(derivative):
        verdict = NOT_FINITE
    elif not error <= max(RELIABLE * abs(value), small):
        verdict = UNCERTAIN
    else:
        allowed = tolerance * max(abs(value), abs(derivative)) + 3.0 * error + small
        verdict = AGREES if abs(derivative - value) <= allowed else DIFFERS
    return entry._replace(derivative=derivative, verdict=verdict)


def quotients(
    tried: Sequence[tuple[float, float]], x: float, here: float
) -> tuple[np.ndarray, np.ndarray]:
    """(steps, slopes) of what was tried around x, where the function is ``here``.

    Two points in turn on both sides make one central quotient.
    """
    steps, slopes = [], []
    rest = list(tried)
    while rest:
        (a, up), *rest = rest
        if rest and (rest[0][0] - x) * (a - x) < 0:
            (b, down), *rest = rest
            steps.append(abs(a - b) / 2.0)
            slopes.append((up - down) / (a - b))
        elif a != x:
            steps.append(a - x)
            slopes.append((up - here) / (a - x))
    return np.array(steps), np.array(slopes)
