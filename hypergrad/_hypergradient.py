"""The verb: dE/dλ of a problem, by a method."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad.estimate import check_room
from hypergrad.influence import warn_where_zero
from hypergrad.locate import all_finite, locate
from hypergrad.methods import AbstractMethod, Reverse, Swept
from hypergrad.problem import Problem
from hypergrad.status import NonFiniteError, Status


class Hypergradient(NamedTuple):
    """A validation loss and its derivative by the hyperparameters.

    ``loss``: E, NumPy scalar. ``gradient``: dict, dE/dvalue in user units, same names
    and shapes as the values. ``unconstrained_gradient``: dict, dE/du on the line that
    the transform of each `Float` maps to its range. ``metrics``: dict of floats, the
    compiled metrics on the validation data and ``keras_val_loss``. ``status``: a
    `Status`. ``info``: dict: ``values``; ``train_losses``, array (T,), NaN where an
    opaque step reports none; ``seconds``; ``runs``, the cost in plain trainings;
    ``final_state``, what the last step left, a `TrainState` of a Keras model; and what
    the method adds.
    """

    loss: Any
    gradient: dict
    unconstrained_gradient: dict
    metrics: dict
    status: Status
    info: dict


def hypergradient(
    problem: Problem,
    values: Mapping[str, Any] | None = None,
    method: AbstractMethod | None = None,
    *,
    raise_on_failure: bool = False,
) -> Hypergradient:
    """Differentiates the validation loss after training by its hyperparameters.

    dE/dλ with E = E(s_T(λ), λ), where s_T is the state after ``problem.num_steps``
    steps of training with hyperparameters λ.

    Args:
        problem: a `Problem`.
        values: dict, name → number or array in user units; what is left out has its
            default; None: all defaults.
        method: a method such as `Reverse()`, the default.
        raise_on_failure: bool, raises where the status would say what went wrong.

    Returns:
        A `Hypergradient`. Where training diverges its loss is NaN or infinite, the
        gradient NaN, and the status names the step and the variable.

    Raises:
        ValueError: values outside the space, a method that does not fit, or one that
            needs more memory than is free.
        NonFiniteError: with ``raise_on_failure``, where something is not finite.

    Cost: see the method.

    Example:
        >>> h = hg.hypergradient(problem, {"optimizer.learning_rate": 0.01})
        >>> h.loss, h.gradient["optimizer.learning_rate"]
    """
    method = Reverse() if method is None else method
    _check(problem, method)
    checked = problem.values(values)
    check_room(problem, method, checked)
    start = time.perf_counter()
    method.prepare(problem, checked)
    tape = method.run(problem, checked, sweep_follows=True)
    status = run_status(problem, tape)
    gradient = nan_gradient(checked)
    info: Mapping[str, Any] = {}
    if status.ok:
        gradient, status, info = swept(problem, method, tape, stacklevel=3)
    if raise_on_failure and not status.ok:
        raise NonFiniteError(status.reason)
    return Hypergradient(
        tape.loss,
        gradient,
        unconstrained(problem, checked, gradient),
        tape.metrics,
        status,
        {
            "values": checked,
            "train_losses": tape.train_losses,
            "seconds": time.perf_counter() - start,
            "runs": method.runs(problem),
            "final_state": tape.final,
            **info,
        },
    )


def run_status(problem: Problem, tape: Any) -> Status:
    """The status of a run before its sweep."""
    if not tape.status.ok:
        failed: Status = tape.status
        return failed
    if np.isfinite(tape.loss) and all_finite(problem, tape.final):
        return Status()
    return locate(problem, tape)


def swept(
    problem: Problem, method: AbstractMethod, tape: Any, stacklevel: int = 2
) -> Swept:
    """What the sweep of a run that ended well found, checked.

    The gradient is NaN where the status says that it must not be used. ``stacklevel``
    as in ``warnings.warn``.
    """
    found = method.sweep(problem, tape)
    status = found.status
    if status.ok:
        status = gradient_status(found.gradient)
    if status.ok and method.exact:
        warn_where_zero(problem, tape.values, found.gradient, stacklevel + 1)
    if not found.status.ok:
        found = found._replace(gradient=nan_gradient(tape.values))
    return found._replace(status=status)


def gradient_status(gradient: Mapping[str, np.ndarray]) -> Status:
    for name, value in gradient.items():
        # The sum says it without another array of that size, but for an overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.sum(value)
        if not np.isfinite(total) and not np.isfinite(value).all():
            reason = f"The hypergradient of {name!r} is not finite."
            return Status(False, reason, None, "hypergradient")
    return Status()


def nan_gradient(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.full(v.shape, np.nan) for name, v in values.items()}


def unconstrained(
    problem: Problem, values: Mapping[str, Any], gradient: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """dE/du for each hyperparameter."""
    return {
        name: problem.space[name].to_unconstrained_gradient(values[name], g)
        for name, g in gradient.items()
    }


def _check(problem: Any, method: Any) -> None:
    if not isinstance(problem, Problem):
        raise TypeError(
            "`hypergradient` needs a hypergrad.Problem. Received: "
            f"{type(problem).__name__}. Make one with `hg.Problem.from_model(model, …)`"
            " or `hg.Problem(init=…, …)`."
        )
    if not isinstance(method, AbstractMethod):
        raise TypeError(
            f"`method` must be a method such as hg.Reverse(). Received: {method!r}."
        )
    method.check(problem)
