"""Batches whose shapes alternate: short segments, of which few starts are kept."""

from typing import Any

import keras
import numpy as np
import pytest

import hypergrad as hg
from datasets import RATE, X_VAL, Y_VAL, X, Y, model_of
from hypergrad.unroll import Segment, units

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


def test_segments_that_share_a_start() -> None:
    lengths = (2, 1, 2, 1, 2, 1, 2, 1)
    segments = [Segment(0, n, n) for n in lengths]

    def grouped(capacity: int) -> list[int]:
        groups = units(segments, capacity)
        assert [s for group in groups for s in group] == segments
        return [len(group) for group in groups]

    assert grouped(1) == [1] * 8
    assert grouped(3) == [2, 2, 2, 2]
    assert grouped(5) == [3, 3, 2]
    assert grouped(100) == [8]
    assert len(units([Segment(0, 4, 4)] * 3, 4)) == 3


def test_the_hypergradient_is_that_of_a_run_with_all_states(
    problem: hg.Problem,
) -> None:
    method, tape = run(problem, "sqrt")
    assert sum(len(unit) for unit in tape.units) == 8
    assert len(tape.units) <= 5
    stored_by, stored = run(problem, "all")
    assert tape.loss == stored.loss
    expected = stored_by.sweep(problem, stored).gradient[RATE]
    assert expected != 0
    for _ in range(2):  # a tape may be swept again
        found = method.sweep(problem, tape).gradient[RATE]
        np.testing.assert_allclose(found, expected, 1e-12)


def test_states_that_were_not_kept_are_computed_again(problem: hg.Problem) -> None:
    _, tape = run(problem, "sqrt")
    _, stored = run(problem, "all")
    spans = zip(tape.spans(problem), stored.spans(problem), strict=True)
    for (*ours, segment), (*theirs, same) in spans:
        assert segment.start == same.start
        for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs)):
            np.testing.assert_allclose(a, b, 1e-12)


def test_the_step_that_diverged_is_found(problem: hg.Problem) -> None:
    found = [
        hg.hypergradient(problem, {RATE: 1e35}, hg.Reverse(checkpoints=c)).status
        for c in ("sqrt", "all")
    ]
    assert not found[0].ok and found[0].step > 1
    assert found[0] == found[1]
