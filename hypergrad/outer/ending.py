"""From a study to a result."""

import functools
from typing import Any

import numpy as np

from hypergrad.outer import decades
from hypergrad.outer.final_training import FinalTraining, Trained, state_after
from hypergrad.outer.held_out import held_out_score
from hypergrad.outer.history import plain
from hypergrad.outer.study import Scored, Study
from hypergrad.problem import Problem
from hypergrad.result.result import Result, outcome

PINNED = 0.01
"""Closer to an end of its range than this part of it, a value counts as pinned."""


def result_of(
    study: Study, test: Problem | None, ending: FinalTraining | None = None
) -> Result:
    """The best of a study as a `Result`.

    Args:
        study: what was run.
        test: the problem with test data, or None.
        ending: how the best training is gone through once more, if at all.
    """
    assert study.start is not None
    problem = study.problem
    chosen = study.chosen
    best = chosen or study.start
    status = study.status
    notes = list(study.notes)
    if problem.average > 1:
        notes.append(
            f"E is the mean over {problem.average} samples; the model is the first one."
        )
    if chosen is not None:
        status = type(status)()
    else:
        notes.append("No run ended in finite numbers; the values are the start's.")
    if study.best is not None and best.row != study.best.row:
        notes.append(
            "Samples were drawn anew: the values are those that the descent ended at. "
            f"On the first samples alone E was {study.best.loss:.4g} at row "
            f"{study.best.row} of the history."
        )
    if study.stopped:
        notes.append(f"Stopped: {study.stopped}.")
    notes += _pinned(problem, best)
    rows = _validation_rows(problem)
    if rows is not None and problem.num_numbers > rows:
        notes.append(
            f"{problem.num_numbers} hyperparameters are tuned on {rows} validation "
            "examples: E is too good. Look at a test loss (`test_data=`)."
        )
    trained = None
    wanted = ending is not None and ending.wanted and not study.interrupted
    if wanted and chosen is not None:
        assert ending is not None
        trained = _gone_through(problem, best, ending, notes)
    final = functools.partial(_final_state, study, best, trained)
    tested = None
    if test is not None:
        tested = {
            "start": held_out_score(test, study.start.values, study.final(study.start)),
            "tuned": held_out_score(test, best.values, final()),
        }
    return outcome(
        problem,
        {name: plain(value) for name, value in best.values.items()},
        final,
        None if trained is None else trained.model,
        learning_curve=None if trained is None else trained.curve,
        model_step=None if trained is None else trained.step,
        loss=best.loss,
        metrics=best.metrics,
        status=status,
        history=study.history.columns,
        start={
            "values": {n: plain(v) for n, v in study.start.values.items()},
            "loss": study.start.loss,
            "metrics": study.start.metrics,
        },
        test=tested,
        runs=study.spent,
        seconds=study.seconds,
        notes=notes,
    )


def _gone_through(
    problem: Problem, best: Scored, ending: FinalTraining, notes: list[str]
) -> Trained:
    trained = ending.run(problem.sample(0), best.values)
    last, step = trained.curve["step"][-1], trained.step
    if last < problem.num_steps:
        notes.append(f"The final training was stopped after {last} steps.")
    if trained.model is not None:
        notes.append("A callback gave the model weights of its own.")
    elif step < problem.num_steps:
        at = trained.curve["val_loss"][trained.curve["step"].index(step)]
        notes.append(
            f"The model is that of step {step} of {problem.num_steps}, where E is "
            f"{at:.4g}."
        )
    return trained


def _final_state(study: Study, best: Scored, trained: Trained | None) -> Any:
    """The state that the model is of."""
    if trained is None or trained.step == study.problem.num_steps:
        return study.final(best)
    return state_after(study.problem.sample(0), best.values, trained.step)


def _validation_rows(problem: Problem) -> int | None:
    """None where it is not known."""
    chunks = () if problem.validation is None else problem.validation.chunks
    sizes = getattr(chunks, "sizes", None)
    if sizes is None and isinstance(chunks, (list, tuple)):
        sizes = [len(chunk) for chunk in chunks if isinstance(chunk, np.ndarray)]
    return sum(sizes) if sizes else None


def _pinned(problem: Problem, best: Scored) -> list[str]:
    notes = []
    for name, float_ in problem.space.items():
        where: Any = decades.fraction(float_, best.values[name])
        if where is None:
            continue
        low, high = float(np.mean(where < PINNED)), float(np.mean(where > 1 - PINNED))
        for part, end in ((low, float_.min_value), (high, float_.max_value)):
            if part:
                count = "" if where.ndim == 0 else f" in {part:.0%} of its entries"
                notes.append(
                    f"{name} ends at its bound {end:g}{count}: a wider range may be "
                    "better."
                )
    return notes
