"""How long a training can be differentiated before its derivative means nothing."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad._evaluate import evaluate
from hypergrad._hypergradient import hypergradient
from hypergrad.arguments import checked_whole
from hypergrad.methods import AbstractMethod
from hypergrad.outer import decades
from hypergrad.problem import Problem

AGREEMENT, SMOOTHNESS = 0.6, 0.5
"""A length is usable where both are at least as large."""

GROWTH = 30.0
"""Chaos, where the norm grows by so much while the length doubles."""

MOVE = 0.05
"""Decades between the trainings that tell the smoothness."""


class HorizonRow(NamedTuple):
    """What the hypergradient is after so many steps.

    ``steps``: T. ``loss``: mean of E over the samples. ``norm``: mean of ‖dE/du‖.
    ``variance``: ``Σ var(dE/du) / Σ mean(dE/du)²`` over the samples; NaN with one.
    ``agreement``: mean over the entries of |Σ sign|/N over the N samples: 1 where all
    have one sign. ``same_sign``: on how many entries (share) the mean has the sign that
    it has at the longest length. ``smoothness``: see `horizon`. ``finite``: whether
    all samples are.
    """

    steps: int
    loss: float
    norm: float
    variance: float
    agreement: float
    same_sign: float
    smoothness: float
    finite: bool

    @property
    def usable(self) -> bool:
        return (
            self.finite
            and self.agreement >= AGREEMENT
            and self.smoothness >= SMOOTHNESS
        )


class HorizonReport(NamedTuple):
    """What `horizon` found; ``print`` shows a table.

    ``rows``: list of `HorizonRow`, by length. ``recommended``: int, the longest usable
    length, or None. ``chaotic_from``: int, the shortest length from which on the
    dynamics are chaotic, or None. ``samples``: int. ``runs``: what it cost, in runs of
    the longest length.
    """

    rows: list[HorizonRow]
    recommended: int | None
    chaotic_from: int | None
    samples: int
    runs: float

    def __str__(self) -> str:
        lines = [
            "    steps          E       norm   variance  agreement  same sign"
            "  smoothness"
        ]
        for r in self.rows:
            lines.append(
                f"{r.steps:9d}  {r.loss:9.4g}  {r.norm:9.3g}  {r.variance:9.2g}"
                f"  {r.agreement:9.0%}  {r.same_sign:9.0%}  {r.smoothness:10.2f}"
                + ("" if r.usable else "  not usable")
            )
        return "\n".join([*lines, self.advice])

    @property
    def advice(self) -> str:
        """One sentence."""
        if self.recommended is None:
            return (
                "No length is usable: lower the learning rate, or estimate with "
                "PersistentES or EvolutionStrategies."
            )
        if self.chaotic_from is None:
            return f"Recommended: {self.recommended} steps."
        return (
            f"Recommended: {self.recommended} steps. From {self.chaotic_from} on the "
            "dynamics are chaotic: a smaller learning rate, Truncated or PersistentES "
            "go further."
        )


def horizon(
    problem: Problem,
    values: Mapping[str, Any] | None = None,
    *,
    lengths: Sequence[int] | None = None,
    samples: int = 3,
    method: AbstractMethod | None = None,
) -> HorizonReport:
    """Measures the hypergradient against the length of training.

    For each length T and each sample (other initial weights and batch orders, as with
    ``average=``): dE/du. The smoothness is the metasmoothness of Engstrom et al.: with
    θ(z) the weights after T steps and v a step of 0.05 decades against the slope,
    ``Σⱼ |Δⱼ| sign(Δⱼ) sign(Δ'ⱼ) / Σⱼ |Δⱼ|``, Δ = θ(z+v) − θ(z), Δ' = θ(z+2v) − θ(z+v).
    It is 1 where weights follow the hyperparameters smoothly and 0 where they jump
    about.

    Args:
        problem: a `Problem`.
        values: dict, name → number or array; None: the defaults.
        lengths: ints, up to ``problem.num_steps``; None: that number, halved up to
            five times.
        samples: int ≥ 1; a problem with ``average=N`` has N, and a problem of pure
            functions without samples one.
        method: None: ``Reverse()``.

    Returns:
        A `HorizonReport`; `hg.plots.horizon` draws it.

    Warns:
        UserWarning: where the dynamics are chaotic: something is not finite, the norm
            grows thirtyfold while the length doubles, or the smoothness is below 0.5.

    Cost: for each length a hypergradient a sample, and 2 runs.

    References: Engstrom et al. 2025, arXiv:2503.13751; Metz et al. 2021,
        arXiv:2111.05803, for the chaos.
    """
    number = _samples(problem, samples)
    rows: list[HorizonRow] = []
    means: list[np.ndarray] = []
    cost = 0.0
    wanted = _lengths(problem, lengths)
    for steps in wanted:
        short = problem.replace(num_steps=steps, average=number)
        found = [hypergradient(short.sample(i), values, method) for i in range(number)]
        slopes = np.stack([_flat(h.unconstrained_gradient) for h in found])
        mean = np.mean(slopes, axis=0)
        cost += (sum(h.info["runs"] for h in found) + 2.0) * steps / wanted[-1]
        rows.append(
            HorizonRow(
                steps,
                float(np.mean([h.loss for h in found])),
                float(np.mean(np.linalg.norm(slopes, axis=1))),
                _variance(slopes, mean),
                float(np.mean(np.abs(np.mean(np.sign(slopes), axis=0)))),
                math.nan,
                _smoothness(short.sample(0), found[0]),
                all(h.status.ok for h in found),
            )
        )
        means.append(mean)
    rows = [
        row._replace(same_sign=float(np.mean(np.sign(mean) == np.sign(means[-1]))))
        for row, mean in zip(rows, means)
    ]
    usable = [row.steps for row in rows if row.usable]
    report = HorizonReport(
        rows, max(usable, default=None), _chaotic_from(rows), number, cost
    )
    if report.chaotic_from is not None:
        warnings.warn(report.advice, stacklevel=2)
    return report


def _samples(problem: Problem, samples: Any) -> int:
    checked_whole("samples", samples)
    if problem.average > 1:
        return problem.average
    if problem.keras is None and problem.samples is None:
        return 1
    return samples


def _lengths(problem: Problem, lengths: Sequence[int] | None) -> list[int]:
    most = problem.num_steps
    if lengths is None:
        return sorted({max(1, most // 2**k) for k in range(6)})
    found = sorted({int(steps) for steps in lengths})
    if not found or found[0] < 1 or found[-1] > most:
        raise ValueError(
            f"`lengths` must be integers from 1 to the {most} steps of the problem. "
            f"Received: {list(lengths)}. A problem with more steps has longer ones."
        )
    return found


def _flat(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(a, float)) for a in arrays.values()])


def _variance(slopes: np.ndarray, mean: np.ndarray) -> float:
    if len(slopes) < 2:
        return math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sum(np.var(slopes, axis=0, ddof=1))
        return float(np.divide(spread, np.sum(mean**2)))


def _smoothness(problem: Problem, found: Any) -> float:
    """The metasmoothness along the descent direction; NaN where a run diverges."""
    values = found.info["values"]
    steps = {
        name: -MOVE * np.sign(np.nan_to_num(g))
        for name, g in found.unconstrained_gradient.items()
    }
    weights = [_weights(found.info["final_state"])]
    u = {
        name: problem.space[name].to_unconstrained(v, clip=True)
        for name, v in values.items()
    }
    for _ in range(2):
        u = {n: decades.move(problem.space[n], u[n], steps[n]) for n in u}
        moved = {n: problem.space[n].to_user(u[n]) for n in u}
        weights.append(_weights(evaluate(problem, moved).info["final_state"]))
    if not np.isfinite(weights).all():
        return math.nan
    first, second = np.diff(weights, axis=0)
    total = float(np.sum(np.abs(first)))
    signs = np.sign(first) * np.sign(second)
    return float(np.sum(np.abs(first) * signs)) / total if total else 1.0


def _weights(state: Any) -> np.ndarray:
    """What is trained, or all of a state that does not say."""
    leaves = tree.flatten(backend.to_numpy(getattr(state, "weights", state)))
    inexact = [v for v in map(np.asarray, leaves) if v.dtype.kind == "f"]
    return np.concatenate([np.ravel(v).astype(np.float64) for v in inexact])


def _chaotic_from(rows: Sequence[HorizonRow]) -> int | None:
    """The shortest length that shows chaos, if all longer ones do too."""
    found = None
    for i in reversed(range(len(rows))):
        before = rows[max(0, i - 1)]
        doublings = max(1.0, math.log2(rows[i].steps / before.steps)) if i else 1.0
        grown = rows[i].norm > before.norm * GROWTH**doublings
        if rows[i].finite and rows[i].smoothness >= SMOOTHNESS and not grown:
            break
        found = rows[i].steps
    return found
