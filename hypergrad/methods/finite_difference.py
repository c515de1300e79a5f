"""The judge of all other methods: differences of plain trainings."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad.methods import differences, plain
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.differences import CENTRAL, ONE_SIDED, Difference
from hypergrad.methods.noise import check_positive_int
from hypergrad.methods.work import Work
from hypergrad.parts import hparam_dtype
from hypergrad.problem import Problem
from hypergrad.space import Float
from hypergrad.status import Status

MOST_NUMBERS = 1000
RELIABLE = 0.01
"""The relative error above which an entry is called unreliable."""

NEAR = 1.0 / 16.0
"""A bound nearer than this part of the first step makes differences one-sided."""


@dataclasses.dataclass(frozen=True)
class FiniteDifference(AbstractMethod):
    """Central differences of E by step halving, with an error estimate for each entry.

    For each entry v of each hyperparameter, ``(E(v+h) − E(v−h)) / 2h`` at h, h/2, h/4,
    …, extrapolated to h = 0, all other entries held. The first h is ``step`` times the
    slope of the transform, dv/du. No value leaves its range: beside a bound differences
    are one-sided.

    It needs no derivative, so that it can tell whether another method is right:
    ``info["error"]`` is a dict like the gradient with the estimated absolute errors;
    ``info["reliable"]`` says (dict of booleans) where that is below 1 % of the entry,
    or too small to matter: √(machine epsilon) · E over the scale of the range. Errors
    rest on ``info["noise"]``, the rounding noise of E as measured at eight neighbours.
    ``info["one_sided"]`` is 1 or −1 where differences went up or down only, else 0;
    ``info["runs"]`` what was run in fact. An entry at which no step gave finite losses
    makes the status not ok.

    Args:
        halvings: int ≥ 1, how often the step is halved at most.
        step: float in (0, 1], the first step on the unconstrained line.

    Cost: 8 plain trainings, and for each number 2 (halvings + 1) at most, one after the
    other, in the memory of one; halving ends at a relative error of 1e-9 (1e-4 in
    float32). Nothing is compiled but training. More than 1000 numbers are refused.

    Valid when: E is smooth around the values, on the scale of its rounding: in float64,
    for runs that are short or do not amplify errors. Long runs in float32, or through
    ReLU, have unreliable entries, and say so. An entry of a value with a ``constraint``
    is moved alone, off the constraint.

    Example:
        >>> exact, judge = (hg.hypergradient(problem, method=m)
        ...                 for m in (hg.Reverse(), hg.FiniteDifference()))
        >>> abs(exact.gradient["rate"] - judge.gradient["rate"]), judge.info["error"]

    References: Ridders 1982, Adv. Eng. Software 4(2); Press et al., Numerical Recipes,
    section 5.7; Moré & Wild 2011, SIAM J. Sci. Comput. 33(3), for the noise.
    """

    halvings: int = 10
    step: float = 0.1

    def __post_init__(self) -> None:
        check_positive_int("FiniteDifference", "halvings", self.halvings)
        number = isinstance(self.step, int | float) and not isinstance(self.step, bool)
        if not (number and 0 < self.step <= 1):
            raise ValueError(
                "`step` of FiniteDifference must be a number in (0, 1], a distance on "
                f"the unconstrained line. Received: {self.step!r}."
            )

    def check(self, problem: Problem) -> None:
        numbers = problem.num_numbers
        if numbers > MOST_NUMBERS:
            raise ValueError(
                f"`FiniteDifference` trains {2 * (self.halvings + 1)} times for each "
                f"number: expected at most {MOST_NUMBERS} numbers. Received: {numbers}"
                f", up to {self.runs(problem):.0f} trainings. Use Reverse(), or "
                "EvolutionStrategies() where a step has no derivative."
            )

    @property
    def exact(self) -> bool:
        return False

    def runs(self, problem: Problem) -> float:
        each = 2.0 * (self.halvings + 1)
        return differences.NOISE_VALUES + each * problem.num_numbers

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        return plain.work(problem, values, self.runs(problem))

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        plain.prepare(problem, values)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        return plain.train(problem, values)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        places = {
            name: places_of(problem.space[name], value, self.step)
            for name, value in tape.values.items()
        }
        runs = Runs(problem, tape.values, float(tape.loss))
        noise = runs.noise(places)
        found: dict[str, np.ndarray] = {}
        for name, at in places.items():
            found[name] = np.empty(at.shape, object)
            for index in np.ndindex(at.shape):
                along, place = runs.along(name, index), at.item(index)
                found[name][index] = self._entry(along, place, runs, noise)
        gradient = _column(found, 0, float)
        info = {
            "error": _column(found, 1, float),
            "reliable": _column(found, 2, bool),
            "one_sided": _column(found, 3, int),
            "noise": noise,
            "runs": float(runs.count),
        }
        return Swept(gradient, _status(gradient), info)

    def _entry(
        self, along: Callable, place: "Place", runs: "Runs", noise: float
    ) -> tuple[float, float, bool, int]:
        """(derivative, error, whether it is reliable, side) of one entry."""
        levels = self.halvings + 1
        found, side = difference_at(
            along, place, runs.loss, noise, levels, runs.tolerance
        )
        small = math.sqrt(runs.epsilon) * abs(runs.loss) / place.scale
        reliable = found.error <= max(RELIABLE * abs(found.value), small)
        return found.value, found.error, reliable, side


class Runs:
    """Counted trainings around values of a problem.

    ``loss``: E at the values. ``epsilon``: of the precision of values. ``tolerance``:
    the relative error of a derivative that is enough.
    """

    def __init__(self, problem: Problem, values: Mapping[str, np.ndarray], loss: float):
        self.loss = loss
        self.count = 1
        self._problem = problem
        self._values = values
        self._dtype = hparam_dtype()
        self.epsilon = float(np.finfo(self._dtype).eps)
        self.tolerance = tolerance_of(self._dtype)

    def noise(self, places: Mapping[str, np.ndarray]) -> float:
        """How far rounding moves E: its noise at neighbours of the values.

        All numbers move at once, by a √ε of their scale each time.
        """
        near = [self.loss]
        for k in range(1, differences.NOISE_VALUES):
            moved = {
                name: neighbours(at, k, self.epsilon) for name, at in places.items()
            }
            cast = {n: self._cast(n, v) for n, v in moved.items()}
            near.append(self._score({**self._values, **cast}))
        least = self.epsilon * abs(self.loss)
        return (
            max(least, differences.noise_of(near)) if np.isfinite(near).all() else least
        )

    def along(self, name: str, index: tuple) -> Callable[[float], tuple[float, float]]:
        """E as a function of one entry: x → (x as training sees it, E)."""

        def f(x: float) -> tuple[float, float]:
            moved = self._values[name].copy()
            moved[index] = x = float(self._cast(name, x))
            return x, self._score({**self._values, name: moved})

        return f

    def _cast(self, name: str, value: Any) -> np.ndarray:
        return self._problem.space[name].cast(value, self._dtype).astype(np.float64)

    def _score(self, values: Mapping[str, np.ndarray]) -> float:
        self.count += 1
        return plain.score(self._problem, values)


class Place(NamedTuple):
    """Where an entry sits in its range.

    ``value``: as training sees it. ``scale``: dv/du, at 1 % inside of a bound at least.
    ``reach``: the first one-sided step. ``room``: the first central step, 0 where there
    is no room. ``side``: 0 where central differences will do, else 1 or −1, where there
    is more room. ``leaves``: whether values next to it are values too.
    """

    value: float
    scale: float
    reach: float
    room: float
    side: int
    leaves: bool = True


def tolerance_of(dtype: str) -> float:
    """The relative error of a derivative that is enough in that precision."""
    return 1e-9 if dtype == "float64" else 1e-4


def neighbours(places: np.ndarray, k: int, epsilon: float) -> np.ndarray:
    """The k-th values next to those of places, where only rounding moves E."""
    width = k * math.sqrt(epsilon)

    def neighbour(at: Place) -> float:
        return at.value + width * at.scale * (at.side or 1) * at.leaves

    return np.vectorize(neighbour, otypes=[float])(places)


def difference_at(
    along: Callable[[float], tuple[float, float]],
    place: Place,
    here: float,
    noise: float,
    levels: int,
    tolerance: float,
) -> tuple[Difference, int]:
    """(derivative, side) of a function of one entry, whose value there is ``here``.

    Where a bound is near but not at the value, both kinds are tried: small central
    steps are for functions that change on the scale of that distance.
    """
    found, side = Difference(), place.side
    if side:
        sample = differences.one_sided(along, place.value, here, side, noise)
        found = differences.extrapolated(
            sample, place.reach, levels, ONE_SIDED, tolerance
        )
        levels = max(2, levels // 2)
    known = found.error <= math.sqrt(tolerance) * abs(found.value)
    if place.room and not known:
        sample = differences.central(along, place.value, noise)
        other = differences.extrapolated(sample, place.room, levels, CENTRAL, tolerance)
        if other.error < found.error:
            found, side = other, 0
    return found, side


def places_of(float_: Float, value: np.ndarray, step: float) -> np.ndarray:
    """The `Place` of each entry, an object array."""
    line = dataclasses.replace(float_, constraint=None, default=None, shape=())
    places = np.empty(value.shape, object)
    for index in np.ndindex(value.shape):
        places[index] = _place(line, float(value[index]), step)
    return places


def _place(line: Float, value: float, step: float) -> Place:
    dtype = hparam_dtype()
    low, high = line.limits(dtype)
    value = float(line.cast(value, dtype))
    if value < low:  # the exact 0 of a logarithmic range, far below its lower end
        scale = float(line.to_unconstrained_gradient(line.interior(low), 1.0))
        return Place(value, scale, _first_above(low, high), 0.0, 1, leaves=False)
    inside = np.clip(value, *_margins(line))
    scale = float(line.to_unconstrained_gradient(inside, 1.0))
    if line.min_value is None or line.max_value is None:
        scale *= max(1.0, abs(value))
    below, above = value - low, high - value
    wanted = step * scale
    room = min(wanted, 0.5 * below, 0.5 * above)
    side = 0 if room >= NEAR * wanted else 1 if above >= below else -1
    return Place(value, scale, min(wanted, max(below, above)), room, side)


def _margins(line: Float) -> tuple[float, float]:
    """The points at 1 % of a range from its ends."""
    low, high = line.limits()
    return (
        float(line.interior(low)) if math.isfinite(low) else low,
        float(line.interior(high)) if math.isfinite(high) else high,
    )


def _first_above(low: float, high: float) -> float:
    """A first step from 0 whose halves stay above ``low`` ten times over."""
    return min(high, 1024.0 * low)


def _column(
    found: Mapping[str, np.ndarray], position: int, dtype: Any
) -> dict[str, np.ndarray]:
    """One of what was found for each entry, a dict of arrays."""
    columns = {}
    for name, entries in found.items():
        column = [entry[position] for entry in entries.flat]
        columns[name] = np.asarray(column, dtype).reshape(entries.shape)
    return columns


def _status(gradient: Mapping[str, np.ndarray]) -> Status:
    for name, value in gradient.items():
        if np.isnan(value).any():
            reason = (
                f"No step away from `{name}` gave finite losses: lower `step` "
                "of FiniteDifference, or use Reverse()."
            )
            return Status(False, reason, None, name)
    return Status()
