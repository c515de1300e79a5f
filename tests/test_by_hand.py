"""The hypergradients written by hand, that the library is timed against."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

import hypergrad as hg

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
HYPER = {
    "optimizer.learning_rate": 0.01,
    "optimizer.beta_1": 0.8,
    "optimizer.beta_2": 0.95,
}
STEPS, BATCH, ROWS = 12, 4, 12


@pytest.fixture(scope="module")
def by_hand():
    name = f"by_hand_{keras.backend.backend()}"
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dead", [False, True], ids=["alive", "dead unit"])
def test_they_agree_with_the_library(by_hand, dead):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(5, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    if dead:  # negative before the ReLU for any input in 0..1
        bias = np.zeros(5)
        bias[2] = -100.0
        layers[0].bias.assign(bias)
    random = np.random.RandomState(0)
    x, y = random.rand(ROWS, 4), random.randint(0, 3, ROWS).astype("int32")
    problem = hg.Problem.from_model(
        model, x, y, validation_data=(x, y), steps=STEPS, batch_size=BATCH,
        shuffle=False, hyperparameters=list(HYPER),
    )  # fmt: skip
    order = np.arange(STEPS * BATCH).reshape(STEPS, BATCH) % ROWS
    weights = [keras.ops.convert_to_numpy(w) for w in model.trainable_variables]
    x = x.astype(keras.config.floatx())
    written = by_hand.Hypergradient(weights, x, y, order, x, y)
    loss, slopes = written(list(HYPER.values()))
    found = hg.hypergradient(problem, HYPER)
    np.testing.assert_allclose(float(found.loss), loss, rtol=1e-10)
    ours = [float(found.gradient[name]) for name in HYPER]
    np.testing.assert_allclose(ours, slopes, rtol=1e-8)
    assert np.all(np.abs(slopes) > 1e-6)  # nothing that agrees by being nothing
