"""E and its hypergradient on a grid over two hyperparameters."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hypergrad._evaluate import evaluate
from hypergrad._hypergradient import hypergradient
from hypergrad.arguments import checked_whole
from hypergrad.methods import AbstractMethod
from hypergrad.outer import decades
from hypergrad.problem import Problem


class Landscape(NamedTuple):
    """E over two hyperparameters, as fractions of their ranges on their scales.

    ``names``: the two. ``space``: their ranges, dicts as in `Result.space`. ``grids``:
    two arrays of values. ``losses``: array (len of the second, of the first grid), NaN
    where a run diverged. ``arrows``: array (n, 4): the two fractions of a place, and
    −dE/dfraction there.
    """

    names: tuple[str, str]
    space: dict[str, dict[str, Any]]
    grids: tuple[np.ndarray, np.ndarray]
    losses: np.ndarray
    arrows: np.ndarray


def landscape(
    problem: Problem,
    names: Sequence[str],
    values: Mapping[str, Any] | None = None,
    *,
    size: int = 12,
    arrows: int = 4,
    method: AbstractMethod | None = None,
) -> Landscape:
    """Measures E on a grid over two hyperparameters; `hg.plots.landscape` draws it.

    Args:
        problem: a `Problem`.
        names: two names of its space, of numbers with two ends (an array takes one
            value for all of its entries).
        values: dict, name → number or array, where the others are held; None: the
            defaults.
        size: int ≥ 2, the runs along each side.
        arrows: int ≥ 0, the hypergradients along each side.
        method: None: ``Reverse()``.

    Raises:
        ValueError: names that are not two of the space, or a range without two ends.

    Cost: size² runs and arrows² hypergradients.
    """
    checked_whole("size", size, 2)
    checked_whole("arrows", arrows, 0)
    if len({*names} & {*problem.space}) != 2 or len(names) != 2:
        raise ValueError(
            f"`names` must be two of {list(problem.space)}. Received: {list(names)}."
        )
    floats = [problem.space[name] for name in names]
    for name, float_ in zip(names, floats):
        if decades.length(float_) is None:
            raise ValueError(
                f"`{name}` has no two ends to draw between. Received: "
                f"{float_.range_text()}. Declare `Float(min_value, max_value)`."
            )
    held = problem.values(values)

    def at(*q: float) -> dict[str, np.ndarray]:
        moved = {
            name: float_.sample(np.full(float_.shape, part))
            for name, float_, part in zip(names, floats, q)
        }
        return held | moved

    sides = (np.arange(size) + 0.5) / size
    losses = np.array(
        [[_loss(evaluate(problem, at(a, b)).loss) for a in sides] for b in sides]
    )
    places = (np.arange(arrows) + 0.5) / max(arrows, 1)
    found = []
    for a in places:
        for b in places:
            h = hypergradient(problem, at(a, b), method)
            # u is the logit of the fraction q: dE/dq = dE/du / (q (1 − q)).
            slopes = [
                float(np.sum(h.unconstrained_gradient[name])) / (q * (1.0 - q))
                for name, q in zip(names, (a, b))
            ]
            found.append((a, b, -slopes[0], -slopes[1]))
    first, second = (np.array([f.sample(q).item() for q in sides]) for f in floats)
    return Landscape(
        (names[0], names[1]),
        {n: _range(f) for n, f in zip(names, floats)},
        (first, second),
        losses,
        np.array(found).reshape(-1, 4),
    )


def _range(float_: Any) -> dict[str, Any]:
    return {
        "min_value": float_.min_value,
        "max_value": float_.max_value,
        "sampling": float_.sampling,
    }


def _loss(loss: Any) -> float:
    return float(loss) if np.isfinite(loss) else np.nan
