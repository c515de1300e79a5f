"""From values of hyperparameters to what steps receive, and gradients back."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
import numpy as np

from hypergrad import backend
from hypergrad import problem_checks as checks
from hypergrad.data import AbstractBatches
from hypergrad.keras_checks import explained
from hypergrad.parts import Bound, PerExample, PerStep, hparam_dtype
from hypergrad.space import (
    Float,
    Schedule,
    layout,
    pull_to_knots,
    spread_over_steps,
)


def expanded(
    space: Mapping[str, Any], bind: Callable | None
) -> tuple[dict[str, Float], Callable | None]:
    """A space of Floats, and a bind that marks the knots of its schedules.

    With a bind of the user's, the knots are arrays that it may do anything with.
    """
    floats = checks.checked_space(space)
    interpolations = {
        name: given.interpolation
        for name, given in space.items()
        if isinstance(given, Schedule)
    }
    floats |= {name: layout(space[name]).expand(1) for name in interpolations}
    if bind is not None or not interpolations:
        return floats, bind

    def curves(hparams: Mapping[str, Any]) -> dict[str, Any]:
        marked = {n: PerStep(hparams[n], kind) for n, kind in interpolations.items()}
        return {**hparams, **marked}

    return floats, curves


def bind_values(problem: Any, values: Mapping[str, np.ndarray]) -> Bound:
    """The arrays that steps receive, for values that `Problem.values` has checked.

    Numbers per step are NumPy arrays, one row a step: segments slice them on the host.
    """
    rows = {name: _rows(problem, name, values[name]) for name in problem.rows}
    hparams = _hparams(problem, _without(values, problem.rows))
    if problem.bind is None:
        return Bound(hparams, {}, rows)
    result: Bound = problem.program("bind", lambda: sorted_bind(problem))(hparams)
    curves = curves_of(problem)
    checks.check_per_step(result.per_step, problem.num_steps, curves)
    per_step = backend.to_numpy(result.per_step)
    for name, (interpolation, _) in curves.items():
        knots = per_step[name]
        per_step[name] = spread_over_steps(knots, problem.num_steps, interpolation)
    if result.per_example:
        examples = None
        if isinstance(problem.batches, AbstractBatches):
            examples = problem.batches.num_examples
        checks.check_per_example(result.per_example, problem.batch(0), examples)
    return result._replace(per_step=per_step, per_example=result.per_example | rows)


def pull_bound(
    problem: Any, values: Mapping[str, np.ndarray], cotangent: Bound
) -> dict[str, np.ndarray]:
    """dE/dvalues from dE/dbound; NumPy arrays in user units."""
    gradient: Any = cotangent.shared
    if problem.bind is not None:
        per_step = dict(cotangent.per_step)
        for name, (interpolation, knots) in curves_of(problem).items():
            per_step[name] = pull_to_knots(per_step[name], knots, interpolation)

        def pull(hparams, cotangent):
            return backend.vjp(sorted_bind(problem), hparams).pullback(cotangent)[0]

        per_example = _without(cotangent.per_example, problem.rows)
        gradient = problem.program("pull_bind", lambda: pull)(
            _hparams(problem, _without(values, problem.rows)),
            cotangent._replace(per_step=per_step, per_example=per_example),
        )
    gradient = {**gradient, **{n: cotangent.per_example[n] for n in problem.rows}}
    return {name: backend.to_numpy(gradient[name]) for name in problem.space}


def push_bound(
    problem: Any, values: Mapping[str, np.ndarray], directions: Mapping[str, np.ndarray]
) -> Bound:
    """The derivative of what steps receive in k directions of the values.

    Args:
        directions: dict, name → array (k, *shape of the value).

    Returns:
        Bound; shared (k, …) and per_example (k, examples, …) on the device, per_step
        in NumPy as (T, k, …).
    """
    # Directions are no values: they are not kept inside of a range.
    dtype = hparam_dtype()
    moved = {n: backend.convert(np.asarray(d, dtype)) for n, d in directions.items()}
    rows = {name: moved[name] for name in problem.rows}
    pushed = _without(moved, problem.rows)
    hparams = _hparams(problem, _without(values, problem.rows))
    if problem.bind is None:
        return Bound(pushed, {}, rows)

    def push(hparams, directions):
        return backend.jvps(sorted_bind(problem), (hparams,), (directions,))[1]

    result: Bound = problem.program("push_bind", lambda: push)(hparams, pushed)
    per_step = {
        name: np.swapaxes(knots, 0, 1)
        for name, knots in backend.to_numpy(result.per_step).items()
    }
    for name, (interpolation, _) in curves_of(problem).items():
        per_step[name] = spread_over_steps(
            per_step[name], problem.num_steps, interpolation
        )
    return result._replace(per_step=per_step, per_example=result.per_example | rows)


def seen_by_validation(bound: Bound) -> dict:
    """What E receives: the shared numbers, and those per step as the last step's."""
    last = {name: rows[-1] for name, rows in bound.per_step.items()}
    return {**bound.shared, **last}


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _rows(problem: Any, name: str, value: np.ndarray) -> Any:
    """The rows of all examples on the device; of a default they stay there."""
    place = problem.remember(("rows", name), list)
    if not place or place[0] is not value:
        place[:] = [value, *_hparams(problem, {name: value}).values()]
    return place[1]


def _hparams(problem: Any, values: Mapping[str, np.ndarray]) -> dict:
    dtype = hparam_dtype()
    return {
        name: backend.convert(problem.space[name].cast(value, dtype))
        for name, value in values.items()
    }


def curves_of(problem: Any) -> dict[str, tuple[str, int]]:
    """Per-step numbers given by knots: name → (interpolation, knots).

    Filled when the bind is traced; kept beside its program.
    """
    curves: dict[str, tuple[str, int]] = problem.remember("curves", dict)
    return curves


def sorted_bind(problem: Any) -> Callable:
    """The bind of a problem, its values sorted by how a step reaches them."""

    def call(hparams: dict) -> Bound:
        with explained("`bind`"):
            named = problem.bind(hparams)
        if not isinstance(named, Mapping):
            raise TypeError(
                "`bind` must return a dict. Received: "
                f"{type(named).__name__}. Return name → array."
            )
        groups = Bound({}, {}, {})
        for name, value in named.items():
            if isinstance(value, PerStep):
                groups.per_step[name] = rows = _tensor(value.values)
                if value.interpolation is not None:
                    curves_of(problem)[name] = (value.interpolation, rows.shape[0])
            elif isinstance(value, PerExample):
                groups.per_example[name] = _tensor(value.values)
            else:
                groups.shared[name] = _tensor(value)
        return groups

    return call


def _tensor(value: Any) -> Any:
    return keras.ops.convert_to_tensor(value)
