"""What the functions of a `Problem` hand to each other."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from hypergrad.data import Parts

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
    collected step by step, so that no step pays for the length of the schedule. With
    an ``interpolation`` (see `Schedule`) the values are knots of a curve instead, any
    number up to ``num_steps``. E sees the value of the last step.
    """

    values: Any
    interpolation: str | None = None


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
    chunks: Sequence = ()
    weights: tuple = ()
    metric_state: Any = ()
    metrics: Callable | None = None
    is_row_mean: Callable[[], bool] = lambda: False

    def over(self, rows: int, host: Any = None) -> "Validation":
        """The same objective over that many rows.

        ``host``: where they are not an argument of the compiled steps: `HostRows`, from
        row indices, or `Parts` that the data came in.
        """
        if isinstance(host, Parts):
            weights = tuple(size / rows for size in host.sizes)
            return self._replace(chunks=host, weights=weights)
        number = 1
        if rows > VALIDATION_ROWS and self.is_row_mean():
            number = -(-rows // VALIDATION_ROWS)
        size = -(-rows // number)
        index = np.arange(rows, dtype="int32")
        chunks = [index[start : start + size] for start in range(0, rows, size)]
        sizes = [len(chunk) for chunk in chunks]
        parts: Any = tuple(chunks)
        if host is not None:
            parts = Parts(lambda k: host(chunks[k]), sizes, lambda: host.fingerprint)
        return self._replace(chunks=parts, weights=tuple(n / rows for n in sizes))


def hparam_dtype() -> str:
    """The precision of hyperparameters: ``floatx``, at least float32."""
    return "float64" if keras.config.floatx() == "float64" else "float32"
