"""Gaussian perturbations of hyperparameters, and estimates made of pairs of them.

Values are perturbed on the unconstrained line, u + σε with ε ~ N(0, I), so that they
never leave their range. Pairs are antithetic: +ε and −ε.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hypergrad.methods._abstract import Swept
from hypergrad.problem import Problem
from hypergrad.status import Status

Numbers = dict[str, np.ndarray]


class Noise:
    """Draws σε for the values of a problem, and maps u ± σε to user units.

    Draws are those of the seed and the values: the same when asked again, in another
    process and on the other backend, and fresh wherever a descent goes.

    Args:
        problem: the problem.
        values: dict, checked values in user units.
        sigma: float, the standard deviation on the unconstrained line.
        seed: int ≥ 0.
    """

    def __init__(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sigma: float,
        seed: int,
    ):
        self.sigma = sigma
        self._space = problem.space
        self._u = {
            name: problem.space[name].to_unconstrained(value, clip=True)
            for name, value in values.items()
        }
        self._generator = np.random.default_rng([seed, *_digest(values)])

    def draw(self) -> Numbers:
        """σε."""
        return {
            name: self.sigma * self._generator.standard_normal(u.shape)
            for name, u in self._u.items()
        }

    def pair(self, shift: Numbers) -> tuple[Numbers, Numbers]:
        """The values at u + shift and at u − shift, in user units."""
        return self._moved(shift, 1.0), self._moved(shift, -1.0)

    def zeros(self) -> Numbers:
        return {name: np.zeros(u.shape) for name, u in self._u.items()}

    def _moved(self, shift: Numbers, sign: float) -> Numbers:
        return {
            name: self._space[name].to_user(u + sign * shift[name])
            for name, u in self._u.items()
        }


class Mean:
    """The mean of dicts of arrays and its standard error, in one pass.

    References: Welford 1962, Technometrics 4(3).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Numbers = {}
        self._squares: Numbers = {}

    def add(self, sample: Numbers) -> None:
        self.count += 1
        for name, value in sample.items():
            mean = self.mean.get(name, np.zeros_like(value))
            apart = value - mean
            self.mean[name] = mean + apart / self.count
            squares = self._squares.get(name, np.zeros_like(value))
            self._squares[name] = squares + apart * (value - self.mean[name])

    def standard_error(self) -> Numbers:
        """NaN for a single sample."""
        n = self.count
        scale = 1.0 / (n * (n - 1)) if n > 1 else math.nan
        return {name: np.sqrt(s * scale) for name, s in self._squares.items()}


def sweep_pairs(
    problem: Problem,
    values: Mapping[str, np.ndarray],
    pairs: int,
    noise: Noise,
    estimate: Callable[[Noise], Numbers | None],
) -> Swept:
    """The mean over pairs of estimates of dE/du, in user units.

    ``estimate`` draws one pair and returns its estimate, None where a run of it is not
    finite. ``info``: ``standard_error``, dict like the gradient; ``nonfinite_pairs``.
    """
    refused = _on_bound(problem, values)
    if refused is not None:
        return Swept({}, refused)
    mean = Mean()
    for _ in range(pairs):
        found = estimate(noise)
        if found is not None:
            mean.add(found)
    failed = pairs - mean.count
    info: dict[str, Any] = {"nonfinite_pairs": failed}
    if failed:
        reason = (
            f"{failed} of {pairs} pairs of perturbed runs are not finite: lower "
            f"`sigma` ({noise.sigma:g}), or narrow the range of what is tuned."
        )
        return Swept({}, Status(False, reason, None, "validation loss"), info)
    info["standard_error"] = _in_user_units(problem, values, mean.standard_error())
    return Swept(_in_user_units(problem, values, mean.mean), info=info)


def check_settings(owner: str, pairs: Any, sigma: Any, seed: Any) -> None:
    """Raises ValueError unless they are what a method of perturbations takes."""
    check_positive_int(owner, "pairs", pairs)
    number = isinstance(sigma, int | float) and not isinstance(sigma, bool)
    if not (number and math.isfinite(sigma) and sigma > 0):
        raise ValueError(
            f"`sigma` of {owner} must be a finite number above 0, the standard "
            f"deviation on the unconstrained line. Received: {sigma!r}."
        )
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(
            f"`seed` of {owner} must be an int of at least 0. Received: {seed!r}."
        )


def check_positive_int(owner: str, name: str, given: Any) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError(
            f"`{name}` of {owner} must be an int of at least 1. Received: {given!r}."
        )


def _on_bound(problem: Problem, values: Mapping[str, np.ndarray]) -> Status | None:
    for name, value in values.items():
        ends = problem.space[name].on_bound(value)
        if np.any(ends):
            reason = (
                f"`{name}` must lie strictly inside {problem.space[name].range_text()} "
                "to be perturbed on the unconstrained line. Received: "
                f"{value[ends].flat[0]}. Start from `Float.interior(value)`, or use "
                "FiniteDifference() or Reverse()."
            )
            return Status(False, reason, None, name)
    return None


def _in_user_units(
    problem: Problem, values: Mapping[str, np.ndarray], found: Numbers
) -> Numbers:
    """dE/dv = dE/du / (dv/du)."""
    return {
        name: found[name]
        / problem.space[name].to_unconstrained_gradient(value, np.ones_like(value))
        for name, value in values.items()
    }


def _digest(values: Mapping[str, np.ndarray]) -> list[int]:
    """Four 32-bit numbers that differ where values differ."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in values.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value, "<f8").tobytes())
    return np.frombuffer(digest.digest(), "<u4").tolist()
