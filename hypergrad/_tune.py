"""The other verb: descend the hypergradient, safely, from any start."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypergrad import files
from hypergrad._tuning import UNLIMITED, Tuning
from hypergrad.arguments import checked_whole
from hypergrad.callbacks import Callback
from hypergrad.fingerprint import (
    fingerprint,
    refuse_other,
    validation_checksum,
)
from hypergrad.methods import AbstractMethod
from hypergrad.outer import checkpoint
from hypergrad.outer.bayesian import BayesianScreening
from hypergrad.outer.budget import Budget
from hypergrad.outer.conditions import Growing
from hypergrad.outer.descent import Descent
from hypergrad.outer.entry import (
    checked_method,
    checked_seed,
    problem_of,
    split_callbacks,
    told_by,
    with_fit_options,
)
from hypergrad.outer.final_training import FinalTraining, state_after
from hypergrad.outer.held_out import held_out_problem
from hypergrad.outer.keras_steps import steps_of
from hypergrad.outer.safeguard import TakeBack
from hypergrad.outer.screening import AbstractScreening
from hypergrad.outer.study import Study
from hypergrad.problem import Problem
from hypergrad.result import Result
from hypergrad.result.result import Origin

OUTER_STEPS = 20
"""Of each descent, where nothing limits them."""


@with_fit_options
def tune(
    model_or_problem: Any,
    x: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    *,
    outer_steps: int | None = None,
    optimizer: Any = None,
    method: AbstractMethod | None = None,
    seed: int = 0,
    directory: Any = None,
    callbacks: Sequence[Callback] = (),
    verbose: int | str = "auto",
    screening: Any = "default",
    safeguard: Any = "default",
    budget: Any = None,
    test_data: Any = None,
    patience: int | None = None,
    starts: int | None = None,
    horizon: Growing | None = None,
    validate_every: int | None = None,
    restore_best_weights: bool = False,
    **fit_options: Any,
) -> Result:
    """Tunes hyperparameters by gradient descent on the validation loss E.

    First comes a screening: the user's start is run, then points spread over the space,
    then points where a model of E expects it to be lower. The descent begins at the
    best of them. Each outer step moves every hyperparameter against the sign of its
    slope, by a distance on its own sampling scale that is learned on the way and never
    exceeds a decade. A step that makes E worse, or not finite, is taken back and tried
    shorter. The best values that were seen are returned.

    Of a budget in runs the screening takes 35 % where there are more than 16 numbers,
    which it moves as one value for each name, and the descent the rest. With fewer
    numbers it takes all, as long as it expects to gain: a hypergradient costs as much
    as several runs, and of a few numbers those tell more.

    Args:
        model_or_problem: compiled ``keras.Model``, only read, or a `Problem`.
        x, y, sample_weight: with a model: the training data, as in ``fit``.
        outer_steps: int, updates of the values, kept or taken back, of all descents
            together; None: 20 for each, or no limit where ``budget`` limits runs or
            seconds.
        optimizer: a Keras optimizer, or on JAX an optax transformation, applied to the
            unconstrained values instead of the steps above; screening and safeguard
            stay. None: `hypergrad.outer.steps.SignSteps()`.
        method: how hypergradients are computed; None: ``Reverse()``.
        seed: int, of the batch order (with a model) and the screening.
        directory: folder where every outer step is kept. A killed tune that is started
            again goes on from there to the same numbers; a finished one is not run
            again, its result is returned, whatever the initial weights now are.
            Refused where model, data, space or settings differ, and while another
            process tunes there. A damaged file is replaced by the one before it, with
            a warning. What cannot be compared: objects of your own without
            ``get_config``, other than by their class, and functions that yours call in
            other modules.
        callbacks: sequence of `hypergrad.callbacks.Callback`, told of the tune; and of
            ``keras.callbacks.Callback``, told of the final training: the one that was
            scored, gone through once more. An ``EarlyStopping`` may end that, and give
            the model the weights of its best epoch. Their ``val_loss`` is E; of single
            steps they are not told, and what would change the training is refused.
        verbose: "auto": a progress bar on a terminal, else a line for each outer step;
            0: nothing; 1: the bar; 2: the lines.
        screening: `BayesianScreening`, the default, `Screening`, or another
            `AbstractScreening` of `hypergrad.outer`; None: the descent begins at the
            user's start.
        safeguard: `TakeBack`, or None: every step is kept.
        budget: number of runs, or `Budget`. Runs are never exceeded; seconds are
            looked at before each run.
        test_data: tuple (x, y) or (x, y, sample_weight), scored once at the end.
        patience: int, ends after as many outer steps without a better E.
        starts: int, descents from as many points of the screening that lie apart, with
            equal shares of the budget; compiled programs are shared. None: one, and
            where it ends before the budget does another from the next best point.
        horizon: `Growing`: the screening and the first outer steps train fewer steps,
            at less cost.
        validate_every: int, looks at E every so many steps of the final training: the
            result has its ``learning_curve`` and ``best_step``. None: each epoch, where
            one of Keras' callbacks or ``restore_best_weights`` asks for it.
        restore_best_weights: bool, the model is that of the step with the lowest E.
        **fit_options: with a model: the keywords of `Problem.from_model`:
            ``validation_data`` or ``validation_split``, ``hyperparameters``, ``steps``
            or ``epochs``, ``batch_size``, ``shuffle``, ``drop_remainder``,
            ``class_weight``, ``bind``, ``objective``, ``build_fn``, ``average``,
            ``folds``, ``resample``. With ``average=N`` E and its gradient are means
            over N samples, and the model is that of sample 0. With
            ``resample="each_step"`` a step is judged under the samples that it was
            computed with: the values before it are run again with new samples (a run),
            and those of each descent at last with the first ones.

    Returns:
        A `Result`.

    Raises:
        ValueError, TypeError: what cannot be tuned, before anything is trained.

    Cost: a run for the start and for each point of the screening; for each outer step
        a run, and a sweep (``method.runs(problem) − 1`` runs) unless the step before
        was taken back; N times that with ``average=N``. Where a hypergradient is not
        finite, random steps are tried (a run each), or the descent goes on from the
        next best run (a run to repeat it).

    Example:
        >>> result = hg.tune(
        ...     model, x, y, validation_data=(x_val, y_val), epochs=3, batch_size=64,
        ...     hyperparameters=["optimizer.learning_rate", "optimizer.beta_1"])
        >>> print(result.summary())

    References: Jones et al. 1998 for the screening; Riedmiller & Braun 1993 (Rprop)
        for the steps; Maclaurin et al. 2015, arXiv:1502.03492, for the hypergradient.
    """
    limits = Budget.of(budget)
    if starts is not None:
        checked_whole("starts", starts)
    number = _outer_steps(outer_steps, limits, starts)
    steps = steps_of(optimizer)
    guard = _safeguard(safeguard)
    method = checked_method(method)
    seed = checked_seed(seed)
    callbacks, keras_callbacks = split_callbacks(callbacks)
    told = told_by(callbacks, verbose, patience)
    ending = FinalTraining(validate_every, bool(restore_best_weights), keras_callbacks)
    folder = None if directory is None else files.writable(directory)
    data = (x, y, sample_weight)
    fit_options = _with_last(horizon, model_or_problem, fit_options)
    problem = problem_of(model_or_problem, data, seed, fit_options)
    whole = (problem.num_steps,)
    stages = whole if horizon is None else horizon.stages(problem.num_steps)
    ending.check(problem)
    method.check(problem)
    screening = _screening(screening)
    test = None if test_data is None else held_out_problem(problem, test_data)
    study = Study(problem, method, limits, told)
    descent = Descent(study, steps, guard, seed)
    tuning = Tuning(study, descent, screening, number, stages, starts, seed, ending)
    if folder is None:
        return tuning.result(test)
    settings = {
        "seed": seed,
        "method": method,
        "optimizer": optimizer,
        "screening": screening,
        "safeguard": guard,
        "outer_steps": number,
        "budget": limits,
        "patience": patience,
        "starts": starts,
        "horizon": horizon,
        "validate_every": validate_every,
        "restore_best_weights": bool(restore_best_weights),
        "test data": None if test is None else validation_checksum(test),
    }
    marks = fingerprint(problem, settings)
    with files.locked(folder):
        stored = _stored_content(folder, marks)
        if stored is not None and stored["finished"]:
            return _stored_result(folder, problem, study)
        tuning.keep_in(folder, marks, stored)
        return tuning.result(test)


def _outer_steps(outer_steps: Any, limits: Budget, starts: int | None) -> int:
    if outer_steps is None:
        limits_given = (limits.runs, limits.outer_steps, limits.seconds)
        limited = any(limit is not None for limit in limits_given)
        outer_steps = UNLIMITED if limited else OUTER_STEPS * (starts or 1)
    checked_whole("outer_steps", outer_steps, 0)
    most = UNLIMITED if limits.outer_steps is None else limits.outer_steps
    return int(min(outer_steps, most))


def _with_last(horizon: Any, model: Any, fit_options: dict) -> dict:
    """The options with as many steps as a horizon ends with, where none are given."""
    if horizon is None:
        return fit_options
    if not isinstance(horizon, Growing):
        raise TypeError(
            "`horizon` must be a hg.Growing(first, last), or None for T steps from the "
            f"beginning. Received: {horizon!r}."
        )
    told = fit_options.get("steps") or fit_options.get("epochs")
    if isinstance(model, Problem) or horizon.last is None or told:
        return fit_options
    return fit_options | {"steps": horizon.last}


def _screening(screening: Any) -> AbstractScreening | None:
    if isinstance(screening, str) and screening == "default":
        return BayesianScreening()
    if screening is None or isinstance(screening, AbstractScreening):
        return screening
    raise TypeError(
        "`screening` must be a Screening(runs=…) or BayesianScreening(runs=…) of "
        f"hypergrad.outer, or None for none. Received: {screening!r}."
    )


def _safeguard(safeguard: Any) -> TakeBack | None:
    if isinstance(safeguard, str) and safeguard == "default":
        return TakeBack()
    if safeguard is None or isinstance(safeguard, TakeBack):
        return safeguard
    raise TypeError(
        "`safeguard` must be a TakeBack(…) of hypergrad.outer, or None for none. "
        f"Received: {safeguard!r}."
    )


def _stored_content(folder: Path, marks: dict[str, str]) -> Any:
    """What a folder holds of this tune; None where it holds none."""
    if not (folder / f"{checkpoint.FILE}.json").exists():
        return None
    stored = files.read(folder, checkpoint.FILE)
    refuse_other(folder, stored["fingerprint"], marks, stored["finished"])
    return stored


def _stored_result(folder: Path, problem: Problem, study: Study) -> Result:
    stored = Result.load(folder)
    if stored.has_model_file or problem.keras is None:
        return stored
    values = problem.values(stored.values)

    def final() -> Any:
        if stored.model_step is None:
            return study.method.run(problem, values).final
        return state_after(problem.sample(0), values, stored.model_step)

    return dataclasses.replace(stored, origin=Origin(problem, final))
