"""Derivatives of hypergradients: one derivative by a method, one by differences."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad._hypergradient import Hypergradient, hypergradient
from hypergrad.methods import AbstractMethod, Reverse, differences
from hypergrad.methods.finite_difference import (
    Place,
    difference_at,
    neighbours,
    places_of,
    tolerance_of,
)
from hypergrad.methods.noise import check_positive_int
from hypergrad.parts import hparam_dtype
from hypergrad.problem import Problem
from hypergrad.status import NonFiniteError, Status

MOST = 100
STEP = 0.1
"""The first step, on the unconstrained line, as in `FiniteDifference`."""


class SecondDerivatives(NamedTuple):
    """The second derivatives of a validation loss by the hyperparameters.

    ``hessian[a][b]``: d²E/da db in user units, an array of the shape of ``a`` followed
    by that of ``b``: what the entries of a do to the hypergradient of b.
    ``error[a][b]``: the estimated absolute errors. ``loss``, ``gradient``: E and the
    hypergradient there. ``status``: a `Status`. ``info``: dict: ``values``;
    ``asymmetry``, the largest |H − H'|, which the errors should explain; ``runs``, the
    cost in plain trainings; ``seconds``.
    """

    loss: Any
    gradient: dict
    hessian: dict
    error: dict
    status: Status
    info: dict


def second_derivatives(
    problem: Problem,
    values: Mapping[str, Any] | None = None,
    method: AbstractMethod | None = None,
    *,
    halvings: int = 8,
    raise_on_failure: bool = False,
) -> SecondDerivatives:
    """Differentiates the hypergradient once more, by differences of hypergradients.

    ``d²E/da db = d/da (dE/db)``: the inner derivative is the method's; the outer
    one is a central difference by step halving, extrapolated to step 0, with an error
    estimate, as in `FiniteDifference`. The two kinds of derivative are independent, so
    that the symmetry of the result is a check of both.

    The segments of a run are compiled programs that a loop on the host calls, so that
    ``jax.grad`` or ``tf.GradientTape`` cannot go through a hypergradient; this is the
    way to one more derivative, of problems with few hyperparameters.

    Args:
        problem: a `Problem`.
        values: dict, name → number or array in user units; completed by defaults.
        method: a method, best one whose gradient is exact: what is found is the
            derivative of what it computes. None: `Reverse()`.
        halvings: int ≥ 1, how often a step is halved at most.
        raise_on_failure: bool, raises where the status would say what went wrong.

    Returns:
        `SecondDerivatives`.

    Raises:
        ValueError: more than 100 numbers, or a method that does not fit.
        NonFiniteError: with ``raise_on_failure``, where something is not finite.

    Cost: 8 hypergradients, and for each number 2 (halvings + 1) at most.

    Example:
        >>> second = hg.second_derivatives(problem, {"rate": 0.1, "momentum": 0.9})
        >>> second.hessian["rate"]["momentum"], second.error["rate"]["momentum"]

    References: Ridders 1982, Adv. Eng. Software 4(2); Moré & Wild 2011, SIAM J. Sci.
    Comput. 33(3), for the noise.
    """
    method = Reverse() if method is None else method
    check_positive_int("second_derivatives", "halvings", halvings)
    start = time.perf_counter()
    at = _Gradients(problem, method, values)
    if not at.here.status.ok:
        if raise_on_failure:
            raise NonFiniteError(at.here.status.reason)
        rows = {name: np.full((*v.shape, at.size), np.nan) for name, v in at.values()}
        found, error, status = rows, rows, at.here.status
    else:
        found, error = at.differences(halvings + 1)
        status = _status(found)
        if raise_on_failure and not status.ok:
            raise NonFiniteError(status.reason)
    matrix = np.concatenate([row.reshape(-1, at.size) for row in found.values()])
    return SecondDerivatives(
        at.here.loss,
        at.here.gradient,
        {name: at.split(row) for name, row in found.items()},
        {name: at.split(row) for name, row in error.items()},
        status,
        {
            "values": at.here.info["values"],
            "asymmetry": float(np.max(np.abs(matrix - matrix.T))),
            "runs": at.runs,
            "seconds": time.perf_counter() - start,
        },
    )


class _Gradients:
    """Hypergradients around values of a problem, as vectors of all entries.

    ``here``: the one at the values; ``size``: how many entries it has.
    """

    def __init__(self, problem: Problem, method: AbstractMethod, values: Any):
        _check(problem)
        self.runs = 0.0
        self._problem = problem
        self._method = method
        self.here = self._at(values)
        self._vector = self._flat(self.here.gradient)
        self.size = self._vector.size
        self._dtype = hparam_dtype()

    def values(self) -> Any:
        return self.here.info["values"].items()

    def split(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """(…, size) → dict, name → (…, *shape of the value)."""
        ends = np.cumsum([v.size for _, v in self.values()])[:-1]
        parts = np.split(row, ends, axis=-1)
        return {
            name: part.reshape((*row.shape[:-1], *v.shape))
            for (name, v), part in zip(self.values(), parts)
        }

    def differences(self, levels: int) -> tuple[dict, dict]:
        """(derivatives, errors) of all entries by those of each name, (…, size)."""
        places = {
            name: places_of(self._problem.space[name], value, STEP)
            for name, value in self.values()
        }
        noise = self._noise(places)
        found, error = {}, {}
        for name, value in self.values():
            found[name] = np.empty((*value.shape, self.size))
            error[name] = np.empty((*value.shape, self.size))
            for index in np.ndindex(value.shape):
                row = self._row(name, index, places[name].item(index), noise, levels)
                found[name][index], error[name][index] = row
        return found, error

    def _row(
        self, name: str, index: tuple, place: Place, noise: np.ndarray, levels: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(derivatives, errors) of all entries by one, which share hypergradients."""
        known: dict[float, np.ndarray] = {}

        def gradient(x: float) -> np.ndarray:
            if x not in known:
                moved = self.here.info["values"][name].copy()
                moved[index] = x
                found = self._at({**self.here.info["values"], name: moved})
                known[x] = self._flat(found.gradient)
            return known[x]

        def entry(k: int) -> differences.Difference:
            def along(x: float) -> tuple[float, float]:
                x = float(self._cast(name, x))
                return x, float(gradient(x)[k])

            here, tolerance = float(self._vector[k]), tolerance_of(self._dtype)
            return difference_at(along, place, here, noise[k], levels, tolerance)[0]

        entries = [entry(k) for k in range(self.size)]
        return np.array([e.value for e in entries]), np.array(
            [e.error for e in entries]
        )

    def _noise(self, places: Mapping[str, np.ndarray]) -> np.ndarray:
        """How far rounding moves each entry, at neighbours of the values."""
        epsilon = float(np.finfo(self._dtype).eps)
        near = [self._vector]
        for k in range(1, differences.NOISE_VALUES):
            moved = {
                name: self._cast(name, neighbours(at, k, epsilon))
                for name, at in places.items()
            }
            near.append(self._flat(self._at(moved).gradient))
        least = epsilon * np.abs(self._vector)
        noise = np.array([differences.noise_of(column) for column in np.stack(near).T])
        return np.where(np.isfinite(noise), np.maximum(noise, least), least)

    def _at(self, values: Any) -> Hypergradient:
        found = hypergradient(self._problem, values, self._method)
        self.runs += found.info["runs"]
        return found

    def _cast(self, name: str, value: Any) -> np.ndarray:
        return self._problem.space[name].cast(value, self._dtype).astype(np.float64)

    def _flat(self, gradient: Mapping[str, np.ndarray]) -> np.ndarray:
        parts = [np.ravel(gradient[name]) for name in self._problem.space]
        return np.concatenate(parts).astype(np.float64)


def _check(problem: Any) -> None:
    if isinstance(problem, Problem):
        numbers = problem.num_numbers
        if numbers > MOST:
            raise ValueError(
                "`second_derivatives` computes about 18 hypergradients for each "
                f"number: expected at most {MOST} numbers. Received: {numbers}. Make "
                "a problem with the few that matter."
            )


def _status(found: Mapping[str, np.ndarray]) -> Status:
    for name, row in found.items():
        if np.isnan(row).any():
            reason = f"No step away from {name!r} gave finite hypergradients."
            return Status(False, reason, None, name)
    return Status()
