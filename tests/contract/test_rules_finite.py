"""Derivatives through updates are finite and right where gradients are exactly zero.

E is a smooth function of everything that two or more updates leave behind; its
derivative with respect to every number, the weights and the gradients is compared with
central differences in float64, whose own error is estimated by halving the step.
"""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from hypergrad import backend
from hypergrad.rules import options, rule_for, safe

DRAW = np.random.default_rng(3)
WEIGHTS = [DRAW.normal(size=(2, 2)), DRAW.normal(size=(2,))]
# The last column and the whole second variable never have a gradient.
GRADIENTS = [
    [DRAW.normal(size=(2, 2)) * [1.0, 0.0], np.zeros(2)],
    [DRAW.normal(size=(2, 2)) * [1.0, 0.0], np.zeros(2)],
]
BETAS = {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}
CASES = {
    "sgd": lambda: keras.optimizers.SGD(0.1, weight_decay=0.1),
    "heavy_ball": lambda: keras.optimizers.SGD(0.1, 0.8, weight_decay=0.1),
    "nesterov": lambda: keras.optimizers.SGD(0.1, 0.8, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1, epsilon=1e-3),
    "rmsprop_all": lambda: keras.optimizers.RMSprop(
        0.1, momentum=0.8, centered=True, epsilon=1e-3, weight_decay=0.1
    ),
    "adam": lambda: keras.optimizers.Adam(0.1, **BETAS),
    "amsgrad": lambda: keras.optimizers.Adam(0.1, amsgrad=True, **BETAS),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1, **BETAS),
    "adamw_clipnorm": lambda: keras.optimizers.AdamW(0.1, clipnorm=0.5, **BETAS),
    "adamw_loose": lambda: keras.optimizers.AdamW(0.1, clipnorm=50.0, **BETAS),
    "adamw_global": lambda: keras.optimizers.AdamW(
        0.1, global_clipnorm=0.5, amsgrad=True, **BETAS
    ),
    "adamw_global_loose": lambda: keras.optimizers.AdamW(
        0.1, global_clipnorm=50.0, **BETAS
    ),
    "adamw_clipvalue": lambda: keras.optimizers.AdamW(0.1, clipvalue=0.3, **BETAS),
}


@functools.cache
def problem(case):
    """(E, its gradient, arguments), both compiled once for all tests."""
    optimizer = CASES[case]()
    variables = [keras.Variable(w) for w in WEIGHTS]
    rule = rule_for(optimizer, variables, tuned=("learning_rate",))

    def outer(arguments):
        weights, state = list(arguments["weights"]), rule.init(arguments["weights"])
        for grads in arguments["gradients"]:
            weights, state = rule.update(grads, state, weights, arguments["numbers"])
        slots = [leaf for k in sorted(state) if k != "iterations" for leaf in state[k]]
        return sum(ops.sum(ops.sin(x * 1.5)) for x in [*weights, *slots])

    arguments = {
        "numbers": dict(rule.hyperparameters),
        "weights": WEIGHTS,
        "gradients": GRADIENTS,
    }
    # TensorFlow's kernels make 0 of 0·∞ at √0; under XLA it is NaN, and shows.
    gradient = backend.jit(backend.grad(outer), xla=True)
    return (
        backend.jit(outer),
        gradient,
        keras.tree.map_structure(
            lambda x: backend.convert(np.asarray(x, "float64")), arguments
        ),
    )


def check_against_differences(outer, gradient, arguments, smallest=1e-5):
    gradient = backend.to_numpy(gradient(arguments))
    leaves = [np.array(x) for x in keras.tree.flatten(backend.to_numpy(arguments))]
    checked = 0
    for leaf, slope in zip(leaves, keras.tree.flatten(gradient)):
        assert np.all(np.isfinite(slope))
        for index in np.ndindex(leaf.shape):
            value = float(leaf[index])

            def difference(h, leaf=leaf, index=index, value=value):
                ends = []
                for sign in (1, -1):
                    leaf[index] = value + sign * h
                    new = [backend.convert(x) for x in leaves]
                    ends.append(
                        float(outer(keras.tree.pack_sequence_as(arguments, new)))
                    )
                leaf[index] = value
                return (ends[0] - ends[1]) / (2 * h)

            coarse, fine = difference(smallest), difference(smallest / 2)
            estimate = abs(coarse - fine)
            allowed = 1e-6 * max(abs(fine), 1e-2) + 3 * estimate
            assert abs(slope[index] - fine) <= allowed, (index, slope[index], fine)
            checked += estimate <= 1e-6 * max(abs(fine), 1.0)
    return checked / sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_with_zero_gradients(case):
    # Differences say little next to the kink of √v at g = 0, see `safe.sqrt`.
    assert check_against_differences(*problem(case)) >= 0.5


@pytest.mark.parametrize("case", CASES)
def test_all_gradients_zero(case):
    _, gradient, arguments = problem(case)
    zeros = backend.zeros_like(arguments["gradients"])
    slopes = backend.to_numpy(gradient({**arguments, "gradients": zeros}))
    for slope in keras.tree.flatten(slopes):
        assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("case", ["rmsprop_all", "adamw_global"])
def test_second_derivatives_are_finite_and_jvp_agrees_with_vjp(case):
    outer, _, arguments = problem(case)
    tangents = keras.tree.map_structure(lambda x: x * 0 + 0.5, arguments)

    @backend.jit
    def both(arguments, tangents):
        _, slope = backend.jvp(outer, (arguments,), (tangents,))
        gradient, product = backend.jvp(backend.grad(outer), (arguments,), (tangents,))
        return slope, gradient, product

    slope, gradient, product = backend.to_numpy(both(arguments, tangents))
    dot = sum(
        np.vdot(g, t)
        for g, t in zip(
            keras.tree.flatten(gradient),
            keras.tree.flatten(backend.to_numpy(tangents)),
        )
    )
    assert abs(dot - slope) <= 1e-10 * abs(slope)
    for entry in keras.tree.flatten(product):
        assert np.all(np.isfinite(entry))


def test_betas_at_zero():
    """β = 0 is on the border of the range: values and derivatives exist there."""
    outer, gradient, arguments = problem("adam")
    zero = backend.convert(0.0)
    numbers = {**arguments["numbers"], "beta_1": zero, "beta_2": zero}
    arguments = {**arguments, "numbers": numbers}
    slopes = backend.to_numpy(gradient(arguments))["numbers"]
    step = 1e-6
    for name in ("beta_1", "beta_2"):
        ends = []
        for sign in (0, 1, 2):
            moved = {**arguments["numbers"], name: backend.convert(sign * step)}
            ends.append(float(outer({**arguments, "numbers": moved})))
        forward = (-3 * ends[0] + 4 * ends[1] - ends[2]) / (2 * step)
        assert slopes[name] == pytest.approx(forward, rel=1e-6)


def derivative(f, x):
    return float(backend.grad(f)(backend.convert(float(x))))


def test_safe_functions_have_the_plain_value():
    x = np.array([0.0, -0.0, 1e-300, 0.25, np.inf, np.nan])
    with np.errstate(invalid="ignore", divide="ignore"):
        assert np.array_equal(safe.sqrt(backend.convert(x)), np.sqrt(x), equal_nan=True)
        assert np.array_equal(
            safe.divide(1.0, backend.convert(x)), 1 / x, equal_nan=True
        )
    for n in (1.0, 2.0, 3.0):
        base = np.array([0.0, 0.5, 1.0, 2.0])
        powers = safe.power(backend.convert(base), backend.convert(n))
        assert np.array_equal(powers, base**n)


def test_safe_functions_have_finite_derivatives():
    assert derivative(safe.sqrt, 0.0) == 0.5
    assert derivative(safe.sqrt, 0.25) == 1.0
    assert derivative(lambda x: safe.divide(1.0, x), 0.0) == 0.0
    assert derivative(lambda x: safe.divide(1.0, x), 2.0) == -0.25
    for n, first, second in [(1, 1.0, 0.0), (2, 0.0, 2.0), (3, 0.0, 0.0)]:
        power = lambda x, n=n: safe.power(x, backend.convert(float(n)))  # noqa: E731
        assert derivative(power, 0.0) == first
        assert derivative(backend.grad(power), 0.0) == second
        assert derivative(power, 2.0) == n * 2.0 ** (n - 1)
    assert derivative(lambda x: safe.larger(x, 2.0), 3.0) == 1.0
    assert derivative(lambda x: safe.larger(x, x * 2.0), 0.0) == 2.0


@pytest.mark.parametrize(
    "constraint",
    [
        keras.constraints.MaxNorm(0.5),
        keras.constraints.UnitNorm(),
        keras.constraints.MinMaxNorm(0.5, 1.0, rate=0.5),
        keras.constraints.NonNeg(),
    ],
    ids=lambda c: type(c).__name__,
)
def test_constraints_of_a_zero_column(constraint):
    weight = backend.convert(np.array([[0.3, 0.0], [0.6, 0.0]]))
    ours = options.constrain(constraint, weight)
    assert np.max(np.abs(np.asarray(ours) - np.asarray(constraint(weight)))) <= 1e-15
    slope = backend.grad(lambda w: ops.sum(options.constrain(constraint, w) ** 2))
    assert np.all(np.isfinite(np.asarray(slope(weight))))


def test_a_gradient_that_is_not_finite_stays_visible():
    grads = [backend.convert(np.array([np.nan, 1.0])), backend.convert(np.ones(1))]
    for kind in ("clipnorm", "global_clipnorm", "clipvalue"):
        clipped = options.clip_gradients(kind, grads, {kind: 0.5})
        assert np.isnan(np.asarray(clipped[0])[0])
