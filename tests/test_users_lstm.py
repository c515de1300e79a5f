"""A user's recurrent model with an optimizer and a loss of their own, as they write it.

``epsilon=0`` and ``beta_1=0.0`` are what makes it hard: a unit whose gradient is
exactly zero turns Adam's update into 0 / 0, and the start sits on a hard bound.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg
from test_layers import check

rng = np.random.default_rng(3)
X = rng.normal(size=(24, 28, 28))
Y = (X.mean(axis=(1, 2))[:, None] > 0).astype("float64")
BETAS = ["optimizer.learning_rate", "optimizer.beta_1", "optimizer.beta_2"]


def own_loss(y: Any, y_pred: Any) -> Any:
    return ops.mean(ops.square(y - y_pred) * (1.0 + y), axis=-1)


def make() -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(1e-3, beta_1=0.0, beta_2=0.1, epsilon=0)


class MyAdam(keras.optimizers.Adam):
    pass


def make_subclass() -> keras.optimizers.Optimizer:
    return MyAdam(1e-3, beta_1=0.0, beta_2=0.1, epsilon=0)


def model_of(optimizer: keras.optimizers.Optimizer, dead: bool = False) -> keras.Model:
    model = keras.Sequential(
        [
            layers.Input((28, 28)),
            layers.LSTM(10, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=optimizer, loss=own_loss, metrics=["accuracy"])
    if dead:
        # The candidate of one unit stays below zero, so that relu passes nothing.
        bias = np.array(model.layers[0].cell.bias.value)
        bias[20] = -1e3
        model.layers[0].cell.bias.assign(bias)
    return model


def arguments() -> dict[str, Any]:
    return {"validation_data": (X[16:], Y[16:]), "batch_size": 8, "steps": 3}


@pytest.mark.parametrize("factory", [make, make_subclass])
def test_betas_of_an_lstm(factory: Callable, record_property: Any) -> None:
    around = {
        "optimizer.learning_rate": hg.Float(1e-4, 1e-2, default=1e-3),
        "optimizer.beta_1": hg.Float(0.0, 0.9, default=0.1),
        "optimizer.beta_2": hg.Float(0.01, 0.9, default=0.1),
    }
    model = model_of(factory())
    problem = hg.Problem.from_model(
        model, X[:16], Y[:16], **arguments(), hyperparameters=around
    )
    values = {"optimizer.learning_rate": 1e-3, "optimizer.beta_1": 0.1}
    values["optimizer.beta_2"] = 0.1
    record_property("relative_error", check(problem, values))
    h = hg.hypergradient(problem, {**values, "optimizer.beta_1": 0.0})
    assert h.status.ok and np.isfinite(h.gradient["optimizer.beta_1"])


def test_a_dead_unit_without_epsilon_is_located_and_survived() -> None:
    model = model_of(make(), dead=True)
    problem = hg.Problem.from_model(
        model, X[:16], Y[:16], **arguments(), hyperparameters=BETAS
    )
    h = hg.hypergradient(problem)
    assert not h.status.ok
    assert h.status.step == 0
    assert "lstm" in h.status.variable
    assert all(np.isnan(g).all() for g in h.gradient.values())
    with pytest.raises(ArithmeticError, match="lstm"):
        hg.hypergradient(problem, raise_on_failure=True)
    result = hg.tune(problem, outer_steps=2, verbose=0)
    assert np.isnan(result.history["val_loss"]).all()
    assert "finite" in result.status.reason
