"""Every number of Keras' classes is decided, and the decisions are right.

Two things decide: a derivative that central differences confirm (here for losses, in
``test_targets.py`` for layers and regularizers), and a loss that does not jump.
"""

import inspect
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import constraints, layers, losses, ops, regularizers

from hypergrad import backend
from hypergrad.targets import discover, inject, verdicts
from hypergrad.targets.in_layers import layer_targets
from hypergrad.targets.probing import complaint
from hypergrad.targets.values import is_integer, real_list, real_value
from hypergrad.targets.verdicts import TABLE
from target_models import X, assert_right, compiled, forward, injected, one

# Losses.

Y = np.asarray([[0.0], [1.0], [1.0], [0.0], [1.0]])
CLASSES = np.asarray([0, 2, 1, 1, 2])
ONE_HOT = np.eye(3)[CLASSES]
LOGITS = np.linspace(-2.0, 2.0, 5)[:, None]
SCORES = np.sin(np.arange(15.0)).reshape(5, 3)
PROBABLE = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
POINTS = SCORES / np.linalg.norm(SCORES, axis=1, keepdims=True)

# name: (loss, labels, predictions, attribute, values that float32 holds)
CASES = {
    "Huber": (losses.Huber(0.5), Y, LOGITS, "delta", (0.25, 0.5)),
    "BinaryCrossentropy": (
        losses.BinaryCrossentropy(True),
        Y,
        LOGITS,
        "label_smoothing",
        (0.25, 0.5),
    ),
    "BinaryCrossentropy of probabilities": (
        losses.BinaryCrossentropy(),
        Y,
        PROBABLE[:, :1],
        "label_smoothing",
        (0.25, 0.5),
    ),
    **{
        f"BinaryFocalCrossentropy.{attribute}": (
            losses.BinaryFocalCrossentropy(True, from_logits=True),
            Y,
            LOGITS,
            attribute,
            values,
        )
        for attribute, values in {
            "alpha": (0.25, 0.5),
            "gamma": (1.5, 2.0),
            "label_smoothing": (0.25, 0.5),
        }.items()
    },
    "CategoricalCrossentropy": (
        losses.CategoricalCrossentropy(True),
        ONE_HOT,
        SCORES,
        "label_smoothing",
        (0.25, 0.5),
    ),
    "CategoricalCrossentropy of probabilities": (
        losses.CategoricalCrossentropy(),
        ONE_HOT,
        PROBABLE,
        "label_smoothing",
        (0.25, 0.5),
    ),
    **{
        f"CategoricalFocalCrossentropy.{attribute}": (
            losses.CategoricalFocalCrossentropy(from_logits=True),
            ONE_HOT,
            SCORES,
            attribute,
            values,
        )
        for attribute, values in {
            "alpha": (0.25, 0.5),
            "gamma": (1.5, 2.0),
            "label_smoothing": (0.25, 0.5),
        }.items()
    },
    "CategoricalGeneralizedCrossEntropy": (
        losses.CategoricalGeneralizedCrossEntropy(),
        CLASSES,
        PROBABLE,
        "q",
        (0.25, 0.5),
    ),
    "Tversky.alpha": (losses.Tversky(), Y, PROBABLE[:, :1], "alpha", (0.25, 0.5)),
    "Tversky.beta": (losses.Tversky(), Y, PROBABLE[:, :1], "beta", (0.25, 0.5)),
}


def value_and_slope(loss, labels, predictions):
    """The loss and its gradient by the predictions, in one number."""
    value, slope = backend.value_and_grad(lambda p: loss(labels, p))(
        backend.convert(predictions)
    )
    weights = np.linspace(0.5, 1.5, predictions.size).reshape(predictions.shape)
    return value + ops.sum(backend.convert(weights) * slope)


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_losses(name):
    loss, labels, predictions, attribute, values = CASES[name]
    model = compiled(layers.Dense(1), loss=loss)
    target = one(model, f"loss.{attribute}")
    assert target.kind == "loss"
    run = lambda: value_and_slope(loss, labels, predictions)  # noqa: E731
    assert_right(target, values, 0.0, 5.0, run)


def test_the_losses_of_the_table_are_covered():
    covered = {(type(loss), attribute) for loss, _, _, attribute, _ in CASES.values()}
    assert covered == {
        key
        for key, how in TABLE.items()
        if issubclass(key[0], losses.Loss) and how.reason is None
    }


def test_the_circle_loss_is_refused_for_its_second_derivative():
    loss = losses.Circle()
    (target,) = (
        t
        for t in discover(compiled(layers.Dense(3), loss=loss))
        if t.path == "loss.margin"
    )
    assert "second derivative" in target.reason
    _, slope = injected(
        replace(target, reason=None),
        0.0,
        1.0,
        lambda: value_and_slope(loss, CLASSES, POINTS),
    )
    assert np.isnan(float(slope(backend.convert(0.25))[1]))


def test_a_list_of_weights_of_a_loss_is_an_array():
    loss = losses.CategoricalFocalCrossentropy([0.25, 0.5, 1.0], from_logits=True)
    target = one(compiled(layers.Dense(3), loss=loss), "loss.alpha")
    np.testing.assert_array_equal(target.value, [0.25, 0.5, 1.0])


class Pinball(losses.Loss):
    """A user's loss with numbers of its own."""

    def __init__(self):
        super().__init__()
        self.quantile = 0.25

    def call(self, y_true, y_pred):
        error = y_true - y_pred
        return ops.maximum(self.quantile * error, (self.quantile - 1.0) * error)


def test_a_users_loss_has_targets():
    loss = Pinball()
    target = one(compiled(layers.Dense(1), loss=loss), "loss.quantile")
    assert target.form == "unknown"
    run = lambda: value_and_slope(loss, Y, LOGITS)  # noqa: E731
    assert_right(target, (0.25, 0.5), 0.0, 1.0, run)


# All classes of Keras.

# What a constructor needs, by the name of its argument.
NEEDED = {
    "activation": "relu",
    "axes": 1,
    "bin_boundaries": [0.0, 1.0],
    "cell": lambda: layers.LSTMCell(2),
    "cells": lambda: [layers.LSTMCell(2)],
    "cropping": 1,
    "dims": (1,),
    "equation": "ab,bc->ac",
    "factor": 0.25,
    "filters": 2,
    "function": lambda: lambda x: x,
    "head_dim": 2,
    "height": 2,
    "height_factor": 0.25,
    "input_dim": 3,
    "kernel_size": 2,
    "key_dim": 2,
    "layer": lambda: layers.LSTM(2, return_sequences=True),
    "layers": lambda: [layers.Dense(2)],
    "max_number": 2,
    "n": 2,
    "num_bins": 4,
    "num_heads": 2,
    "num_key_value_heads": 2,
    "num_query_heads": 2,
    "num_tokens": 4,
    "output_dim": 2,
    "output_shape": (2,),
    "output_size": 2,
    "padding": 1,
    "pool_size": 2,
    "rate": 0.25,
    "scale": 0.5,
    "shape": (4,),
    "size": 2,
    "stddev": 0.25,
    "target_shape": (4,),
    "units": 2,
    "width": 2,
    "width_factor": 0.25,
}
SPECIAL = {
    layers.CategoryEncoding: {"num_tokens": 4},
    layers.Discretization: {"bin_boundaries": [0.0, 1.0]},
    layers.InputLayer: {"shape": (4,)},
    layers.RandomPosterization: {"factor": 4},
}
# They wrap functions of other frameworks, and have no numbers of their own.
FOREIGN = {"FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"}


def classes(module, base):
    for name, cls in sorted(vars(module).items()):
        if inspect.isclass(cls) and issubclass(cls, base) and cls is not base:
            if name not in FOREIGN and name == cls.__name__:
                yield cls


def example(cls):
    """An instance of a class, made from the names of its arguments."""
    if cls in SPECIAL:
        return cls(**SPECIAL[cls])
    given = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        wanted = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if wanted:
            value = NEEDED[name]
            given[name] = value() if callable(value) else value
    return cls(**given)


def numbers(owner):
    """Public names of floats, arrays of floats and lists of them."""
    held = vars(owner).get("_fn_kwargs") or vars(owner)
    for name, value in held.items():
        number = real_value(value) is not None
        number |= real_list(value) is not None and not is_integer(value)
        if number and not name.startswith("_"):
            yield name


ALL = [
    *classes(layers, layers.Layer),
    *classes(losses, losses.Loss),
    *classes(regularizers, regularizers.Regularizer),
]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_number_of_a_class_of_keras_is_decided(cls):
    owner = example(cls)
    undecided = [
        name
        for name in numbers(owner)
        if verdicts.verdict(owner, name).reason == verdicts.UNVERIFIED
    ]
    assert undecided == [], "decide them in hypergrad/targets/verdicts.py"


def test_constraints_are_refused_as_parts_of_the_update():
    for cls in classes(constraints, constraints.Constraint):
        model = compiled(layers.Dense(2, kernel_constraint=cls()))
        found = [t for t in layer_targets(model) if t.kind == "constraint"]
        assert all("inside the optimizer's update" in t.reason for t in found)


# Refused: the loss jumps, whatever a small step says.

JUMPING = {
    "Dropout": (lambda: [layers.Dropout(0.5, seed=1)], "dropout.rate"),
    "AlphaDropout": (
        lambda: [layers.AlphaDropout(0.5, seed=1)],
        "alpha_dropout.rate",
    ),
    "SpatialDropout1D": (
        lambda: [layers.Reshape((1, 4)), layers.SpatialDropout1D(0.5, seed=1)],
        "spatial_dropout1d.rate",
    ),
    "ReLU.threshold": (lambda: [layers.ReLU(threshold=0.5)], "re_lu.threshold"),
    "Masking": (
        lambda: [
            layers.Rescaling(0.0, offset=0.5),
            layers.Reshape((2, 2)),
            layers.Masking(0.5),
        ],
        "masking.mask_value",
    ),
}


@pytest.mark.parametrize("name", JUMPING)
def test_what_is_refused_jumps(name):
    build, path = JUMPING[name]
    model = compiled(*build())
    (target,) = (t for t in discover(model) if t.path == path)
    assert target.reason is not None
    if keras.backend.backend() == "tensorflow" and "Dropout" in name:
        return  # TensorFlow's own op takes no tensor there: nothing to look at
    target = replace(target, reason=None, form="traced")

    def loss(value, seed):
        with inject([(target, value, 0.0, 1.0)]):
            return forward(model, seed)

    derivative = backend.jit(backend.value_and_grad(loss))

    def look(value, seed):
        return backend.to_numpy(derivative(backend.convert(value), np.int32(seed)))

    assert complaint(look, target.value, 0.0, 1.0) is not None


def test_what_is_accepted_does_not_jump():
    model = compiled(layers.ReLU(max_value=0.5))
    target = one(model, "re_lu.max_value")
    _, derivative = injected(target, 0.0, 1.0, lambda: forward(model))
    assert X.size > 10  # enough inputs for kinks between the values
    look = lambda v, seed: backend.to_numpy(derivative(backend.convert(v)))  # noqa: E731
    assert complaint(look, 0.5, 0.0, 1.0) is None
