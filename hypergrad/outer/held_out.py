"""E and metrics on data that no step has seen."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.bound import bind_values
from hypergrad.data_checks import checked_validation_data
from hypergrad.problem import Problem


def held_out_problem(problem: Problem, test_data: Any) -> Problem:
    """The problem with other validation data; compiled programs are shared.

    Raises:
        ValueError, TypeError: data that do not fit, or a problem without a model.
    """
    if problem.keras is None or problem.validation is None:
        raise ValueError(
            "`test_data` needs the problem of a compiled Keras model. Received: a "
            "Problem of functions. Evaluate `result.values` yourself."
        )
    held: Any = problem.data
    test = checked_validation_data(
        test_data, held["train"], problem.batches, "test_data"
    )
    new = copy.copy(problem)
    arrays = tree.map_structure(backend.convert, test.arrays)
    new.data = dict(held) | {"validation": arrays}
    new.validation = problem.validation.over(test.rows, test.host)
    return new


def held_out_score(
    problem: Problem, values: Mapping[str, np.ndarray], final: Any
) -> dict[str, float]:
    """{"loss": E on the test data, metric: …} at a final state."""
    bound = bind_values(problem, values)
    loss, metrics = unroll.validate(problem, final, bound)
    return {"loss": float(loss)} | metrics
