"""The objective alone: one training, scored."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypergrad.at_once import over_samples, samples_of
from hypergrad.locate import run_status
from hypergrad.methods import FiniteDifference
from hypergrad.problem import Problem
from hypergrad.status import NonFiniteError, Status


class Evaluation(NamedTuple):
    """A validation loss, as in `Hypergradient`, without its derivative."""

    loss: Any
    metrics: dict
    status: Status
    info: dict


def evaluate(
    problem: Problem,
    values: Mapping[str, Any] | None = None,
    *,
    raise_on_failure: bool = False,
) -> Evaluation:
    """Trains once with these hyperparameters and scores the result: E(λ).

    The same compiled run, and the same number, that `tune`, `search` and
    `hypergradient` make: what an optimizer of one's own calls.

    Args:
        problem: a `Problem`.
        values: dict, name → number or array in user units; what is left out has its
            default; None: all defaults.
        raise_on_failure: bool, raises where the status would say what went wrong.

    Returns:
        An `Evaluation`; ``info`` has ``values``, ``train_losses``, ``seconds``,
        ``runs``, ``final_state`` and ``samples`` as in `Hypergradient`. Where training
        diverges the loss is NaN or infinite, and the status names step and variable.

    Raises:
        TypeError: no problem.
        ValueError: values outside the space.
        NonFiniteError: with ``raise_on_failure``, where something is not finite.

    Cost: one run; N with ``average=N``. Memory of one state.

    Example:
        >>> hg.evaluate(problem, {"optimizer.learning_rate": 0.01}).loss
    """
    if not isinstance(problem, Problem):
        raise TypeError(
            "`evaluate` needs a hypergrad.Problem. Received: "
            f"{type(problem).__name__}. Make one with `hg.Problem.from_model(model, …)`"
            " or `hg.Problem(init=…, …)`."
        )
    method = over_samples(problem, FiniteDifference())  # whose run keeps nothing
    checked = problem.values(values)
    start = time.perf_counter()
    method.prepare(problem, checked)
    tape = method.run(problem, checked)
    status = run_status(problem, tape)
    if raise_on_failure and not status.ok:
        raise NonFiniteError(status.reason)
    return Evaluation(
        tape.loss,
        tape.metrics,
        status,
        {
            "values": checked,
            "train_losses": tape.train_losses,
            "seconds": time.perf_counter() - start,
            "runs": float(problem.average),
            "final_state": tape.final,
            **samples_of(tape),
        },
    )
