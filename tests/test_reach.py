"""Which hyperparameters of a ``build_model`` are descended, through which formula."""

import keras
import numpy as np
import pytest
from keras import layers, regularizers

import hypergrad as hg
from hypergrad import backend
from hypergrad.targets import discover
from hypergrad.tuner.maps import recognised, tabulated
from hypergrad.tuner.reach import reach


def build(hp):
    tied = hp.Float("tied", 1e-6, 1e-1, sampling="log")
    noise = hp.Float("noise", 0.01, 0.5)
    x = inputs = keras.Input((4,))
    for _ in range(2):
        x = layers.Dense(3, kernel_regularizer=regularizers.L2(tied))(x)
    x = layers.GaussianNoise(noise)(x)
    x = layers.Dropout(hp.Float("dropout", 0.0, 0.5))(x)
    x = x * hp.Float("gain", 0.5, 2.0)
    spread = keras.initializers.RandomNormal(hp.Float("spread", 0.01, 0.1))
    penalty = regularizers.L2(10.0 ** hp.Float("exponent", -6.0, -1.0))
    x = layers.Dense(3, kernel_regularizer=penalty, kernel_initializer=spread)(x)
    model = keras.Model(inputs, x)
    rate = hp.Float("rate", 1e-5, 1e-1, sampling="log")
    smoothing = hp.Float("smoothing", 0.0, 0.3)
    weight = 1.0 + hp.Float("weight", 0.0, 1.0) ** 3
    model.compile(
        optimizer=keras.optimizers.AdamW(
            rate * hp.Float("factor", 0.5, 1.0),
            beta_1=1.0 - hp.Float("one_less", 1e-3, 0.5, sampling="log"),
            beta_2=hp.Float("beta_2", 0.9, 0.9999, sampling="reverse_log"),
            weight_decay=hp.Float("root", 1e-3, 1e-1, sampling="log") ** 2,
            epsilon=hp.Float("stepped", 1e-8, 1e-6, step=10, sampling="log"),
        ),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=smoothing
        ),
        loss_weights=[weight],
    )
    hp.Float("unused", 0.0, 1.0)
    hp.Float("fixed", 0.5, 0.5)
    hp.Choice("choice", ["a", "b"])
    return model


@pytest.fixture(scope="module")
def space():
    hp = hg.HyperParameters()
    build(hp)
    return hp


@pytest.fixture(scope="module")
def found(space):
    return reach(build, space)


def test_numbers_that_reach_training_are_descended_by_their_formula(found):
    kinds = {
        name: {path: formula.kind for path, formula in paths.items()}
        for name, paths in found.descended.items()
    }
    assert kinds == {
        "tied": {
            "dense.kernel_regularizer.l2": "identity",
            "dense_1.kernel_regularizer.l2": "identity",
        },
        "noise": {"gaussian_noise.stddev": "identity"},
        "exponent": {"dense_2.kernel_regularizer.l2": "exp"},
        "rate": {"optimizer.learning_rate": "affine"},
        "one_less": {"optimizer.beta_1": "affine"},
        "beta_2": {"optimizer.beta_2": "identity"},
        "root": {"optimizer.weight_decay": "power"},
        "smoothing": {"loss.label_smoothing": "identity"},
        "weight": {"loss_weights": "table"},
    }


def test_everything_else_is_searched_with_the_reason(found):
    for name, text in {
        "dropout": "dropout.rate: sets a random threshold",
        "gain": "it moves _nodes_by_depth.* which is no target",
        "spread": "kernel_initializer.* which is no target",
        "factor": "it moves optimizer.learning_rate, which 'rate' moves as well",
        "stepped": "with `step` it has no derivative",
        "unused": "it moves nothing that the compiled model holds",
        "choice": "a choice or a whole number has no derivative",
    }.items():
        start, _, end = text.partition("*")
        assert start in found.searched[name] and end in found.searched[name], name
    assert "fixed" not in {**found.searched, **found.descended}


def test_a_bind_gives_what_the_model_would_hold(space, found):
    """At points of the whole range, other than those that were looked at."""
    rng = np.random.default_rng(0)
    entries = {entry.name: entry for entry in space.space}
    for _ in range(5):
        hp = space.copy()
        for name in found.descended:
            hp.values[name] = entries[name].prob_to_value(rng.random())
        held = {target.path: target.value for target in discover(build(hp))}
        values = {name: hp.values[name] for name in found.descended}
        traced = {n: backend.convert(v, "float64") for n, v in values.items()}
        for path, value in found.bind(traced).items():
            rough = 1e-3 if path == "loss_weights" else 2e-6
            got = float(backend.to_numpy(value))
            assert got == pytest.approx(held[path], rel=rough), path


def test_ranges_start_at_the_values_of_the_trial(space, found):
    hp = space.copy()
    hp.values |= {"rate": 3e-3, "beta_2": 0.99}
    ranges = found.ranges(hp)
    assert set(ranges) == set(found.descended)
    assert ranges["rate"] == hg.Float(1e-5, 1e-1, sampling="log", default=3e-3)
    assert ranges["beta_2"].sampling == "reverse_log"
    assert ranges["beta_2"].default == 0.99


def branching(hp):
    depth = hp.Float("depth", 0.0, 1.0)
    gain = hp.Float("gain", 0.5, 2.0)
    below = [layers.Dense(2, activation="tanh")] if depth > 0.5 else []
    model = keras.Sequential([*below, layers.Dense(1)])
    with hp.conditional_scope("kind", "sgd"):
        rate = hp.Float("rate", 1e-4, 1.0, sampling="log")
    model.compile(
        optimizer=keras.optimizers.SGD(rate or 0.1),
        loss=lambda y, p: gain * keras.losses.mean_squared_error(y, p),
    )
    return model


@pytest.mark.parametrize("kind", ["sgd", "other"])
def test_structure_and_closures_are_seen(kind):
    hp = hg.HyperParameters()
    hp.Choice("kind", ["sgd", "other"])
    hp.values["kind"] = kind
    branching(hp)
    found = reach(branching, hp)
    assert "structure" in found.searched["depth"] or "units" in found.searched["depth"]
    assert "closure.gain, which is no target" in found.searched["gain"]
    assert set(found.descended) == ({"rate"} if kind == "sgd" else set())


class Own(keras.Layer):
    """A user's layer, with one number that reaches its output and one that is cut."""

    def __init__(self, strength, hidden):
        super().__init__()
        self.strength = strength
        self._kept = {"hidden": hidden}

    def call(self, x):
        return x * self.strength + self._kept["hidden"]


def test_numbers_of_a_users_layer():
    def with_own(hp):
        strength, hidden = hp.Float("strength", 0.5, 2.0), hp.Float("hidden", 0.0, 1.0)
        model = keras.Sequential([layers.Dense(1), Own(strength, hidden)])
        model.compile(optimizer="sgd", loss="mse")
        return model

    hp = hg.HyperParameters()
    with_own(hp)
    found = reach(with_own, hp)
    assert set(found.descended) == {"strength"}
    assert "_kept.hidden, which is no target" in found.searched["hidden"]


@pytest.mark.parametrize(
    "formula, kind",
    [
        (lambda v: v, "identity"),
        (lambda v: 3.0 - 2.0 * v, "affine"),
        (lambda v: 1.0 + 0.5 * np.log(v), "log"),
        (lambda v: 10.0 ** (-v), "exp"),
        (lambda v: 5.0 / v**2, "power"),
        (lambda v: np.sin(v), None),
        (lambda v: float(round(v)), None),
    ],
)
def test_formulas_are_recognised(formula, kind):
    points = [0.3, 0.9, 1.4, 2.2, 2.9]
    found = recognised(points, [formula(v) for v in points])
    assert (found and found.kind) == kind
    if kind is not None:
        value = float(backend.to_numpy(found(backend.convert(1.7, "float64"))))
        assert value == pytest.approx(formula(1.7), rel=1e-9)
        assert str(found)


def test_a_curve_is_differentiable_and_steps_are_none():
    found = tabulated(0.0, 3.0, np.sin)
    value, slope = backend.value_and_grad(found)(backend.convert(1.7, "float64"))
    assert float(backend.to_numpy(value)) == pytest.approx(np.sin(1.7), rel=1e-4)
    assert float(backend.to_numpy(slope)) == pytest.approx(np.cos(1.7), rel=1e-2)
    for end in (0.0, 3.0):
        at = float(backend.to_numpy(found(backend.convert(end, "float64"))))
        assert at == pytest.approx(np.sin(end), abs=1e-12)
    assert tabulated(0.0, 3.0, lambda v: float(round(v))) is None
