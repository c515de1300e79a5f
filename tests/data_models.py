"""Small models whose data, starts and constants are tuned."""

from typing import Any

import keras
import numpy as np
from keras import layers

import hypergrad as hg
from finite_differences import of_problem

rng = np.random.default_rng(3)
X = rng.normal(size=(10, 3))
CLASSES = rng.integers(0, 3, size=10)
Y = np.eye(3)[CLASSES]
X_VAL, Y_VAL = rng.normal(size=(6, 3)), np.eye(3)[rng.integers(0, 3, size=6)]


class Shifted(layers.Layer):
    """A user's layer with a constant, and a counter of its calls."""

    def __init__(self, counts: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.counts = counts

    def build(self, shape: Any) -> None:
        self.shift = self.add_weight(
            shape=(shape[-1],), name="shift", trainable=False, initializer="ones"
        )

    def call(self, x: Any) -> Any:
        if self.counts:
            self.shift.assign(self.shift + 1.0)
        return x + 0.25 * self.shift


def classifier(loss_weights: Any = None, counts: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    normalization = layers.Normalization()
    normalization.adapt(X)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            normalization,
            layers.Dense(3, activation="tanh", kernel_regularizer="l2"),
            Shifted(counts),
            layers.BatchNormalization(),
            layers.Dense(3),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.2, momentum=0.5),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        loss_weights=loss_weights,
        jit_compile=False,
    )
    return model


def problem_of(
    hyperparameters: Any, model: Any = None, x: Any = X, y: Any = Y, **options: Any
) -> hg.Problem:
    given = {"validation_data": (X_VAL, Y_VAL), "steps": 4, "batch_size": 4}
    return hg.Problem.from_model(
        model or classifier(), x, y, hyperparameters=hyperparameters, **given | options
    )


def loss_of(problem: hg.Problem) -> Any:
    method = hg.Reverse()
    return lambda values: method.run(problem, problem.values(values)).loss


def assert_exact(
    problem: hg.Problem, values: Any = None, record: Any = None, limit: float = 1e-8
) -> dict:
    """Every entry of the hypergradient against central differences."""
    values = problem.values(values)
    gradient = hg.hypergradient(problem, values).gradient
    worst = 0.0
    for name, differences in of_problem(loss_of(problem), values).items():
        if values[name].ndim == 0:
            expected = np.asarray(differences.value)
        else:
            expected = np.reshape(
                [d.value for d in differences.flat], gradient[name].shape
            )
        error = np.max(np.abs(gradient[name] - expected)) / np.max(np.abs(expected))
        assert gradient[name].shape == values[name].shape
        assert error < limit, (name, error)
        worst = max(worst, error)
    if record is not None:
        record("relative_error", worst)
    return gradient


# Several inputs and outputs.


def two_outputs(names: tuple[str, str] = ("kind", "size"), listed: bool = False) -> Any:
    keras.utils.set_random_seed(2)
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    hidden = layers.Dense(3, activation="tanh")(layers.Concatenate()([a, b]))
    kind, size = (layers.Dense(1, name=name)(hidden) for name in names)
    outputs = [kind, size] if listed else {"kind": kind, "size": size}
    model = keras.Model({"a": a, "b": b}, outputs)
    losses = {"kind": keras.losses.Huber(0.5), "size": "mse"}
    model.compile(
        keras.optimizers.SGD(0.2),
        list(losses.values()) if listed else losses,
        loss_weights=[0.5, 2.0] if listed else {"kind": 0.5, "size": 2.0},
        jit_compile=False,
    )
    return model


INPUTS = {"a": X[:, :2], "b": X[:, 2:]}
OUTPUTS = {"kind": X[:, :1] * 2, "size": np.sin(X[:, 1:2])}
VALIDATION = (
    {"a": X_VAL[:, :2], "b": X_VAL[:, 2:]},
    {"kind": X_VAL[:, :1] * 2, "size": np.sin(X_VAL[:, 1:2])},
)


def nested(hyperparameters: Any, **options: Any) -> hg.Problem:
    return problem_of(
        hyperparameters,
        two_outputs(),
        INPUTS,
        OUTPUTS,
        validation_data=VALIDATION,
        **options,
    )
