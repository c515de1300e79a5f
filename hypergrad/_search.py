"""Random, grid and quasi-random search over the same compiled runs: the baselines."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hypergrad.callbacks import Callback
from hypergrad.methods import AbstractMethod, FiniteDifference
from hypergrad.outer.budget import Budget
from hypergrad.outer.ending import result_of
from hypergrad.outer.entry import (
    checked_seed,
    problem_of,
    start_of,
    told_by,
    with_fit_options,
)
from hypergrad.outer.held_out import held_out_problem
from hypergrad.outer.sequence import quasirandom
from hypergrad.outer.study import Study
from hypergrad.result import Result
from hypergrad.space import Float

METHODS = ("random", "grid", "quasirandom")


@with_fit_options
def search(
    model_or_problem: Any,
    x: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    *,
    method: str = "random",
    budget: Any = 64,
    seed: int = 0,
    include_start: bool = True,
    callbacks: Sequence[Callback] = (),
    verbose: int | str = "auto",
    test_data: Any = None,
    **fit_options: Any,
) -> Result:
    """Searches hyperparameters without gradients, over the runs that `tune` makes.

    Every point costs one run. On the sampling scale of each range:

    - ``"random"``: uniform draws; an array has one for each entry.
    - ``"quasirandom"``: an evenly spread sequence; arrays as in ``"random"``.
    - ``"grid"``: all combinations of the midpoints of n equal parts. The n of the names
      are made as equal as the budget allows: each is ⌊budget^(1/d)⌋, then raised by one
      in the order of the space while the product fits. An array has one value for all
      of its entries. The order of the points is shuffled by the seed.

    Args:
        model_or_problem: compiled ``keras.Model``, only read, or a `Problem`.
        x, y, sample_weight: with a model: the training data, as in ``fit``. With a
            problem the method may stand in the place of ``x``.
        method: "random", "grid" or "quasirandom".
        budget: number of runs, or `Budget` with ``runs`` or ``outer_steps``; here an
            outer step is one run, the start's among them.
        seed: int, of the points (and, with a model, of the batch order).
        include_start: bool, runs the user's start first, as part of the budget.
        callbacks, verbose, test_data: as in `tune`.
        **fit_options: with a model: the keywords of `Problem.from_model`:
            ``validation_data`` or ``validation_split``, ``hyperparameters``, ``steps``
            or ``epochs``, ``batch_size``, ``shuffle``, ``drop_remainder``,
            ``class_weight``, ``bind``, ``objective``, ``build_fn``, ``average``,
            ``folds``, ``resample`` (which a search does not look at).

    Returns:
        A `Result`, as of `tune`.

    Raises:
        ValueError, TypeError: before anything is trained.

    Cost: one run for each point; N of them with ``average=N``.

    Example:
        >>> result = hg.search(problem, "random", budget=64)

    References: Bergstra & Bengio 2012, JMLR 13 (random search).
    """
    if isinstance(x, (str, AbstractMethod)):
        method, x = x, None  # type: ignore[assignment]
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(map(repr, METHODS))}. Received: "
            f"{method!r}. To descend a hypergradient use hg.tune."
        )
    limits = Budget.of(budget)
    if min(_limits(limits.runs), _limits(limits.outer_steps)) == math.inf:
        raise ValueError(
            "`search` needs to know how many points there are. Received: budget="
            f"{budget!r}. Pass a number of runs, or hg.Budget(runs=…)."
        )
    seed = checked_seed(seed)
    told = told_by(callbacks, verbose)
    problem = problem_of(model_or_problem, (x, y, sample_weight), seed, fit_options)
    test = None if test_data is None else held_out_problem(problem, test_data)
    plain = FiniteDifference()  # whose run keeps nothing for a sweep
    study = Study(problem, plain, limits, told)
    runs = _limits(limits.runs) / problem.average
    most = min(runs, _limits(limits.outer_steps))
    start = start_of(problem)
    number = int(most) - bool(include_start)
    points = list(points_of(method, problem.space, number, seed))
    plan = [("search", point) for point in points]
    _run(study, ([("start", start)] if include_start else []) + plan)
    return _ended(study, test)


def _limits(limit: float | None) -> float:
    return math.inf if limit is None else limit


def points_of(
    method: str, space: Mapping[str, Float], number: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """At most ``number`` points of a space."""
    generator = np.random.default_rng(seed)
    if method == "grid":
        rows = _grid(number, len(space), generator)
        drawn = [dict(zip(space, row)) for row in rows]
        filled = [
            {n: np.full(space[n].shape, q) for n, q in point.items()} for point in drawn
        ]
    else:
        filled = [
            {name: generator.random(float_.shape) for name, float_ in space.items()}
            for _ in range(number)
        ]
    if method == "quasirandom":
        scalars = [name for name, float_ in space.items() if float_.shape == ()]
        spread = quasirandom(number, len(scalars), seed)
        for point, row in zip(filled, spread):
            point.update({n: np.asarray(q) for n, q in zip(scalars, row)})
    return [
        {name: space[name].sample(q) for name, q in point.items()} for point in filled
    ]


def grid_sizes(number: int, dimensions: int) -> list[int]:
    """Points for each dimension, as equal as a product of at most ``number`` allows."""
    sizes = [1] * dimensions
    while True:
        # In each pass every dimension grows by one, as long as the product fits.
        grown = 0
        for i in range(dimensions):
            if np.prod(sizes, dtype=float) / sizes[i] * (sizes[i] + 1) <= number:
                sizes[i] += 1
                grown += 1
        if grown < dimensions:
            return sizes


def _grid(number: int, dimensions: int, generator: np.random.Generator) -> np.ndarray:
    if number < 1:
        return np.empty((0, dimensions))
    axes = [(np.arange(n) + 0.5) / n for n in grid_sizes(number, dimensions)]
    rows = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=-1)
    return generator.permutation(rows)


def _run(study: Study, plan: list) -> None:
    for callback in study.callbacks:
        callback.set_stop(study.stop)
    study.tell(
        "on_tune_begin", outer_steps=len(plan), budget=study.run_cost * len(plan)
    )
    try:
        for step, (kind, values) in enumerate(plan):
            if step and not study.affords(study.run_cost):
                break
            study.tell("on_outer_step_begin", step)
            scored = study.run(kind, study.problem.values(values))
            study.tell_row("on_outer_step_end", step, scored.row, kept=True)
    except KeyboardInterrupt:
        if study.start is None:
            raise
        study.interrupt()


def _ended(study: Study, test: Any) -> Result:
    result = result_of(study, test)
    study.tell("on_tune_end", result=result)
    return result
