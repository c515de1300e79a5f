"""A directory belongs to one tune: what is told apart, and what a resume restores."""

import functools

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.callbacks import Callback, EarlyStopping
from hypergrad.description import described
from hypergrad.fingerprint import fingerprint

SPACE = {
    "rate": hg.Float(0.01, 0.9, default=0.3),
    "shift": hg.Float(0.0, 1.0, default=0.31),
}


def make(target=1.2, val_loss=None, **parts):
    def distance(state, hparams):
        return keras.ops.sum((state["w"] - target) ** 2) + (hparams["shift"] - 0.7) ** 2

    given = {
        "init": lambda hparams: {"w": keras.ops.ones((3,)) * 2.0},
        "step": lambda state, hparams, t: (
            {"w": state["w"] - hparams["rate"] * (state["w"] - 1.0)},
            {},
        ),
        "val_loss": val_loss or distance,
        "num_steps": 3,
        "space": SPACE,
    }
    return hg.Problem(**given | parts)


@pytest.fixture(scope="module")
def problem():
    return make()


# Which tune it is: functions


def other_init(hparams):
    return {"w": keras.ops.ones((3,)) * 3.0}


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (make(target=1.3), "val_loss"),
        (make(val_loss=lambda s, h: keras.ops.sum((s["w"] - 5.0) ** 2)), "val_loss"),
        (make(init=other_init), "init"),
        (make(step=lambda state, hparams, t: (state, {})), "step"),
        (make(bind=lambda hparams: {**hparams}), "bind"),
        (make(data=None, num_steps=4), "steps of training"),
    ],
)
def test_a_finished_directory_of_other_functions_is_refused(
    problem, tmp_path, other, part
):
    hg.tune(problem, budget=1, directory=tmp_path, verbose=0)
    with pytest.raises(ValueError, match=f"not this one.*Received: {part}: "):
        hg.tune(other, budget=1, directory=tmp_path, verbose=0)
    hg.tune(make(), budget=1, directory=tmp_path, verbose=0)


def test_other_settings_are_refused(problem, tmp_path):
    options = {"budget": 1, "directory": tmp_path, "verbose": 0}
    adam = keras.optimizers.Adam
    hg.tune(problem, optimizer=adam(0.1), patience=3, **options)
    hg.tune(problem, optimizer=adam(0.1, name="mine"), patience=3, **options)
    for optimizer, patience, part in (
        (adam(0.2), 3, "optimizer"),
        (keras.optimizers.SGD(0.1), 3, "optimizer"),
        (adam(0.1), 4, "patience"),
    ):
        with pytest.raises(ValueError, match=f"Received: {part}: "):
            hg.tune(problem, optimizer=optimizer, patience=patience, **options)


def test_optax_transformations_are_told_apart():
    optax = pytest.importorskip("optax")
    texts = [described(o) for o in (optax.adam(0.1), optax.adam(0.2), optax.sgd(0.1))]
    assert len(set(texts)) == 3 and described(optax.adam(0.1)) == texts[0]


LIMIT = 3.0


def limited(x):
    return x < LIMIT


class Callable_:
    def __call__(self, x):
        return x in {"a", "b", "c"}


def test_a_description_has_no_addresses_and_sees_what_is_enclosed(monkeypatch):
    def power(n, m=1):
        return lambda x: m * x**n

    assert described(power(2)) == described(power(2)) != described(power(3))
    assert described(power(2, m=2)) != described(power(2))
    assert described(functools.partial(power, n=2)) != described(power)
    assert described(Callable_()) == described(Callable_())
    assert described(Callable_().__call__) == described(Callable_().__call__)
    assert described({"b", "a"}) == described({"a", "b"})
    assert described([np.zeros(3)]) != described([np.ones(3)])
    assert " at 0x" not in described([problem, make(), object(), np])
    itself = []
    itself.append(itself)
    described(itself)
    before = described(limited)
    monkeypatch.setitem(globals(), "LIMIT", 4.0)
    assert described(limited) != before


# Which tune it is: models


def data(rows=12):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 3)), rng.normal(size=(rows, 1))


def build(activation="tanh", noise=0.0, loss="mse", optimizer=None, seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.GaussianNoise(noise),
            keras.layers.Dense(2, activation),
            keras.layers.Dense(1),
        ]
    )
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(optimizer, loss, jit_compile=False)
    return model


OPTIONS = {
    "validation_data": data(),
    "hyperparameters": {
        "optimizer.learning_rate": hg.Float(1e-4, 1.0, sampling="log", default=0.01)
    },
    "steps": 2,
    "batch_size": 4,
}


def absolute(y, p):
    return keras.ops.abs(y - p)


def test_a_finished_directory_of_another_model_is_refused(tmp_path):
    adam = keras.optimizers.Adam
    options = {**OPTIONS, "budget": 1, "directory": tmp_path, "verbose": 0}
    first = hg.tune(build(), *data(), **options)
    # Fresh names and fresh weights are no other tune.
    assert hg.tune(build(seed=1), *data(), **options).values == first.values
    for model, changed, part in (
        (build("relu"), {}, "model"),
        (build(noise=0.2), {}, "model"),
        (build(loss="mae"), {}, "loss"),
        (build(loss=absolute), {}, "loss"),
        (build(loss=keras.losses.Huber(0.5)), {}, "loss"),
        (build(optimizer=keras.optimizers.SGD(0.01)), {}, "optimizer of the model"),
        (build(optimizer=adam(0.01, beta_1=0.5)), {}, "optimizer of the model"),
        (build(), {"objective": absolute}, "objective"),
        (build(), {"test_data": data(6)}, "test data"),
    ):
        with pytest.raises(ValueError, match=f"Received: {part}: "):
            hg.tune(model, *data(), **options | changed)


def test_wirings_of_the_same_layers_are_told_apart():
    def functional(swap):
        keras.utils.set_random_seed(0)
        x = keras.Input((3,))
        a, b = keras.layers.Dense(3), keras.layers.Dense(3)
        first, second = (b, a) if swap else (a, b)
        h = keras.layers.Add()([first(x), x])
        model = keras.Model(x, second(h) if swap else b(a(h)))
        model.compile("adam", "mse", jit_compile=False)
        x, _ = data()
        options = {**OPTIONS, "validation_data": (x, x)}
        return fingerprint(hg.Problem.from_model(model, x, x, **options), {})

    one, same, other = functional(False), functional(False), functional(True)
    assert one == same
    assert one["model"] != other["model"]


# What a resume restores


class Killed(Exception):
    pass


class Kill(Callback):
    def __init__(self, at):
        self.at = at

    def on_outer_step_begin(self, step, logs=None):
        if step == self.at:
            raise Killed


def outer_optimizers():
    optimizers = {
        "steps": lambda: None,
        "adam": lambda: keras.optimizers.Adam(0.1),
        "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        "rmsprop": lambda: keras.optimizers.RMSprop(0.1),
    }
    if keras.backend.backend() == "jax":
        optax = pytest.importorskip("optax")
        optimizers |= {
            "optax adam": lambda: optax.adam(0.1),
            "optax momentum": lambda: optax.sgd(0.1, momentum=0.9),
        }
    return optimizers


@pytest.mark.parametrize("floatx", [pytest.param("float32", marks=pytest.mark.float32)])
@pytest.mark.parametrize("name", outer_optimizers())
def test_every_outer_optimizer_resumes_in_float32(problem, tmp_path, name, floatx):
    check_resume(problem, tmp_path, outer_optimizers()[name])


@pytest.mark.parametrize("name", outer_optimizers())
def test_every_outer_optimizer_resumes_to_the_same_numbers(problem, tmp_path, name):
    check_resume(problem, tmp_path, outer_optimizers()[name])


def check_resume(problem, folder, optimizer):
    def tune(**options):
        given = {"outer_steps": 6, "screening": None, "safeguard": None, "verbose": 0}
        return hg.tune(problem, optimizer=optimizer(), **given | options)

    whole = tune()
    with pytest.raises(Killed):
        tune(directory=folder, callbacks=[Kill(3)])
    resumed = tune(directory=folder)
    for column in ("rate", "shift", "val_loss", "runs"):
        np.testing.assert_array_equal(resumed.history[column], whole.history[column])


@pytest.mark.parametrize("at", [1, 3, 5, 6])
def test_patience_goes_on_counting_after_a_resume(problem, tmp_path, at):
    class Patient(EarlyStopping):
        def on_tune_begin(self, logs=None):
            super().on_tune_begin(logs)
            self.begun = len(logs["history"]["kind"])

    def tune(callbacks=(), **options):
        patient = Patient(patience=3, min_delta=1e-3)
        result = hg.tune(
            problem,
            outer_steps=40,
            screening=None,
            callbacks=[patient, *callbacks],
            verbose=0,
            **options,
        )
        return result, patient

    whole, patient = tune()
    assert patient.begun == 0 and "no better E in 3" in whole.summary()
    at = min(at, len(whole.history["kind"]) - 2)
    with pytest.raises(Killed):
        tune([Kill(at)], directory=tmp_path)
    resumed, patient = tune(directory=tmp_path)
    assert patient.begun == at + 1
    assert resumed.history["kind"] == whole.history["kind"]
    assert resumed.notes == whole.notes
