"""Where a training first went non-finite: planted faults are named exactly."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg

RATE = "optimizer.learning_rate"
rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3)).astype("float32")
Y = X[:, :1]


class Planted(layers.Layer):
    """Passes its inputs on, and does what it is told where an input is large."""

    def __init__(self, fault, **kwargs):
        super().__init__(**kwargs)
        self.fault = fault

    def call(self, inputs):
        hit = ops.max(ops.where(inputs >= 500.0, 1.0, 0.0))
        return self.fault(ops.where(inputs >= 500.0, 0.0, inputs), hit)


def log_of_zero(inputs, hit):
    return inputs + ops.log(1.0 - hit)


def root_of_zero(inputs, hit):
    return inputs + ops.sqrt(1.0 - hit + 0.0 * ops.sum(inputs))


def division(inputs, hit):
    return inputs + 1.0 / (1.0 - hit) - 1.0


def handled(inputs, hit):
    return inputs + ops.exp(ops.log(1.0 - hit)) - 1.0 + hit


def problem_of(*stack, bad_step=7, loss="mse", rate=0.01, steps=12, y=Y):
    x = X[:60].copy()
    if bad_step is not None:
        x[5 * bad_step + 2, 0] = 1000.0
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.compile(keras.optimizers.SGD(rate), loss, jit_compile=False)
    return hg.Problem.from_model(
        model, x, y[:60],
        validation_data=(X[60:], y[60:]),
        steps=steps, batch_size=5, shuffle=False, hyperparameters=[RATE],
    )  # fmt: skip


def test_a_log_of_zero_in_a_named_layer_at_step_7():
    problem = problem_of(
        Planted(log_of_zero, name="culprit"), layers.Dense(4, "relu"), layers.Dense(1)
    )
    report = hg.nan_report(problem)
    assert not report.ok
    assert (report.step, report.phase) == (7, "forward")
    assert report.layer.endswith("culprit")
    assert report.operation == "ops.log"
    assert report.learning_rate == pytest.approx(0.01)
    assert report.variable == "training loss"
    text = str(report)
    for word in ("Step 7", "training loss", "culprit", "ops.log", "learning rate 0.01"):
        assert word in text


def test_an_infinite_derivative_names_the_operation():
    problem = problem_of(
        layers.Dense(3, name="first"),
        Planted(root_of_zero, name="culprit"),
        layers.Dense(1),
        bad_step=None,
    )
    assert hg.nan_report(problem).ok
    problem = problem_of(
        layers.Lambda(lambda x: x, name="before"),
        layers.Dense(
            3, "linear", name="first", kernel_initializer="identity", use_bias=False
        ),
        Planted(root_of_zero, name="culprit"),
        layers.Dense(1),
    )
    report = hg.nan_report(problem)
    assert (report.step, report.phase) == (7, "backward")
    assert report.layer.endswith("culprit") and report.operation == "ops.sqrt"


def test_an_operator_is_no_operation_of_keras_but_the_layer_is_known():
    report = hg.nan_report(problem_of(Planted(division, name="mine"), layers.Dense(1)))
    assert (report.step, report.phase) == (7, "forward")
    assert report.layer.endswith("mine")


def test_an_infinity_that_a_layer_handles_is_no_fault():
    problem = problem_of(
        Planted(handled, name="masking"),
        Planted(lambda x, hit: x, name="plain"),
        layers.Dense(1),
        steps=8,
    )
    assert hg.nan_report(problem).ok
    report = hg.nan_report(
        problem_of(
            Planted(handled, name="masking"),
            layers.Dense(1, name="out"),
            loss=lambda y, p: ops.log(ops.mean(p * 0.0)) + ops.mean(p),
        )
    )
    assert report.step == 0 and report.operation == "ops.log"
    assert not (report.layer or "").endswith("masking")


def test_a_learning_rate_that_is_too_large():
    report = hg.nan_report(
        problem_of(layers.Dense(1, name="only"), bad_step=None), {RATE: 1.0}
    )
    assert report.ok
    wide = problem_of(layers.Dense(1, name="only"), bad_step=None)
    wide = wide.replace(space={RATE: hg.Float(0.0, 1e60)})
    report = hg.nan_report(wide, {RATE: 1e35})
    assert not report.ok and report.learning_rate == pytest.approx(1e35)
    assert report.step < 12


def test_a_step_of_ones_own():
    def step(state, hparams, t):
        bad = ops.log(ops.where(ops.equal(t, 3), 0.0, 1.0))
        return {"w": state["w"] - hparams["rate"] + bad}, {}

    problem = hg.Problem(
        init=lambda hparams: {"w": ops.ones(2)},
        step=step,
        val_loss=lambda state, hparams: ops.sum(state["w"]),
        num_steps=6,
        space={"rate": hg.Float(0.0, 2.0, default=1.0)},
    )
    report = hg.nan_report(problem)
    assert (report.step, report.operation) == (3, "ops.log")
    assert report.layer is None and report.learning_rate is None


def test_a_validation_loss_that_is_not_finite():
    problem = hg.Problem(
        init=lambda hparams: {"w": ops.ones(2)},
        step=lambda s, hparams, t: ({"w": s["w"] - hparams["rate"]}, {}),
        val_loss=lambda s, hparams: ops.log(ops.sum(s["w"])),
        num_steps=3,
        space={"rate": hg.Float(0.0, 2.0, default=1.0)},
    )
    report = hg.nan_report(problem)
    assert (report.phase, report.operation) == ("validation", "ops.log")
    assert "the validation loss is not finite" in str(report)


def test_an_lstm_whose_loop_is_compiled():
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.LSTM(2, name="memory"),
            Planted(lambda x, hit: ops.log(x * 0.0), name="culprit"),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = rng.normal(size=(20, 4, 3)).astype("float32")
    problem = hg.Problem.from_model(
        model, x, Y[:20], validation_data=(x, Y[:20]),
        steps=2, batch_size=10, hyperparameters=[RATE],
    )  # fmt: skip
    report = hg.nan_report(problem)
    assert report.step == 0 and report.layer.endswith("culprit")
    assert report.operation == "ops.log"


def test_keras_is_as_before_after_a_report():
    before = keras.layers.Layer.__call__
    hg.nan_report(problem_of(Planted(log_of_zero), layers.Dense(1)))
    assert keras.layers.Layer.__call__ is before
    assert not np.isfinite(float(ops.log(np.float32(0.0))))
