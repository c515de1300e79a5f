"""`Result.apply`: tuned numbers in a plain Keras model, and what it cannot hold."""

import keras
import numpy as np
import pytest
from keras import layers

import hypergrad as hg
from hypergrad import files
from hypergrad.optimizers import TunedSchedule

RATE = hg.Float(1e-4, 1.0, sampling="log")
STEPS = 7


def arrays(rows=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 3)), rng.normal(size=(rows, 1))


def build():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, "tanh"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def tuned(hyperparameters):
    return hg.tune(
        build(),
        *arrays(),
        validation_data=arrays(),
        steps=STEPS,
        batch_size=8,
        hyperparameters=hyperparameters,
        outer_steps=2,
        screening=None,
        verbose=0,
    )


@pytest.fixture(scope="module")
def scheduled():
    return tuned(
        {
            "optimizer.learning_rate": hg.Schedule(RATE, knots=3),
            "optimizer.beta_1": hg.Float(0.0, 0.999, sampling="reverse_log"),
        }
    )


def test_a_plain_model_trains_with_a_tuned_schedule(scheduled, tmp_path):
    scheduled.save(tmp_path)
    x, y = arrays()
    for known in (scheduled, hg.Result.load(tmp_path)):
        plain = build()
        assert known.apply(plain) == []
        for step in range(STEPS):
            rate = float(plain.optimizer.learning_rate)
            rates = known.schedules["optimizer.learning_rate"]
            assert rate == pytest.approx(rates[step], rel=1e-5)
            rows = scheduled.origin.problem.batch(step)
            plain.train_on_batch(x[rows], y[rows])
        for ours, theirs in zip(scheduled.model.weights, plain.weights):
            np.testing.assert_allclose(
                np.asarray(ours.value), np.asarray(theirs.value), rtol=1e-3, atol=2e-5
            )
    # After the training that was tuned the last rate stays.
    assert float(plain.optimizer.learning_rate) == pytest.approx(rates[-1], rel=1e-5)
    plain.save(tmp_path / "plain.keras")
    again = keras.models.load_model(tmp_path / "plain.keras")
    assert float(again.optimizer.learning_rate) == pytest.approx(rates[-1], rel=1e-5)
    assert again.optimizer.beta_1 == scheduled.values["optimizer.beta_1"]


def test_a_model_that_holds_a_schedule_takes_another(scheduled):
    model = build()
    decay = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(keras.optimizers.Adam(decay), "mse")
    scheduled.apply(model)
    assert isinstance(model.optimizer._learning_rate, TunedSchedule)
    model.train_on_batch(*arrays())


@pytest.mark.parametrize(
    ("hyperparameters", "left", "reason"),
    [
        (
            {"optimizer.learning_rate": hg.PerVariable(RATE)},
            "optimizer.learning_rate",
            "is one number for each variable",
        ),
        (
            {"optimizer.learning_rate": hg.Schedule(hg.PerVariable(RATE), knots=2)},
            "optimizer.learning_rate",
            "is a schedule for each variable",
        ),
        (
            {"optimizer.beta_1": hg.Schedule(hg.Float(0.0, 0.99), knots=2)},
            "optimizer.beta_1",
            "changes from step to step",
        ),
        (
            {"data.sample_weight": hg.Float(0.0, None, shape=(16,), default=1.0)},
            "data.sample_weight",
            "is of the training data",
        ),
    ],
)
def test_what_keras_cannot_hold_is_named(hyperparameters, left, reason):
    result = tuned(hyperparameters | {"optimizer.beta_2": hg.Float(0.5, 0.9999)})
    model = build()
    with pytest.raises(ValueError, match=f"Received: '{left}' {reason}"):
        result.apply(model)
    assert model.optimizer.beta_2 == pytest.approx(0.999)
    assert result.apply(model, partial=True) == [left]
    assert model.optimizer.beta_2 == result.values["optimizer.beta_2"]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_a_result_of_an_older_version_has_no_schedules(scheduled, tmp_path):
    scheduled.save(tmp_path)
    content = files.read(tmp_path, "result")
    del content["schedules"], content["data"]
    files.write(tmp_path, "result", content)
    loaded = hg.Result.load(tmp_path)
    assert loaded.schedules == {} and loaded.data == []
    assert loaded.loss == scheduled.loss


def test_a_schedule_of_nothing():
    with pytest.raises(ValueError, match="`rates` must hold at least one number"):
        TunedSchedule([])
