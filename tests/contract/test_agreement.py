"""Exact methods agree on Keras models: one hypergradient, whatever computes it.

The nets are those where a method could lose something: statistics of BatchNormalization
reach the next step beside the weights, noise and dropout have states that are no
floats, an LSTM is a loop, a learned start and schedules enter on their own roads.
"""

import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers

import hypergrad as hg
from nets import NETS, NOISY, optimizer_of, problem_of
from registry import METHODS, RULES

EXACT = [m for m in METHODS if m.exact and not m.needs_convergence]
STEPS = 5


def net_problem(name: str) -> hg.Problem:
    net = NOISY if name == "noisy" else NETS[name]
    rule, option = ("SGD", "clipnorm") if name == "noisy" else ("Adam", "decay")
    optimizer, tuned = optimizer_of(RULES[rule], "plain", option)
    return problem_of(net, optimizer, tuned, steps=STEPS)[0]


def lstm_problem() -> hg.Problem:
    """An LSTM under dropout; a schedule, a learned start, weights of examples."""
    model = keras.Sequential(
        [
            keras.Input((3, 2)),
            layers.LSTM(3, dropout=0.25, seed=3),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.RMSprop(0.0625), "mse", jit_compile=False)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(11, 3, 2)), draw.normal(size=(11, 1))
    rate = hg.Float(1e-3, 1.0, sampling="log")
    return hg.Problem.from_model(
        model,
        x[:8],
        y[:8],
        validation_data=(x[8:], y[8:]),
        steps=STEPS,
        batch_size=4,
        hyperparameters={
            "optimizer.learning_rate": hg.Schedule(hg.PerVariable(rate), knots=2),
            "initial.dense.bias": hg.Float(),
            "data.sample_weight": hg.Float(0.0, 2.0, default=1.0, shape=(8,)),
        },
    )


PROBLEMS: dict[str, Callable[[], hg.Problem]] = {
    **{n: functools.partial(net_problem, n) for n in ("cnn-batchnorm", "noisy")},
    "lstm": lstm_problem,
}


@functools.lru_cache(maxsize=1)
def made(name: str) -> tuple[hg.Problem, hg.Hypergradient]:
    keras.utils.set_random_seed(0)
    problem = PROBLEMS[name]()
    return problem, hg.hypergradient(problem, method=hg.Reverse("all"))


def cases() -> list:
    """(net, method). How states are stored matters the same for every net."""
    found = []
    for name in PROBLEMS:
        for method in EXACT:
            made = method.make()
            stores = isinstance(made, hg.Reverse) and (made.checkpoints or made.offload)
            slow = name == "noisy" or (name == "lstm" and stores)
            marks = [pytest.mark.slow] if slow else []
            found.append(
                pytest.param(name, method, marks=marks, id=f"{name}-{method.name}")
            )
    return found


@pytest.mark.parametrize(("name", "method"), cases())
def test_the_same_hypergradient(name, method):
    problem, expected = made(name)
    if not method.takes(problem):
        pytest.skip("no SGD with momentum")
    found = hg.hypergradient(problem, method=method.make())
    assert found.status.ok
    assert abs(found.loss - expected.loss) <= 1e-12 * abs(expected.loss)
    for path, slope in expected.gradient.items():
        scale = np.max(np.abs(slope))
        assert scale > 0
        assert np.max(np.abs(found.gradient[path] - slope)) <= 1e-9 * scale, path
