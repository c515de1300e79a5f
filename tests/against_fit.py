"""Trains two equal models, one by `fit` and one by a problem's steps, and compares."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pytest

import hypergrad as hg

TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


def agrees_with_fit(
    build: Callable[[], keras.Model],
    x: Any,
    y: Any = None,
    *,
    validation_data: tuple,
    epochs: int = 2,
    fitted_before: int = 0,
    exempt: tuple[str, ...] = (),
    objective: Callable | None = None,
    hyperparameters: Any = ("optimizer.learning_rate",),
    **options: Any,
) -> hg.Problem:
    """Weights, statistics, seeds, slots, metrics and `val_loss` equal those of `fit`.

    Args:
        build: function () → compiled model; called twice.
        fitted_before: epochs for which both models are trained by `fit` beforehand.
        exempt: parts of paths of weights that may differ.
        options: what `from_model` and `fit` both take.
    """
    ours, theirs = build(), build()
    if ours.built:
        for a, b in zip(ours.variables, theirs.variables, strict=True):
            b.assign(a)
    options = {"shuffle": False, "batch_size": 50, **options}
    for model in (ours, theirs) if fitted_before else ():
        model.fit(x, y, epochs=fitted_before, verbose=0, **options)
    problem = hg.Problem.from_model(
        ours,
        x,
        y,
        validation_data=validation_data,
        epochs=epochs,
        objective=objective,
        hyperparameters=hyperparameters,
        **options,
    )
    if not theirs.built or not theirs.variables:
        _first_step_is_free(theirs, ours, x)
    tape = hg.Reverse().run(problem, problem.values())
    theirs.fit(x, y, epochs=epochs, verbose=0, **options)

    tolerance = TOLERANCE[keras.config.floatx()]
    _close(tape.final.weights, theirs.trainable_variables, tolerance, exempt)
    _close(tape.final.model_state, theirs.non_trainable_variables, tolerance)
    _same_slots(problem, tape, theirs, tolerance)
    _same_metrics(tape.metrics, theirs, validation_data, tolerance)
    return problem


def _first_step_is_free(theirs: keras.Model, ours: keras.Model, x: Any) -> None:
    """Builds an unbuilt model, with the values of the one that `from_model` built."""
    theirs(keras.tree.map_structure(lambda a: a[:2], x))
    for a, b in zip(ours.variables, theirs.variables, strict=True):
        b.assign(a)


def _close(
    values: list, variables: list, tolerance: float, exempt: tuple[str, ...] = ()
) -> None:
    for value, variable in zip(values, variables, strict=True):
        if any(part in variable.path for part in exempt):
            continue
        value, expected = np.asarray(value), np.asarray(variable.value)
        assert value.dtype == expected.dtype, variable.path
        if np.issubdtype(expected.dtype, np.integer):
            np.testing.assert_array_equal(value, expected, err_msg=variable.path)
        np.testing.assert_allclose(
            value, expected, rtol=tolerance, atol=tolerance, err_msg=variable.path
        )


def _same_slots(
    problem: hg.Problem, tape: Any, theirs: keras.Model, tolerance: float
) -> None:
    expected = problem.keras.rule.read(theirs.optimizer)
    for (path, slot), held in zip(
        keras.tree.flatten_with_path(tape.final.optimizer_state),
        keras.tree.flatten(expected),
        strict=True,
    ):
        np.testing.assert_allclose(
            slot, held, rtol=tolerance, atol=tolerance, err_msg=str(path)
        )


def _same_metrics(
    metrics: Mapping[str, Any],
    theirs: keras.Model,
    validation_data: tuple,
    tolerance: float,
) -> None:
    x, y, sample_weight = (*validation_data, None)[:3]
    expected = theirs.evaluate(
        x, y, sample_weight=sample_weight, verbose=0, return_dict=True
    )
    expected["keras_val_loss"] = expected.pop("loss")
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert isinstance(metrics[name], float)
        assert metrics[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name
