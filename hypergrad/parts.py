"""What the functions of a `Problem` hand to each other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

VALIDATION_ROWS = 1024
"""Rows of validation data in one program, where E is a mean over rows."""


class TrainState(NamedTuple):
    """What one training step carries of a Keras model.

    ``weights``: trainable variables; ``model_state``: the others (BatchNormalization
    statistics, dropout seeds); ``optimizer_state``: slots and step count. All three in
    the model's own order.
    """

    weights: Any
    model_state: Any
    optimizer_state: Any


class PerStep(NamedTuple):
    """Marks a number that a bind returns as one value for each step.

    ``values``: array (num_steps, …). Step t sees ``values[t]``; its hypergradient is
    collected step by step, so that no step pays for the length of the schedule.
    """

    values: Any


class PerExample(NamedTuple):
    """Marks a number that a bind returns as one value for each training example.

    ``values``: array (num_examples, …). A step sees the rows of its own batch, which
    must be an array of row indices.
    """

    values: Any


class Bound(NamedTuple):
    """What a bind returned, sorted by how a step reaches it; three dicts of arrays."""

    shared: dict
    per_step: dict
    per_example: dict


class Validation(NamedTuple):
    """The outer objective over parts of the validation data.

    E = Σ_k weight_k · loss(state, hparams, chunk_k, data)[0]. ``loss`` returns
    (scalar, metric_state); ``metrics(state, …)`` is None or a function that turns the
    accumulated metric states into a dict of floats. ``is_row_mean()`` says whether E of
    many rows is known to be the mean of E of its parts; all rows are one chunk
    otherwise.
    """

    loss: Callable
    chunks: tuple = ()
    weights: tuple = ()
    metric_state: Any = ()
    metrics: Callable | None = None
    is_row_mean: Callable[[], bool] = lambda: False

    def over(self, rows: int) -> "Validation":
        """The same objective over that many rows."""
        number = 1
        if rows > VALIDATION_ROWS and self.is_row_mean():
            number = -(-rows // VALIDATION_ROWS)
        size = -(-rows // number)
        index = np.arange(rows, dtype="int32")
        chunks = [index[start : start + size] for start in range(0, rows, size)]
        weights = tuple(len(chunk) / rows for chunk in chunks)
        return self._replace(chunks=tuple(chunks), weights=weights)


def hparam_dtype() -> str:
    """The precision of hyperparameters: ``floatx``, at least float32."""
    return "float64" if keras.config.floatx() == "float64" else "float32"
