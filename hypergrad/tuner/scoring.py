"""Training a model of a trial: callbacks, seeds, and the weights that are kept."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hypergrad.samples import seeded
from hypergrad.tuner.errors import FailedTrialError, FatalTypeError, FatalValueError
from hypergrad.tuner.hypermodel import built_at
from hypergrad.tuner.objectives import Objective
from hypergrad.tuner.trial import Trial

WEIGHTS = "checkpoint.weights.h5"
BUILD = "build_config.json"


class SaveBestEpoch(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best objective, over all executions.

    Where epochs do not report the objective, the last epoch's.
    """

    def __init__(self, objective: Objective, path: Path):
        super().__init__()
        self.objective = objective
        self.path = path
        self.best = objective.worst

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.objective.has_value(logs or {}):
            value = self.objective.get_value(logs)
            if not self.objective.better_than(value, self.best):
                return
            self.best = value
        self.model.save_weights(self.path)


class TellTuner(keras.callbacks.Callback):
    """Calls the methods of a tuner that follow epochs and batches."""

    def __init__(self, tuner: Any, trial: Trial):
        super().__init__()
        self.tuner = tuner
        self.trial = trial

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.tuner.on_epoch_begin(self.trial, self.model, epoch, logs=logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.tuner.on_epoch_end(self.trial, self.model, epoch, logs=logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.tuner.on_batch_begin(self.trial, self.model, batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.tuner.on_batch_end(self.trial, self.model, batch, logs)


@contextmanager
def seeded_execution(trial: Trial, execution: int) -> Iterator[None]:
    """The seeds of one execution: weights, batch orders and dropout follow from them.

    Those of Python, NumPy and Keras are as before afterwards; TensorFlow's cannot be.
    """
    sequence = np.random.SeedSequence((trial.seed, execution))
    seed = int(sequence.generate_state(1)[0] >> 1)
    with seeded(seed):
        keras.utils.set_random_seed(seed)
        yield


def checked_model(hypermodel: Any, hp: Any, max_size: int | None) -> Any:
    """The model at the values of ``hp``.

    Raises:
        FatalTypeError: what was built is no model.
        FailedTrialError: it has more than ``max_size`` weights.
    """
    model = built_at(hypermodel, hp)
    if not isinstance(model, keras.Model):
        raise FatalTypeError(
            "`build_model(hp)` must return a compiled keras.Model. Received: "
            f"{model!r}. Is a `return` missing?"
        )
    if max_size and model.built:
        size = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        if size > max_size:
            raise FailedTrialError(
                f"The model has {size:,} weights, more than max_model_size={max_size:,}"
                "."
            )
    return model


def recompile(model: Any, optimizer: Any, loss: Any, metrics: Any) -> None:
    """Compiles anew with what the tuner was given instead, if anything."""
    if not (optimizer or loss or metrics):
        return
    given = dict(model._compile_config.config) if model.compiled else {}
    if optimizer is not None:
        given["optimizer"] = optimizer
        if isinstance(optimizer, keras.optimizers.Optimizer):  # has its own state
            config = keras.optimizers.serialize(optimizer)
            given["optimizer"] = keras.optimizers.deserialize(config)
    if loss is not None:
        given["loss"] = loss
    if metrics is not None:
        given["metrics"] = copy.deepcopy(metrics)
    model.compile(**given)


def copied_callbacks(callbacks: Any) -> list:
    """Callbacks for one execution.

    Raises:
        FatalValueError: they cannot be copied.
    """
    try:
        return copy.deepcopy(list(callbacks or ()))
    except Exception as error:
        raise FatalValueError(
            "`callbacks` are copied for every execution of every trial, expected "
            f"objects that `copy.deepcopy` can copy. Received: {callbacks!r}: {error}."
        ) from error


def keep_build_config(model: Any, folder: Path) -> None:
    """What builds a model of the same classes so that its weights fit."""
    config = model.get_build_config()
    (folder / BUILD).write_text(json.dumps(config, default=list), "utf-8")


def load_weights(model: Any, folder: Path, trial_id: str) -> None:
    """Gives a model the weights that were scored.

    Raises:
        FileNotFoundError: they are not on this machine.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise FileNotFoundError(
            f"The weights of trial {trial_id} are not in {str(folder)!r}: they stay on "
            "the machine that trained them. Give all workers a shared `directory`, or "
            "train the model of `get_best_hyperparameters()` again."
        )
    if not model.built:
        model.build_from_config(json.loads((folder / BUILD).read_text("utf-8")))
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:  # the file has its slots too
        optimizer.build(model.trainable_variables)
    model.load_weights(path)
