"""Twenty steps equal `fit(shuffle=False)`, on both backends, in both precisions."""

import keras
import numpy as np
import pytest
from keras import layers

from against_fit import agrees_with_fit
from hypergrad import backend

rng = np.random.default_rng(0)
X = rng.normal(size=(100, 5)).astype("float32")
Y = np.sin(X.sum(axis=1, keepdims=True))
VALIDATION = (X[:30] + np.float32(0.5), Y[:30])


def noisy_model(jit_compile: bool = False) -> keras.Model:
    """BatchNormalization, Dropout and a penalty.

    The betas are numbers that float32 holds exactly: Keras on TensorFlow rounds Python
    floats through it. The bias of ``front`` has no effect and a gradient of rounding
    errors; the large epsilon keeps Adam from making full steps of them.
    """
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="tanh", kernel_regularizer="l2", name="first"),
            layers.Dense(6, name="front"),
            layers.BatchNormalization(momentum=0.75),
            layers.Activation("tanh"),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    optimizer = keras.optimizers.Adam(
        2.0**-6, beta_1=0.875, beta_2=0.984375, epsilon=2.0**-10
    )
    model.compile(optimizer, loss="mse", metrics=["mae"], jit_compile=jit_compile)
    return model


def twenty_steps(jit_compile: bool = False) -> None:
    problem = agrees_with_fit(
        lambda: noisy_model(jit_compile),
        X,
        Y,
        validation_data=VALIDATION,
        epochs=10,
        batch_size=64,
        exempt=("front/bias",),
    )
    assert problem.num_steps == 20
    assert [len(problem.batch(t)) for t in (0, 1, 2)] == [64, 36, 64]


def test_float64_with_a_partial_batch() -> None:
    twenty_steps()


@pytest.mark.float32
def test_float32_with_a_partial_batch() -> None:
    twenty_steps()


@pytest.mark.slow
@pytest.mark.skipif(backend.name != "tensorflow", reason="JAX always uses XLA")
def test_under_xla_the_same_random_numbers_are_drawn() -> None:
    twenty_steps(jit_compile=True)


def test_a_trained_model_continues_from_its_slots_and_its_schedule() -> None:
    def build() -> keras.Model:
        model = keras.Sequential(
            [keras.Input((5,)), layers.Dense(3, activation="tanh"), layers.Dense(1)]
        )
        schedule = keras.optimizers.schedules.ExponentialDecay(0.125, 2, 0.5)
        optimizer = keras.optimizers.SGD(schedule, momentum=0.875, nesterov=True)
        model.compile(optimizer, loss="mse", jit_compile=False)
        return model

    problem = agrees_with_fit(
        build,
        X,
        Y,
        validation_data=VALIDATION,
        fitted_before=1,
        hyperparameters=["optimizer.momentum"],
    )
    assert int(problem.data["initial"].optimizer_state["iterations"]) == 2
