"""A linear model on a few rows, whose training has a solution."""

import keras
import numpy as np
from keras import layers

import hypergrad as hg

ROWS = 12
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(ROWS, 3))
Y = (X @ [1.0, -2.0, 0.5] + DRAW.normal(size=ROWS) > 0).astype(float)[:, None]
X_VAL = DRAW.normal(size=(6, 3))
Y_VAL = (X_VAL @ [1.0, -2.0, 0.5] > 0).astype(float)[:, None]
L2 = "dense.kernel_regularizer.l2"
WEIGHTS = "data.sample_weight"


def linear_model(optimizer, loss="mse", jit_compile=False, **dense) -> keras.Model:
    """One layer of three weights and a bias, with an L2 penalty on both."""
    penalty = keras.regularizers.L2
    arguments = {"kernel_regularizer": penalty(0.1), "bias_regularizer": penalty(0.2)}
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, **arguments | dense)])
    model.compile(optimizer, loss, jit_compile=jit_compile)
    return model


def linear_problem(model=None, x=X, y=Y, numbers=(L2, WEIGHTS), **arguments):
    """A run of one step that does not move, unless arguments say otherwise."""
    model = linear_model(keras.optimizers.SGD(0.0)) if model is None else model
    floats = {
        L2: hg.Float(0.0, 1.0),
        WEIGHTS: hg.Float(0.0, 2.0, shape=(len(x),)),
    }
    if isinstance(numbers, tuple):
        numbers = {name: floats[name] for name in numbers}
    given = {"steps": 1, "batch_size": len(x), "hyperparameters": numbers}
    return hg.Problem.from_model(
        model, x, y, validation_data=(X_VAL, Y_VAL), **given | arguments
    )
