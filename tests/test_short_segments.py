"""Batches whose shapes alternate: short segments, of which few starts are kept."""

from typing import Any

import keras
import numpy as np
import pytest

import hypergrad as hg
from datasets import RATE, X_VAL, Y_VAL, X, Y, model_of
from hypergrad.unroll import Segment, kept_starts, spans

STEPS = 12


@pytest.fixture(scope="module")
def problem() -> hg.Problem:
    """Epochs of 8, 8 and 4 rows."""
    keras.utils.set_random_seed(0)
    return hg.Problem.from_model(
        model_of(),
        X,
        Y,
        validation_data=(X_VAL, Y_VAL),
        steps=STEPS,
        batch_size=8,
        hyperparameters={RATE: hg.Float(1e-4, 1e40)},
    )


def run(problem: hg.Problem, checkpoints: str, rate: float = 0.0625) -> Any:
    method = hg.Reverse(checkpoints=checkpoints)
    return method, method.run(problem, problem.values({RATE: rate}))


def test_starts_that_are_kept() -> None:
    lengths = (2, 1, 2, 1, 2, 1, 2, 1)
    segments = [Segment(0, n, n) for n in lengths]
    assert kept_starts(segments, 1) == set(range(8))
    assert kept_starts(segments, 3) == {0, 2, 4, 6}
    assert kept_starts(segments, 5) == {0, 3, 6}
    assert kept_starts(segments, 100) == {0}
    assert kept_starts([Segment(0, 4, 4)] * 3, 4) == {0, 1, 2}


def test_the_hypergradient_is_that_of_a_run_with_all_states(
    problem: hg.Problem,
) -> None:
    method, tape = run(problem, "sqrt")
    assert len(tape.segments) == 8
    kept = [start is not None for start in tape.starts]
    assert kept[0] and sum(kept) <= 5
    stored_by, stored = run(problem, "all")
    assert tape.loss == stored.loss
    expected = stored_by.sweep(problem, stored)[RATE]
    assert expected != 0
    for _ in range(2):  # a tape may be swept again
        np.testing.assert_allclose(method.sweep(problem, tape)[RATE], expected, 1e-12)


def test_states_that_were_not_kept_are_computed_again(problem: hg.Problem) -> None:
    _, tape = run(problem, "sqrt")
    _, stored = run(problem, "all")
    ends = [*stored.starts[1:], stored.final]
    for (start, end, _), old, new in zip(spans(problem, tape), stored.starts, ends):
        for ours, theirs in zip(
            keras.tree.flatten((start, end)), keras.tree.flatten((old, new))
        ):
            np.testing.assert_allclose(ours, theirs, 1e-12)


def test_the_step_that_diverged_is_found(problem: hg.Problem) -> None:
    found = [
        hg.hypergradient(problem, {RATE: 1e35}, hg.Reverse(checkpoints=c)).status
        for c in ("sqrt", "all")
    ]
    assert not found[0].ok and found[0].step > 1
    assert found[0] == found[1]
