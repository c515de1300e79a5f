"""Traced values written into the numbers of a compiled model."""

import keras
import numpy as np
import pytest
from keras import layers, losses, ops, regularizers

from hypergrad import backend
from hypergrad.targets import discover, inject, settle
from hypergrad.targets.verdicts import TABLE
from target_models import (
    Ridge,
    Scaled,
    X,
    as_compiled,
    assert_right,
    compiled,
    forward,
    forward_and_slope,
    injected,
    one,
)


def adapted():
    layer = layers.Normalization()
    layer.adapt(X)
    return [layer]


def dense(regularizer):
    return lambda: [layers.Dense(3, kernel_regularizer=regularizer)]


# name: (layers, path, values that float32 holds, low, high)
CASES = {
    "L1": (dense("l1"), "dense.kernel_regularizer.l1", (0.25, 0.5), 0, 1),
    "L2": (dense("l2"), "dense.kernel_regularizer.l2", (0.25, 0.5), 0, 1),
    "L1L2.l1": (
        dense(regularizers.L1L2(0.0, 0.25)),
        "dense.kernel_regularizer.l1",
        (0.25, 0.5),
        0,
        1,
    ),
    "L1L2.l2": (
        dense(regularizers.L1L2(0.25, 0.0)),
        "dense.kernel_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
    "OrthogonalRegularizer": (
        dense(regularizers.OrthogonalRegularizer(0.5)),
        "dense.kernel_regularizer.factor",
        (0.25, 0.5),
        0,
        1,
    ),
    "a user's regularizer": (
        lambda: [layers.Dense(3, bias_initializer="ones", bias_regularizer=Ridge(0.5))],
        "dense.bias_regularizer.strength",
        (0.25, 2.0),
        0,
        4,
    ),
    "activity_regularizer": (
        lambda: [layers.Dense(3, activity_regularizer="l2")],
        "dense.activity_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
    "ActivityRegularization": (
        lambda: [layers.ActivityRegularization(0.5, 0.0)],
        "activity_regularization.activity_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
    "GaussianNoise": (
        lambda: [layers.GaussianNoise(0.5, seed=1)],
        "gaussian_noise.stddev",
        (0.25, 0.75),
        0,
        1,
    ),
    "GaussianDropout": (
        lambda: [layers.GaussianDropout(0.5, seed=1)],
        "gaussian_dropout.rate",
        (0.25, 0.75),
        0,
        1,
    ),
    "LeakyReLU": (
        lambda: [layers.LeakyReLU(0.25)],
        "leaky_re_lu.negative_slope",
        (0.25, 0.5),
        0,
        1,
    ),
    "ELU": (lambda: [layers.ELU()], "elu.alpha", (0.25, 1.0, 1.5), 0, 2),
    "ReLU.negative_slope": (
        lambda: [layers.ReLU(negative_slope=0.25)],
        "re_lu.negative_slope",
        (0.25, 0.5),
        0,
        1,
    ),
    "ReLU.negative_slope beside the others": (
        lambda: [layers.ReLU(1.0, 0.25, 0.375)],
        "re_lu.negative_slope",
        (0.25, 0.5),
        0,
        1,
    ),
    "ReLU.max_value": (
        lambda: [layers.ReLU(max_value=0.5)],
        "re_lu.max_value",
        (0.25, 0.75),
        0,
        1,
    ),
    "BatchNormalization.momentum": (
        lambda: [layers.BatchNormalization()],
        "batch_normalization.momentum",
        (0.25, 0.75),
        0,
        1,
    ),
    "BatchNormalization.epsilon": (
        lambda: [layers.BatchNormalization()],
        "batch_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "LayerNormalization": (
        lambda: [layers.LayerNormalization()],
        "layer_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "GroupNormalization": (
        lambda: [layers.GroupNormalization(2)],
        "group_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "RMSNormalization": (
        lambda: [layers.RMSNormalization()],
        "rms_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "Rescaling.scale": (
        lambda: [layers.Rescaling(0.5)],
        "rescaling.scale",
        (0.25, 2.0),
        None,
        None,
    ),
    "Rescaling.offset": (
        lambda: [layers.Rescaling(2, 0.5)],
        "rescaling.offset",
        (0.0, 2.0),
        None,
        None,
    ),
    "Normalization.mean": (
        lambda: adapted(),
        "normalization.mean",
        (0.25, 2.0),
        None,
        None,
    ),
    "Normalization.variance": (
        lambda: adapted(),
        "normalization.variance",
        (0.25, 2.25),
        0,
        4,
    ),
    "Normalization.variance, inverted": (
        lambda: [layers.Normalization(mean=0.5, variance=0.5, invert=True)],
        "normalization.variance",
        (0.25, 2.25),
        0,
        4,
    ),
    "a user's layer": (lambda: [Scaled()], "scaled.alpha", (0.25, 2.0), None, None),
    "nested model": (
        lambda: [keras.Sequential([layers.Dense(3), Scaled()])],
        "sequential/scaled.alpha",
        (0.25, 2.0),
        0,
        4,
    ),
    "Bidirectional LSTM": (
        lambda: [
            layers.Reshape((2, 2)),
            layers.Bidirectional(
                layers.LSTM(2, recurrent_regularizer=regularizers.L1L2(0.5, 0.5)),
            ),
        ],
        "bidirectional/backward_lstm.recurrent_regularizer.l1",
        (0.25, 0.5),
        0,
        1,
    ),
    "TimeDistributed": (
        lambda: [
            layers.Reshape((2, 2)),
            layers.TimeDistributed(layers.Dense(2, kernel_regularizer="l2")),
        ],
        "time_distributed/dense.kernel_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_derivative(name):
    build, path, values, low, high = CASES[name]
    model = compiled(*build())
    assert_right(one(model, path), values, low, high, lambda: forward_and_slope(model))


def test_the_table_of_verdicts_is_covered():
    covered = set()
    for build, path, *_ in CASES.values():
        target = one(compiled(*build()), path)
        covered.add((type(target.owner), target.attribute))
    wanted = {key for key, how in TABLE.items() if how.reason is None}
    wanted = {key for key in wanted if not issubclass(key[0], keras.losses.Loss)}
    assert wanted <= covered


def test_the_derivative_is_right_at_a_hard_bound():
    model = compiled(*dense(regularizers.L1L2(0.0, 0.0))())
    target = one(model, "dense.kernel_regularizer.l2")
    _, derivative = injected(target, 0.0, 1.0, lambda: forward(model))
    value, slope = derivative(backend.convert(0.0))
    assert float(value) == pytest.approx(
        as_compiled(target, 0.0, lambda: forward(model))
    )
    kernel = backend.to_numpy(model.layers[0].kernel.value)
    assert float(slope) == pytest.approx((kernel**2).sum())


def test_an_array_is_a_target():
    model = compiled(Scaled("table"))
    target = one(model, "scaled.table")
    np.testing.assert_array_equal(target.value, [0.5, 1.0, 1.5, 2.0])
    function, derivative = injected(target, 0.0, 4.0, lambda: forward(model))
    point = np.asarray([0.25, 0.5, 1.0, 2.0])
    _, slope = derivative(backend.convert(point))
    for i, step in enumerate(1e-5 * np.eye(4)):
        up, down = (
            float(function(backend.convert(p))) for p in (point + step, point - step)
        )
        assert float(slope[i]) == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_a_list_of_keras_is_a_target_as_an_array():
    model = compiled(layers.Rescaling([0.5, 1.0, 1.5, 2.0]))
    np.testing.assert_array_equal(
        one(model, "rescaling.scale").value, [0.5, 1.0, 1.5, 2.0]
    )


def test_losses_of_several_outputs_are_named_by_output():
    inputs = keras.Input((4,))
    a, b = (layers.Dense(1, name=name)(inputs) for name in "ab")
    model = keras.Model(inputs, {"a": a, "b": b})
    model.compile("sgd", {"a": losses.Huber(0.5), "b": "mse"})
    assert one(model, "loss.a.delta").value == 0.5


# Writing and taking back.


def state(model):
    """Everything that an injection could leave behind."""
    owners = [t.owner for t in discover(model)]
    return [
        {
            key: id(value)
            for key, value in (o if isinstance(o, dict) else vars(o)).items()
        }
        for o in owners
    ]


def test_everything_is_taken_back_after_an_exception():
    model = compiled(layers.ReLU(1.0, 0.25), layers.Dense(2, kernel_regularizer="l2"))
    paths = ("re_lu.negative_slope", "re_lu.max_value", "dense.kernel_regularizer.l2")
    targets = [one(model, path) for path in paths]
    before = state(model)
    with pytest.raises(KeyError, match="user code"):
        with inject([(target, ops.ones(()), 0.0, 1.0) for target in targets]):
            assert "call" in vars(model.layers[0])
            raise KeyError("user code")
    assert state(model) == before
    assert "call" not in vars(model.layers[0])


def test_everything_is_taken_back_when_writing_fails():
    model = compiled(
        layers.GaussianNoise(0.5), layers.Dense(2, kernel_regularizer="l2")
    )
    target = one(model, "dense.kernel_regularizer.l2")
    before = state(model)
    with pytest.raises(ValueError, match="to unpack"):
        with inject([(target, 1.0, 0, 1), (target, 1.0)]):
            pass
    assert state(model) == before


def test_numbers_of_the_optimizer_and_refused_ones_are_not_written():
    model = compiled(layers.Dropout(0.5))
    targets = {t.path: t for t in discover(model)}
    with pytest.raises(ValueError, match="Pass it to the rule's `update`"):
        with inject([(targets["optimizer.beta_1"], 0.5, 0, 1)]):
            pass
    with pytest.raises(ValueError, match="`dropout.rate` cannot be written to"):
        with inject([(targets["dropout.rate"], 0.5, 0, 1)]):
            pass


# A user's own code.


@pytest.mark.parametrize(
    "how, form", [("product", "tensor"), ("clip", "tensor"), ("branch", "traced")]
)
def test_a_users_code_settles_the_form(how, form):
    model = compiled(Scaled(how))
    target = one(model, "scaled.alpha")
    assert target.form == "unknown"
    (settled,) = settle([(target, 0.25, 0.0, 1.0)], lambda seed: forward(model))
    assert settled.form == form
    assert_right(settled, (0.25, 0.5), 0.0, 1.0, lambda: forward(model))


def test_code_that_accepts_no_form_is_refused_with_its_own_line():
    model = compiled(Scaled("undecided"))
    target = one(model, "scaled.alpha")
    with pytest.raises(ValueError, match=r"asks whether `scaled.alpha` > 0\.5") as e:
        settle([(target, 0.25, 0.0, 1.0)], lambda seed: forward(model))
    assert "target_models.py" in str(e.value)
    assert model.layers[0].alpha == 0.5


def test_a_subclass_with_its_own_call_has_no_twin():
    class Mine(layers.LeakyReLU):
        def call(self, x):
            return ops.where(x > 0, x, self.negative_slope * x)

    model = compiled(Mine(0.25, name="mine"))
    target = one(model, "mine.negative_slope")
    assert target.form == "unknown"
    assert_right(target, (0.25, 0.5), 0, 1, lambda: forward(model))


# Other precisions.


@pytest.mark.float32
@pytest.mark.parametrize("how, form", [("product", "tensor"), ("branch", "traced")])
def test_a_users_code_settles_the_form_in_float32(how, form):
    model = compiled(Scaled(how))
    target = one(model, "scaled.alpha")
    # NumPy's float64, as a caller would pass it.
    (settled,) = settle(
        [(target, np.float64(0.25), 0.0, 1.0)], lambda seed: forward(model)
    )
    assert settled.form == form


MIXED = ["L2", "L1L2.l1", "GaussianNoise", "GaussianDropout", "LeakyReLU"]
MIXED += ["BatchNormalization.epsilon", "LayerNormalization", "Rescaling.scale"]
MIXED += ["ReLU.max_value", "ELU", "a user's layer"]


@pytest.mark.float32
@pytest.mark.parametrize("name", MIXED)
def test_a_float32_value_in_a_bfloat16_layer(name):
    build, path, (value, *_), low, high = CASES[name]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(*build())
    finally:
        keras.config.set_dtype_policy("float32")
    run = lambda: forward(model)  # noqa: E731
    (target,) = settle([(one(model, path), value, low, high)], lambda seed: run())
    _, derivative = injected(target, low, high, run)
    got, slope = derivative(backend.convert(value, "float32"))
    assert float(got) == pytest.approx(as_compiled(target, value, run), rel=2e-2)
    assert np.isfinite(float(slope)) and float(slope) != 0.0
