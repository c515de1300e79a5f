"""From a study to a result."""

from typing import Any

import numpy as np

from hypergrad.outer import decades
from hypergrad.outer.held_out import held_out_score
from hypergrad.outer.history import plain
from hypergrad.outer.study import Scored, Study
from hypergrad.problem import Problem
from hypergrad.result.result import Result, outcome

PINNED = 0.01
"""Closer to an end of its range than this part of it, a value counts as pinned."""


def result_of(study: Study, test: Problem | None) -> Result:
    """The best of a study as a `Result`."""
    assert study.start is not None
    problem = study.problem
    best = study.best or study.start
    status = study.status
    notes = list(study.notes)
    if problem.average > 1:
        notes.append(
            f"E is the mean over {problem.average} samples; the model is the first one."
        )
    if study.best is not None:
        status = type(status)()
    else:
        notes.append("No run ended in finite numbers; the values are the start's.")
    if study.stopped:
        notes.append(f"Stopped: {study.stopped}.")
    notes += _pinned(problem, best)
    rows = _validation_rows(problem)
    if rows is not None and problem.num_numbers > rows:
        notes.append(
            f"{problem.num_numbers} hyperparameters are tuned on {rows} validation "
            "examples: E is too good. Look at a test loss (`test_data=`)."
        )
    tested = None
    if test is not None:
        tested = {
            "start": held_out_score(test, study.start.values, study.final(study.start)),
            "tuned": held_out_score(test, best.values, study.final(best)),
        }
    return outcome(
        problem,
        {name: plain(value) for name, value in best.values.items()},
        lambda: study.final(best),
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
