"""The user's model, optimizer and variables are bit for bit what they were."""

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.backend import Traces
from hypergrad.callbacks import Callback

PATHS = {
    "optimizer.learning_rate": hg.Float(1e-4, 1.0, sampling="log"),
    "optimizer.momentum": hg.Float(0.0, 0.99, sampling="reverse_log"),
    "dense.kernel_regularizer.l2": hg.Float(1e-6, 1e-1, sampling="log", default=1e-3),
    "gaussian_noise.stddev": hg.Float(1e-3, 1.0, sampling="log"),
}


def data(rows=30):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4))
    return x, np.tanh(x[:, :1]) + 0.1 * rng.normal(size=(rows, 1))


def build():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.GaussianNoise(0.1, seed=2),
            keras.layers.Dense(
                5, "tanh", kernel_regularizer=keras.regularizers.L2(0.0)
            ),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )
    # A learning rate and a momentum that float32 does not hold exactly.
    optimizer = keras.optimizers.SGD(0.0123, momentum=0.1)
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def everything(model):
    """All that a user could find changed, as comparable Python objects."""
    return {
        "variables": [
            (v.path, v.dtype, np.asarray(v.value).tobytes()) for v in model.variables
        ],
        "optimizer": [
            (v.path, np.asarray(v.value).tobytes()) for v in model.optimizer.variables
        ],
        "metrics": [
            (v.path, np.asarray(v.value).tobytes()) for v in model.metrics_variables
        ],
        "config": model.get_config(),
        "optimizer config": model.optimizer.get_config(),
        "compiled": model.get_compile_config(),
        "calls": [layer.call.__func__ for layer in model.layers],
        "attributes": [
            {k: v for k, v in vars(layer).items() if isinstance(v, (float, int))}
            for layer in (*model.layers, model.optimizer)
        ],
        "regularizer": vars(model.layers[1].kernel_regularizer).copy(),
        "losses": [float(np.asarray(v)) for v in model.losses],
        "flags": (keras.config.is_traceback_filtering_enabled(), model.stop_training),
    }


@pytest.fixture(scope="module")
def model():
    model = build()
    x, y = data()
    # Trained before, so that slots, statistics and counters are not at their zeros.
    model.fit(x, y, epochs=1, batch_size=8, verbose=0)
    return model


OPTIONS = {
    "validation_data": data(20),
    "hyperparameters": PATHS,
    "steps": 5,
    "batch_size": 8,
}


@pytest.fixture(scope="module")
def problem(model):
    return hg.Problem.from_model(model, *data(), **OPTIONS)


class Broken(Exception):
    pass


class Break(Callback):
    def on_outer_step_end(self, step, logs=None):
        raise Broken


def tune(model, problem):
    result = hg.tune(problem, outer_steps=2, verbose=0)
    result.model.fit(*data(), verbose=0)  # the copy shares nothing


def failing_tune(model, problem):
    with pytest.raises(Broken):
        hg.tune(problem, callbacks=[Break()], verbose=0)


def search(model, problem):
    hg.search(problem, budget=3, verbose=0)


def hypergradient(model, problem):
    hg.hypergradient(problem)


def refused(model, problem):
    with pytest.raises(ValueError, match="NaN"):
        x, y = data()
        hg.tune(model, x * np.nan, y, verbose=0, **OPTIONS)


def unknown_path(model, problem):
    with pytest.raises(ValueError, match="dense"):
        hg.tune(
            model, *data(), verbose=0, **{**OPTIONS, "hyperparameters": ["dens.rate"]}
        )


def diverging(model, problem):
    rate = hg.Float(1.0, 1e30, sampling="log", default=1e25)
    wild = problem.replace(space={**problem.space, "optimizer.learning_rate": rate})
    result = hg.tune(wild, outer_steps=1, verbose=0, screening=None)
    assert not result.status.ok


@pytest.mark.parametrize(
    "act",
    [tune, failing_tune, search, hypergradient, refused, unknown_path, diverging],
)
def test_the_model_is_unchanged(model, problem, act):
    before = everything(model)
    act(model, problem)
    after = everything(model)
    for name in before:
        assert after[name] == before[name], name


def test_making_a_problem_changes_neither_the_model_nor_the_global_seed(model):
    before = everything(model)
    keras.utils.set_random_seed(5)
    expected = (np.random.random(), float(keras.random.uniform(())))
    keras.utils.set_random_seed(5)
    hg.tune(model, *data(), budget=1, verbose=0, **OPTIONS)
    assert (np.random.random(), float(keras.random.uniform(()))) == expected
    assert everything(model) == before


def test_an_unbuilt_model_is_only_built():
    built = build()
    fresh = build()
    fresh.optimizer.build(fresh.trainable_variables)
    hg.Problem.from_model(built, *data(), **OPTIONS)
    for a, b in zip(built.variables, fresh.variables):
        np.testing.assert_array_equal(np.asarray(a.value), np.asarray(b.value))
    assert built.optimizer.built


def test_nothing_is_compiled_after_the_first_outer_step(problem):
    marks = []

    class Mark(Callback):
        def on_outer_step_end(self, step, logs=None):
            marks.append(Traces.total)

    hg.tune(problem, outer_steps=20, callbacks=[Mark()], verbose=0)
    assert len(marks) > 5 and len(set(marks)) == 1
    for learning_rate in (0.01, np.float32(0.02), np.array(0.03)):
        hg.hypergradient(problem, {"optimizer.learning_rate": learning_rate})
    other = problem.replace(num_steps=7)
    hg.tune(other, outer_steps=2, screening=None, verbose=0)
    hg.search(problem, budget=3, verbose=0)
    assert Traces.total == marks[0]
