"""The models whose hypergradients are timed, on random data of their shape."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"


class Optimizer(NamedTuple):
    """An optimizer, and which of its numbers are tuned."""

    make: Callable[[], keras.optimizers.Optimizer]
    tuned: list[str]


OPTIMIZERS = {
    "adam": Optimizer(
        lambda: keras.optimizers.Adam(1e-3),
        [RATE, "optimizer.beta_1", "optimizer.beta_2"],
    ),
    "sgd": Optimizer(
        lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
        [RATE, "optimizer.momentum", DECAY],
    ),
    "sgd-l2": Optimizer(
        lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
        [RATE, "optimizer.momentum", "dense*.kernel_regularizer.l2"],
    ),
    # Its betas act through a sign, and have no derivative.
    "lion": Optimizer(
        lambda: keras.optimizers.Lion(1e-4, weight_decay=1e-3), [RATE, DECAY]
    ),
    # Penalties alone, for implicit methods.
    "adam-l2": Optimizer(
        lambda: keras.optimizers.Adam(1e-3),
        [f"{name}.kernel_regularizer.l2" for name in ("dense", "dense_1", "dense_2")],
    ),
}


class Case(NamedTuple):
    """A compiled model, its data, and how long it is trained."""

    model: keras.Model
    x: np.ndarray
    y: np.ndarray
    batch_size: int
    num_steps: int


def compiled(
    model: keras.Model, optimizer: str = "adam", **options: int
) -> keras.Model:
    model.compile(
        optimizer=OPTIMIZERS[optimizer].make(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    return model


def _labels(rows: int, classes: int = 10) -> np.ndarray:
    return np.random.RandomState(1).randint(0, classes, rows).astype("int32")


def _inputs(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).rand(*shape).astype("float32")


def mlp(penalty: float | None = None, width: int = 256) -> Case:
    """784-256-256-10, batch 128, 200 steps."""

    def dense(units: int, activation: str | None = None) -> keras.layers.Layer:
        l2 = None if penalty is None else keras.regularizers.L2(penalty)
        return keras.layers.Dense(units, activation, kernel_regularizer=l2)

    body = [dense(width, "relu"), dense(width, "relu"), dense(10)]
    model = keras.Sequential([keras.Input((784,)), *body])
    return Case(compiled(model), _inputs(2560, 784), _labels(2560), 128, 200)


def mlp_on_many() -> Case:
    """The same with 60,000 rows of data."""
    return mlp()._replace(x=_inputs(60000, 784), y=_labels(60000))


def cnn() -> Case:
    """Two convolutions with BatchNormalization on 14 x 14 images, batch 64."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    return Case(compiled(model), _inputs(1280, 14, 14, 1), _labels(1280), 64, 50)


def lstm() -> Case:
    """LSTM of 64 units over 28 rows of 28 pixels, batch 64."""
    model = keras.Sequential(
        [keras.Input((28, 28)), keras.layers.LSTM(64), keras.layers.Dense(10)]
    )
    return Case(compiled(model), _inputs(1280, 28, 28), _labels(1280), 64, 50)


def transformer() -> Case:
    """One block of a million parameters (width 288, 4 heads) on 16 tokens, batch 16."""
    layers = keras.layers
    width = 288
    tokens = keras.Input((16, width))
    attended = layers.MultiHeadAttention(4, width // 4)(tokens, tokens)
    first = layers.LayerNormalization()(layers.Add()([tokens, attended]))
    hidden = layers.Dense(4 * width, activation="gelu")(first)
    second = layers.Add()([first, layers.Dense(width)(hidden)])
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(second))
    model = keras.Model(tokens, layers.Dense(10)(pooled))
    return Case(compiled(model), _inputs(320, 16, width), _labels(320), 16, 30)


MODELS: dict[str, Callable[[], Case]] = {
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lstm,
    "transformer": transformer,
}
