"""Three models that are searched and descended, and what ``fit`` gets.

Searched: units (filters), activation, dropout. Descended: learning rate, both betas of
Adam, one L2 of all kernels, label smoothing. The functions are written for KerasTuner
and know nothing of hypergrad. What is compared is the cross entropy of the validation
data without smoothing and penalties.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, regularizers

from benchmark_utils import data

OBJECTIVE = "val_categorical_crossentropy"
EPOCHS, BATCH = 6, 64


def mlp(hp: Any) -> keras.Model:
    penalty = regularizers.L2(hp.Float("l2", 1e-7, 1e-1, sampling="log"))
    inner = [
        layers.Flatten(),
        layers.Dense(
            hp.Int("units", 16, 128, step=16),
            activation=hp.Choice("activation", ["relu", "tanh", "elu"]),
            kernel_regularizer=penalty,
        ),
        layers.Dropout(hp.Float("dropout", 0.0, 0.5)),
        layers.Dense(10, kernel_regularizer=penalty),
    ]
    return compiled(hp, keras.Sequential([keras.Input((28, 28)), *inner]))


def cnn(hp: Any) -> keras.Model:
    penalty = regularizers.L2(hp.Float("l2", 1e-7, 1e-1, sampling="log"))
    activation = hp.Choice("activation", ["relu", "tanh", "elu"])
    inner: list[Any] = [layers.Reshape((28, 28, 1))]
    for i in (1, 2):
        inner.append(
            layers.Conv2D(
                hp.Int(f"filters_{i}", 4, 16, step=4),
                3,
                strides=2,
                activation=activation,
                kernel_regularizer=penalty,
            )
        )
    inner += [
        layers.Flatten(),
        layers.Dropout(hp.Float("dropout", 0.0, 0.5)),
        layers.Dense(10, kernel_regularizer=penalty),
    ]
    return compiled(hp, keras.Sequential([keras.Input((28, 28)), *inner]))


def compiled(hp: Any, model: keras.Model) -> keras.Model:
    model.compile(
        optimizer=keras.optimizers.Adam(
            hp.Float("learning_rate", 1e-5, 1.0, sampling="log"),
            beta_1=1.0 - hp.Float("one_less_beta_1", 1e-3, 1.0, sampling="log"),
            beta_2=1.0 - hp.Float("one_less_beta_2", 1e-4, 1.0, sampling="log"),
        ),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=hp.Float("smoothing", 0.0, 0.3)
        ),
        metrics=[
            keras.metrics.CategoricalCrossentropy(from_logits=True),
            "accuracy",
        ],
    )
    return model


class Searched(NamedTuple):
    """A model and its data; ``fit``: the arguments of ``search``; ``test``: (x, y)."""

    build: Callable[[Any], keras.Model]
    fit: dict[str, Any]
    test: tuple[np.ndarray, np.ndarray]


def problem(name: str) -> Searched:
    build, load = {
        "mnist-mlp": (mlp, data.mnist),
        "fashion-mlp": (mlp, data.fashion),
        "fashion-cnn": (cnn, data.fashion),
    }[name]
    split = load()

    def part(of: Any) -> tuple[np.ndarray, np.ndarray]:
        return of[0], keras.utils.to_categorical(of[1], 10).astype("float32")

    x, y = part(split.train)
    fit = {
        "x": x,
        "y": y,
        "validation_data": part(split.validation),
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "verbose": 0,
    }
    return Searched(build, fit, part(split.test))


NAMES = ("mnist-mlp", "fashion-mlp", "fashion-cnn")
