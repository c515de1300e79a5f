"""Models with numbers of a user's own, whose paths and derivatives are tested."""

import keras
import numpy as np
import pytest
from keras import layers, ops, regularizers

from hypergrad import backend
from hypergrad.targets import discover, inject, resolve
from hypergrad.targets.injection import place_of

X = np.random.default_rng(0).normal(size=(5, 4)).round(2)


class Scaled(layers.Layer):
    """A user's layer: arithmetic, a branch, and a call that takes tensors only."""

    def __init__(self, how="product", **kwargs):
        super().__init__(**kwargs)
        self.how = how
        self.alpha = 0.5
        self.count = 3
        self.drop_rate = 0.25
        self.table = np.asarray([0.5, 1.0, 1.5, 2.0])

    def call(self, x):
        if self.how == "branch":
            return x * self.alpha if self.alpha > 0 else x
        if self.how == "undecided":
            return x * self.alpha if self.alpha > 0.5 else x
        if self.how == "table":
            return x * ops.cast(self.table, x.dtype)
        if self.how == "clip":
            return ops.clip(x, -1.0, self.alpha)
        return x * self.alpha


class Ridge(regularizers.Regularizer):
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, x):
        return self.strength * ops.sum(x**4)


class MyModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.temperature = 0.5
        self.hidden = layers.Dense(3, kernel_regularizer="l2")
        self.out = layers.Dense(1)

    def call(self, x):
        return self.out(ops.tanh(self.hidden(x) / self.temperature))


def compiled(*stack, optimizer="adam", loss="mse"):
    model = keras.Sequential([keras.Input((4,)), *stack])
    model.compile(optimizer, loss)
    return model


def forward(model, seed=0):
    """A scalar of the outputs, penalties and moving statistics; mutates nothing."""
    mapping = [
        (
            v,
            v.value + ops.cast(seed, v.dtype)
            if "seed_generator" in v.path
            else v.value,
        )
        for v in model.variables
    ]
    with keras.StatelessScope(mapping, collect_losses=True):
        trained = model(X, training=True)
        penalties = sum(model.losses) if model.losses else 0.0
        tested = model(X, training=False)
    weights = ops.reshape(ops.linspace(0.5, 1.5, int(np.prod(tested.shape))), (5, -1))
    weights = ops.cast(weights, keras.config.floatx())
    shape = ops.shape(weights)
    trained, tested = (ops.cast(t, weights.dtype) for t in (trained, tested))
    return (
        penalties
        + ops.sum(weights * ops.reshape(trained, shape) ** 2)
        + ops.sum(weights * ops.sin(ops.reshape(tested, shape)))
    )


def forward_and_slope(model):
    """`forward`, and its gradient by the inputs: what a step of training is made of.

    A derivative of Keras or of a framework that is right to first order only shows in
    the second term.
    """

    def outputs(x):
        mapping = [(v, v.value) for v in model.variables]
        with keras.StatelessScope(mapping):
            return ops.sum(ops.sin(ops.cast(model(x, training=True), "float64")))

    _, slope = backend.value_and_grad(outputs)(backend.convert(X))
    weights = backend.convert(np.linspace(0.5, 1.5, X.size).reshape(X.shape))
    return forward(model) + ops.sum(weights * slope)


def one(model, path):
    (target,) = resolve(discover(model), path)
    return target


def as_compiled(target, value, run):
    """What Keras itself computes with the number in place."""
    place = place_of(target.owner)
    old = place[target.attribute]
    place[target.attribute] = value
    try:
        return float(backend.to_numpy(backend.jit(run)()))
    finally:
        place[target.attribute] = old


def injected(target, low, high, run):
    """The function of the value, and its value and derivative, both compiled."""

    def loss(value):
        with inject([(target, value, low, high)]):
            return run()

    return backend.jit(loss), backend.jit(backend.value_and_grad(loss))


def assert_right(target, values, low, high, run):
    """Value as Keras computes it; derivative as central differences say."""
    function, derivative = injected(target, low, high, run)
    for value in values:
        point = backend.convert(np.float64(value))
        got, slope = (float(backend.to_numpy(t)) for t in derivative(point))
        assert got == pytest.approx(as_compiled(target, value, run), rel=1e-12)
        differences = []
        for step in (2e-5, 1e-5):
            up = float(function(backend.convert(np.float64(value + step))))
            down = float(function(backend.convert(np.float64(value - step))))
            differences.append((up - down) / (2 * step))
        best = (4 * differences[1] - differences[0]) / 3
        assert slope == pytest.approx(best, rel=1e-6)
        assert slope != 0.0
