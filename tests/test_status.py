"""Divergence and NaN come back as a status that names the step and the variable."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 3)).astype("float32")
Y = X[:, :1]
RATE = "optimizer.learning_rate"


@pytest.fixture(scope="module")
def problem() -> hg.Problem:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, name="only")])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    return hg.Problem.from_model(
        model,
        X,
        Y,
        validation_data=(X, Y),
        steps=12,
        batch_size=20,
        shuffle=False,
        hyperparameters={RATE: hg.Float(0.0, 1e60)},
    )


def first_overflow(rate: float) -> int:
    """The first step of plain gradient descent whose loss is not finite; NumPy."""
    with np.errstate(all="ignore"):
        x, y = X.astype("float64"), Y.astype("float64")
        w, b = np.full((3, 1), 0.5), np.zeros(1)
        for step in range(12):
            error = x @ w + b - y
            if not np.isfinite(np.mean(error**2)):
                return step
            w = w - rate * 2 * x.T @ error / 20
            b = b - rate * 2 * error.mean(axis=0)
    raise AssertionError("it does not overflow")


def test_a_good_run_is_ok(problem: hg.Problem) -> None:
    h = hg.hypergradient(problem, {RATE: 0.1})
    assert h.status.ok and bool(h.status) and str(h.status) == "ok"
    assert h.status.step is None and h.status.variable is None
    assert len(h.info["train_losses"]) == 12


def test_divergence_names_the_step(problem: hg.Problem) -> None:
    h = hg.hypergradient(problem, {RATE: 1e50})
    step = first_overflow(1e50)
    assert 0 < step < 11
    assert not h.status.ok and not h.status
    assert h.status.step == step
    assert h.status.variable == "training loss"
    assert f"from step {step} on" in str(h.status)
    assert "lower the learning rate" in str(h.status)
    assert np.isnan(h.gradient[RATE]) and np.isnan(h.unconstrained_gradient[RATE])
    assert not np.isfinite(h.loss)
    assert not np.isfinite(h.info["train_losses"][step])
    assert np.isfinite(h.info["train_losses"][:step]).all()


def test_divergence_raises_where_asked(problem: hg.Problem) -> None:
    with pytest.raises(hg.NonFiniteError, match="training loss is not finite from st"):
        hg.hypergradient(problem, {RATE: 1e50}, raise_on_failure=True)


def test_the_first_variable_is_named(problem: hg.Problem) -> None:
    # The loss of step 0 is finite, the step itself overflows.
    h = hg.hypergradient(problem.replace(num_steps=1), {RATE: 9e59})
    assert h.status.ok  # 1e60 squared is still a number
    rule_breaker = keras.losses.MeanSquaredError()
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, name="first"),
            layers.Dense(1, name="second"),
        ]
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    model.compile(optimizer, rule_breaker, jit_compile=False)
    huge = hg.Problem.from_model(
        model,
        X,
        Y * np.float32(1e30),
        validation_data=(X, Y),
        steps=1,
        batch_size=20,
        hyperparameters={RATE: hg.Float(0.0, 1e300, default=1e290)},
    )
    h = hg.hypergradient(huge)
    assert not h.status.ok
    assert h.status.step == 0
    assert h.status.variable.endswith("first/kernel")


def test_a_validation_loss_that_is_not_finite() -> None:
    problem = hg.Problem(
        init=lambda hparams: {"w": ops.ones(2)},
        step=lambda s, hparams, t: ({"w": s["w"] - hparams["rate"]}, {}),
        val_loss=lambda s, hparams: ops.log(ops.sum(s["w"])),
        num_steps=3,
        space={"rate": hg.Float(0.0, 2.0, default=1.0)},
    )
    status = hg.hypergradient(problem).status
    assert (status.ok, status.step, status.variable) == (False, 2, "validation loss")


def test_states_without_a_model_are_named_by_their_place() -> None:
    def step(state: Any, hparams: Any, t: Any) -> Any:
        broken = ops.where(ops.equal(t, 4), np.nan, 0.0)
        return {"a": state["a"], "b": state["b"] * hparams["rate"] + broken}, {}

    problem = hg.Problem(
        init=lambda hparams: {"a": ops.ones(2), "b": ops.ones((3, 1))},
        step=step,
        val_loss=lambda s, hparams: ops.sum(s["b"]),
        num_steps=9,
        space={"rate": hg.Float(0.0, 1.0, default=0.5)},
    )
    status = hg.hypergradient(problem).status
    assert (status.ok, status.step) == (False, 4)
    assert status.variable == "state leaf 1 of shape (3, 1)"


def test_a_hypergradient_that_is_not_finite() -> None:
    problem = hg.Problem(
        init=lambda hparams: {"w": ops.zeros(())},
        step=lambda s, hparams, t: ({"w": s["w"] * hparams["rate"]}, {}),
        val_loss=lambda s, hparams: ops.sqrt(s["w"]),
        num_steps=2,
        space={"rate": hg.Float(0.0, 1.0, default=0.5)},
    )
    h = hg.hypergradient(problem)
    assert h.loss == 0.0
    assert h.status.variable == "hypergradient" and "'rate'" in h.status.reason
    with pytest.raises(hg.NonFiniteError, match="hypergradient of 'rate'"):
        hg.hypergradient(problem, raise_on_failure=True)
