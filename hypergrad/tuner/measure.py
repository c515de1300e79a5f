"""``val_loss`` by a loss that is not tuned: the measuring stick does not move."""

import copy
from typing import Any

import keras

from hypergrad.tuner.errors import FatalValueError

NAME = "measured_loss"


def measure(model: Any, reference: Any) -> None:
    """Compiles a model with the loss of another one as a metric besides.

    Args:
        model: compiled; its loss is what trains.
        reference: compiled; the same model with the loss that measures.

    Raises:
        FatalValueError: several losses, whose sum no metric of Keras is.
    """
    if isinstance(reference.loss, (dict, list, tuple)):
        raise FatalValueError(
            "Numbers inside of several losses are tuned, and `val_loss` would change "
            "with them. Use a metric as the objective, such as 'val_accuracy', or "
            "compile one loss."
        )
    loss = keras.losses.get(reference.loss)
    weights = reference._compile_config.config.get("loss_weights")
    factor = weights[0] if isinstance(weights, (list, tuple)) else weights
    metric = keras.metrics.MeanMetricWrapper(_values(loss, factor), name=NAME)
    given = dict(model._compile_config.config)
    given["optimizer"] = model.optimizer
    given["metrics"] = [*copy.copy(given.get("metrics") or []), metric]
    model.compile(**given)


class Measured(keras.callbacks.Callback):
    """Puts that metric in the place of ``val_loss``, for all callbacks after this."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs and f"val_{NAME}" in logs:
            logs["val_loss"] = logs.pop(f"val_{NAME}")
            logs.pop(NAME, None)


def _values(loss: Any, factor: Any) -> Any:
    """A function (y, prediction) → the loss of each example."""

    def measured(y_true: Any, y_pred: Any) -> Any:
        values = (
            loss.call(y_true, y_pred) if hasattr(loss, "call") else loss(y_true, y_pred)
        )
        return values if factor is None else factor * values

    return measured
