"""Numbers of a user's own layer: tried when a problem is made."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4))
Y = np.sin(X.sum(axis=1, keepdims=True))

DOES = {
    "drops and scales": lambda x, v, u: x * ops.cast(u > v, x.dtype) / (1.0 - v),
    "drops": lambda x, v, u: x * ops.cast(u > v, x.dtype),
    "rounds": lambda x, v, u: x * ops.round(10.0 * v * ops.ones_like(x)),
    "compares": lambda x, v, u: ops.where(x > v, x, 0.0 * x),
    "clips": lambda x, v, u: ops.minimum(x, v),
    "shrinks": lambda x, v, u: ops.sign(x) * ops.relu(ops.abs(x) - v),
    "divides": lambda x, v, u: ops.tanh(x / v),
    "adds noise": lambda x, v, u: x + v * (u - 0.5),
    "relaxes a draw": lambda x, v, u: ops.sigmoid((x + ops.log(u)) / v),
    "hardly matters": lambda x, v, u: x + 1e-7 * v,
}


class Own(layers.Layer):
    def __init__(self, does, **kwargs):
        super().__init__(**kwargs)
        self.does = does
        self.value = 0.3
        self.seed_generator = keras.random.SeedGenerator(3)

    def call(self, x):
        u = keras.random.uniform(ops.shape(x), dtype=x.dtype, seed=self.seed_generator)
        return DOES[self.does](x, self.value, u)


def problem(does, float_):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            Own(does, name="own"),
            layers.Dense(8, activation="relu"),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse", jit_compile=False)
    return hg.Problem.from_model(
        model,
        X,
        Y,
        validation_data=(X, Y),
        steps=2,
        batch_size=8,
        hyperparameters={"own.value": float_},
    )


RANGES = [
    hg.Float(0.0, 1.0),
    hg.Float(1e-4, 10.0, sampling="log"),
    hg.Float(),
]


@pytest.mark.parametrize("float_", RANGES, ids=["linear", "log", "open"])
@pytest.mark.parametrize("does", ["drops", "rounds", "compares"])
def test_a_derivative_of_zero_that_hides_movement_is_refused(does, float_):
    with pytest.raises(ValueError, match="derivative of exactly 0, while the loss mo"):
        problem(does, float_)


@pytest.mark.parametrize("float_", RANGES, ids=["linear", "log", "open"])
def test_a_random_threshold_is_refused_whatever_its_derivative_says(float_):
    with pytest.raises(ValueError, match="a loss that jumps.*belongs to the tuner"):
        problem("drops and scales", float_)


@pytest.mark.parametrize("float_", RANGES[:2], ids=["linear", "log"])
@pytest.mark.parametrize("does", list(DOES)[4:])
def test_kinks_and_smooth_numbers_are_accepted(does, float_):
    assert "own.value" in problem(does, float_).space


@pytest.mark.float32
@pytest.mark.parametrize("does", ["clips", "divides", "adds noise", "hardly matters"])
def test_float32_rounding_is_no_jump(does):
    assert "own.value" in problem(does, RANGES[0]).space
