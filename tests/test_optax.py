"""Models that are compiled with an optax transformation, on JAX."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import hypergrad as hg
from finite_differences import of_problem

JAX = keras.backend.backend() == "jax"
only_jax = pytest.mark.skipif(not JAX, reason="optax computes with JAX")

if JAX:
    import optax


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 3)), rng.normal(size=(12, 1))


def model_of(optimizer: Any, activation: str = "tanh") -> keras.Model:
    keras.utils.set_random_seed(0)
    bias = keras.initializers.Constant([0.0, -50.0])
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, activation, bias_initializer=bias),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def problem_of(transformation: Any, names: list[str], **options: Any) -> hg.Problem:
    x, y = data()
    model = model_of(hg.optimizers.Optax(transformation), **options)
    return hg.Problem.from_model(
        model,
        x[:8],
        y[:8],
        validation_data=(x[8:], y[8:]),
        steps=5,
        batch_size=4,
        hyperparameters={f"optimizer.{name}": hg.Float() for name in names},
    )


def agrees(problem: hg.Problem, record_property: Callable) -> None:
    h = hg.hypergradient(problem)
    assert h.status.ok

    def loss(values: Any) -> float:
        return float(hg.Reverse().run(problem, problem.values(values)).loss)

    worst = 0.0
    for name, difference in of_problem(loss, problem.values()).items():
        error = abs(float(h.gradient[name]) - difference.value)
        assert error <= 1e-6 * abs(difference.value) + 3 * difference.error, name
        worst = max(worst, error / max(abs(difference.value), 1e-6))
    record_property("relative_error", float(worst))


def cases() -> dict[str, tuple]:
    inject = optax.inject_hyperparams
    return {
        "sgd": (
            lambda: inject(optax.sgd)(learning_rate=0.1, momentum=0.5),
            ["learning_rate", "momentum"],
        ),
        "adam": (
            lambda: inject(optax.adam)(learning_rate=0.05, b1=0.75, b2=0.9, eps=1e-3),
            ["learning_rate", "b1", "b2", "eps"],
        ),
        "adamw": (
            lambda: inject(optax.adamw)(0.05, eps=1e-3, weight_decay=0.1),
            ["learning_rate", "weight_decay"],
        ),
        "chain": (
            lambda: optax.chain(
                optax.clip_by_global_norm(0.5),
                inject(optax.scale_by_rms)(decay=0.8, eps=1e-3),
                inject(optax.scale)(step_size=-0.05),
            ),
            ["decay", "step_size"],
        ),
        "schedule": (
            lambda: inject(optax.rmsprop)(
                learning_rate=optax.cosine_decay_schedule(0.1, 5), decay=0.8, eps=1e-3
            ),
            ["decay"],
        ),
    }


NAMES = tuple(cases()) if JAX else ()


@only_jax
@pytest.mark.parametrize(
    "activation", ["relu", pytest.param("tanh", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", NAMES)
def test_injected_numbers_agree_with_differences(case, activation, record_property):
    """With ReLU the second unit is dead: roots of exactly zero."""
    make, names = cases()[case]
    agrees(problem_of(make(), names, activation=activation), record_property)


@only_jax
@pytest.mark.parametrize("case", NAMES)
def test_a_run_is_what_fit_and_optax_do(case):
    import jax

    x, y = data()
    make, names = cases()[case]
    problem = problem_of(make(), names).replace(num_steps=3)
    tape = hg.Reverse().run(problem, problem.values())

    def loss(weights, x, y):
        hidden = jax.numpy.tanh(x @ weights[0] + weights[1])
        return jax.numpy.mean((hidden @ weights[2] + weights[3] - y) ** 2)

    transformation = make()
    model = model_of(hg.optimizers.Optax(make()))
    weights = [v.value + 0.0 for v in model.trainable_variables]
    state = transformation.init(weights)
    for step in range(3):
        rows = problem.batch(step)
        grads = jax.grad(loss)(weights, x[rows], y[rows])
        updates, state = transformation.update(grads, state, weights)
        weights = optax.apply_updates(weights, updates)
        model.fit(x[rows], y[rows], batch_size=4, shuffle=False, verbose=0)
    for ours, theirs, fitted in zip(
        tape.final.weights, weights, model.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(fitted.value, theirs, rtol=1e-12, atol=1e-14)


@only_jax
def test_tuning_ends_in_a_model_that_holds_the_numbers():
    x, y = data()
    transformation = cases()["adam"][0]()
    result = hg.tune(
        model_of(hg.optimizers.Optax(transformation)),
        x[:8],
        y[:8],
        validation_data=(x[8:], y[8:]),
        steps=5,
        batch_size=4,
        hyperparameters={
            "optimizer.learning_rate": hg.Float(1e-4, 1.0, sampling="log"),
            "optimizer.b1": hg.Float(0.0, 0.99),
        },
        outer_steps=2,
        verbose=0,
    )
    optimizer = result.model.optimizer
    assert isinstance(optimizer, hg.optimizers.Optax)
    assert optimizer.b1 == pytest.approx(result.values["optimizer.b1"])
    rate = float(optimizer.learning_rate.value)
    assert rate == pytest.approx(result.values["optimizer.learning_rate"])
    result.model.fit(x, y, verbose=0)


@only_jax
def test_what_cannot_be_tuned_says_why():
    fixed = "fixed inside the optax transformation"
    with pytest.raises(ValueError, match=fixed):
        problem_of(optax.adam(1e-3), ["learning_rate"])
    inject = optax.inject_hyperparams
    twice = optax.chain(inject(optax.scale)(0.1), inject(optax.scale)(0.1))
    with pytest.raises(ValueError, match="'step_size' is injected twice"):
        hg.optimizers.Optax(twice)
    with pytest.raises(ValueError, match="names nothing in this model"):
        problem_of(cases()["schedule"][0](), ["nesterov"])
    with pytest.raises(ValueError, match="Leave `PerVariable` out"):
        x, y = data()
        model = model_of(hg.optimizers.Optax(cases()["adam"][0]()))
        each = hg.PerVariable(hg.Float(0.0, 0.99))
        hg.hypergradient(
            hg.Problem.from_model(
                model,
                x,
                y,
                validation_data=(x, y),
                steps=2,
                hyperparameters={"optimizer.b1": each},
            )
        )
    with pytest.raises(TypeError, match="Optax\\(optax.adam\\(1e-3\\)\\)"):
        hg.optimizers.Optax("adam")


@pytest.mark.skipif(JAX, reason="the refusal of other backends")
def test_another_backend_is_refused():
    import optax

    with pytest.raises(TypeError, match="compute with JAX"):
        hg.optimizers.Optax(optax.adam(1e-3))
