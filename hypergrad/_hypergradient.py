"""The verb: dE/dλ of a problem, by a method."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad.at_once import over_samples, samples_of
from hypergrad.estimate import check_room
from hypergrad.influence import warn_where_zero
from hypergrad.locate import gradient_status, run_status
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
    the method adds. With ``average=``, all are means over the samples, but for
    ``final_state``, that of sample 0, and ``samples``, a dict: ``loss``, array (N,);
    ``gradient``, dict of arrays (N, …); ``metrics``, ``status`` and the ``info`` of the
    method, lists.
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
    method = over_samples(problem, method)
    checked = problem.values(values)
    check_room(problem, method, checked)
    start = time.perf_counter()
    method.prepare(problem, checked)
    tape = method.run(problem, checked, sweep_follows=True)
    status = run_status(problem, tape)
    gradient = nan_gradient(checked)
    info: Mapping[str, Any] = samples_of(tape)
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
