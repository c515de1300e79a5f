"""The other verb: descend the hypergradient, safely, from any start."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hypergrad import files
from hypergrad.callbacks import Callback
from hypergrad.diagnostics import nan_report
from hypergrad.fingerprint import (
    fingerprint,
    refuse_other,
    validation_checksum,
)
from hypergrad.methods import AbstractMethod
from hypergrad.outer import checkpoint
from hypergrad.outer.bayesian import BayesianScreening
from hypergrad.outer.budget import Budget
from hypergrad.outer.descent import SPENT, Descent, Place, interior
from hypergrad.outer.ending import result_of
from hypergrad.outer.entry import (
    checked_method,
    checked_seed,
    problem_of,
    start_of,
    told_by,
    with_fit_options,
)
from hypergrad.outer.held_out import held_out_problem
from hypergrad.outer.keras_steps import steps_of
from hypergrad.outer.safeguard import TakeBack
from hypergrad.outer.screening import AbstractScreening, Seen
from hypergrad.outer.study import Scored, Study
from hypergrad.problem import Problem
from hypergrad.result import Result
from hypergrad.result.result import Origin

OUTER_STEPS = 20
UNLIMITED = 10**9


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
        outer_steps: int, updates of the values, kept or taken back; None: 20, or no
            limit where ``budget`` limits runs or seconds.
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
        callbacks: sequence of `hypergrad.callbacks.Callback`.
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
        **fit_options: with a model: the keywords of `Problem.from_model`:
            ``validation_data`` or ``validation_split``, ``hyperparameters``, ``steps``
            or ``epochs``, ``batch_size``, ``shuffle``, ``drop_remainder``,
            ``class_weight``, ``bind``, ``objective``, ``build_fn``, ``average``. With
            ``average=N`` E and its gradient are means over N samples, and the model is
            that of sample 0.

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
    number = _outer_steps(outer_steps, limits)
    steps = steps_of(optimizer)
    guard = _safeguard(safeguard)
    method = checked_method(method)
    seed = checked_seed(seed)
    told = told_by(callbacks, verbose, patience)
    folder = None if directory is None else files.writable(directory)
    data = (x, y, sample_weight)
    problem = problem_of(model_or_problem, data, seed, fit_options)
    method.check(problem)
    screening = _screening(screening)
    test = None if test_data is None else held_out_problem(problem, test_data)
    study = Study(problem, method, limits, told)
    descent = Descent(study, steps, guard, number, seed)
    tuning = _Tuning(study, descent, screening, seed)
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
        "test data": None if test is None else validation_checksum(test),
    }
    marks = fingerprint(problem, settings)
    with files.locked(folder):
        stored = _stored_content(folder, marks)
        if stored is not None and stored["finished"]:
            return _stored_result(folder, problem, study)
        tuning.keep_in(folder, marks, stored)
        return tuning.result(test)


class _Tuning:
    """A tune from the start to its result."""

    def __init__(
        self,
        study: Study,
        descent: Descent,
        screening: AbstractScreening | None,
        seed: int,
    ):
        self.study = study
        self.descent = descent
        self.screening = screening
        self.seed = seed
        self.folder: Path | None = None
        self.marks: dict[str, str] = {}
        self.place: Place | None = None

    def keep_in(self, folder: Path, marks: dict[str, str], stored: Any) -> None:
        """Saves to a folder from now on, and goes on from what is stored there."""
        self.folder, self.marks = folder, marks
        if stored is not None:
            self.place = checkpoint.load(stored, self.study, self.descent.steps)

    def result(self, test: Problem | None) -> Result:
        """Runs what is left to run."""
        study = self.study
        for callback in study.callbacks:
            callback.set_stop(study.stop)
        steps = self.descent.outer_steps
        study.tell(
            "on_tune_begin",
            outer_steps=None if steps >= UNLIMITED else steps,
            budget=study.budget.runs,
            history=study.history.columns,
        )
        try:
            if steps:
                study.prepare(start_of(study.problem))
            here = self._screened()
            if here is not None:
                self._descend(here)
        except KeyboardInterrupt:
            if study.start is None:
                raise
            study.stop("interrupted from the keyboard")
        result = result_of(study, test)
        study.tell("on_tune_end", result=result)
        if self.folder is not None and not study.stopped.startswith("interrupted"):
            result.save(self.folder)
            checkpoint.save(self.folder, self.marks, study, self.place, finished=True)
        return result

    def _screened(self) -> Scored | None:
        """Runs the start and the screening; where the descent begins, if anywhere."""
        study = self.study
        if self.place is not None:
            study.first = 1 if "interior" in study.history.columns["kind"] else 0
            return study.remembered(self.place.row)
        runs = [study.remembered(row) for row in range(len(study.history))]
        given = self._given()
        # Nothing descends from a bound: there the slope on the line is zero.
        study.first = len(given) - 1
        base = given[-1][1]
        while True:
            planned = (
                given[len(runs)]
                if len(runs) < len(given)
                else self._proposed(base, runs, len(given))
            )
            if planned is None or (runs and not study.affords(study.run_cost)):
                break
            # Without the final state: as many as the budget would fill the memory.
            runs.append(study.run(*planned)._replace(final=None))
            self._save()
        finite = [run for run in runs[study.first :] if np.isfinite(run.loss)]
        if not finite and not study.affords(study.run_cost):
            study.stop(SPENT)
            return None
        if not finite:
            study.stop("no run of the screening ended in finite numbers")
            report = str(nan_report(study.problem, start_of(study.problem)))
            study.notes.append(f"At the start: {report}")
            return None
        here = min(finite, key=lambda run: run.loss)
        self.place = self.descent.place(here)
        return here

    def _given(self) -> list[tuple[str, dict[str, np.ndarray]]]:
        """(kind, values) of the user's start, and of what it is off its bounds."""
        start = start_of(self.study.problem)
        inside = interior(self.study.problem.space, start)
        if inside is None:
            return [("start", start)]
        self._note_interior(start, inside)
        return [("start", start), ("interior", inside)]

    def _proposed(
        self, base: dict[str, np.ndarray], runs: list[Scored], given: int
    ) -> tuple[str, dict[str, np.ndarray]] | None:
        """(kind, values) of the next run of the screening; None: there is none."""
        if self.screening is None:
            return None
        study = self.study
        paid = math.inf if study.budget.runs is None else study.budget.runs
        seen = Seen(
            base,
            [run.values for run in runs],
            [run.loss for run in runs],
            given,
            paid / study.run_cost,
        )
        values = self.screening.propose(study.problem.space, seen, self.seed)
        return None if values is None else ("screening", study.problem.values(values))

    def _note_interior(
        self, start: dict[str, np.ndarray], inside: dict[str, np.ndarray]
    ) -> None:
        for name, value in start.items():
            moved = value != inside[name]
            note = (
                f"{name} starts on its bound, where nothing descends: the descent "
                f"starts from {inside[name][moved].flat[0]:.4g} instead of "
                f"{value[moved].flat[0]:g}."
                if np.any(moved)
                else None
            )
            if note and note not in self.study.notes:
                self.study.notes.append(note)

    def _descend(self, here: Scored | None) -> None:
        assert self.place is not None
        while here is not None:
            here = self.descent.advance(self.place, here)
            self._save()

    def _save(self) -> None:
        if self.folder is not None:
            checkpoint.save(self.folder, self.marks, self.study, self.place)


def _outer_steps(outer_steps: Any, limits: Budget) -> int:
    if outer_steps is None:
        limits_given = (limits.runs, limits.outer_steps, limits.seconds)
        limited = any(limit is not None for limit in limits_given)
        outer_steps = UNLIMITED if limited else OUTER_STEPS
    whole = isinstance(outer_steps, (int, np.integer))
    if not whole or isinstance(outer_steps, bool) or outer_steps < 0:
        raise ValueError(
            "`outer_steps` must be an integer of at least 0. Received: "
            f"{outer_steps!r}."
        )
    most = UNLIMITED if limits.outer_steps is None else limits.outer_steps
    return int(min(outer_steps, most))


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
    return dataclasses.replace(
        stored,
        origin=Origin(problem, lambda: study.method.run(problem, values).final),
    )
