"""Derivatives through updates are finite and right where gradients are exactly zero.

E is a smooth function of everything that two or more updates leave behind; its
derivative with respect to every number, the weights and the gradients is compared with
central differences in float64, whose own error is estimated by halving the step.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg
import truth
from hypergrad import backend
from hypergrad.rules import Adafactor, options, rule_for, safe
from nets import range_around
from registry import OWN

DRAW = np.random.default_rng(3)
WEIGHTS = [DRAW.normal(size=shape) for shape in [(3, 2), (2,), (3, 2)]]
# A dead unit and a feature that is always zero; no gradient at all; an embedding with a
# row that is never looked up.
ALIVE = [
    np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
    np.zeros(2),
    np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
]
GRADIENTS = [[DRAW.normal(size=a.shape) * a for a in ALIVE] for _ in range(2)]
OPTIONS = {
    "decay": {"weight_decay": 0.125},
    "clipnorm": {"weight_decay": 0.125, "clipnorm": 0.5},
    "loose": {"weight_decay": 0.125, "clipnorm": 50.0},
    "global": {"weight_decay": 0.125, "global_clipnorm": 0.5},
    "global_loose": {"weight_decay": 0.125, "global_clipnorm": 50.0},
    "clipvalue": {"weight_decay": 0.125, "clipvalue": 0.3},
}
CASES = [
    *((kind, list(OWN[kind].variants)[-1], "decay") for kind in OWN),
    *(
        pytest.param(case, marks=pytest.mark.slow, id="-".join(case))
        for case in [
            ("SGD", "plain", "decay"),
            ("Adam", "plain", "decay"),
            *(("AdamW", "plain", option) for option in OPTIONS if option != "decay"),
        ]
    ),
]


@functools.cache
def problem(kind, variant, option):
    """(E, its gradient, arguments), both compiled once for all tests."""
    declared = OWN[kind]
    arguments = {**declared.numbers, **OPTIONS[option], **declared.variants[variant]}
    variables = [keras.Variable(w) for w in WEIGHTS]
    rule = rule_for(declared.optimizer(**arguments), variables)

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
        keras.tree.map_structure(lambda x: backend.convert(np.asarray(x)), arguments),
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


def identify(case):
    return "-".join(case)


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_derivatives_with_zero_gradients(case):
    # Differences say little next to the kink of √v at g = 0, see `safe.sqrt`.
    assert check_against_differences(*problem(*case)) >= 0.5


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_all_gradients_zero(case):
    _, gradient, arguments = problem(*case)
    zeros = backend.zeros_like(arguments["gradients"])
    slopes = backend.to_numpy(gradient({**arguments, "gradients": zeros}))
    for slope in keras.tree.flatten(slopes):
        assert np.all(np.isfinite(slope))


@pytest.mark.float32
@pytest.mark.parametrize("kind", OWN)
def test_finite_in_float32_with_the_epsilons_of_keras(kind):
    """1e-7, and 1e-30 in Adafactor, whose square float32 does not hold."""
    optimizer = OWN[kind].optimizer()
    variables = [keras.Variable(w) for w in WEIGHTS]
    rule = rule_for(optimizer, variables)

    def outer(hparams, weights, steps):
        state = rule.init(weights)
        for grads in steps:
            weights, state = rule.update(grads, state, weights, hparams)
        return sum(ops.sum(ops.sin(w)) for w in weights)

    gradient = backend.jit(
        lambda *args: backend.grad(lambda three: outer(*three))(args), xla=True
    )
    numbers = {k: backend.convert(v) for k, v in rule.hyperparameters.items()}
    weights = [backend.convert(w) for w in WEIGHTS]
    steps = [[backend.convert(g) for g in grads] for grads in GRADIENTS]
    if type(rule) is Adafactor:
        # Dead unit and unused feature at once are 0/0 in its own arithmetic.
        for grads in steps:
            grads[0] = grads[0] + backend.convert(np.array([[1.0, 0.0]] * 3))
    for grads in (steps, backend.zeros_like(steps)):
        slopes = backend.to_numpy(gradient(numbers, weights, grads))
        for slope in keras.tree.flatten(slopes):
            assert np.all(np.isfinite(slope))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [("RMSprop", "centered-momentum", "decay"), ("AdamW", "plain", "global")],
    ids=identify,
)
def test_second_derivatives_are_finite_and_jvp_agrees_with_vjp(case):
    outer, _, arguments = problem(*case)
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
    outer, gradient, arguments = problem("Adam", "plain", "decay")
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


FEATURES, ROWS = 3, 4
"""The last feature is 0 in every example, the last row of the table never used."""


def embedded() -> keras.Model:
    """An embedding beside features; of three ReLU units one never fires."""
    ids, x = keras.Input((1,), dtype="int32"), keras.Input((FEATURES,))
    table = layers.Flatten()(layers.Embedding(ROWS, 2, name="table")(ids))
    hidden = layers.Dense(
        3,
        "relu",
        bias_initializer=keras.initializers.Constant([0.5, 0.5, -5.0]),
        name="hidden",
    )(layers.Concatenate()([table, x]))
    return keras.Model([ids, x], layers.Dense(1, name="out")(hidden))


def embedded_data(rows):
    draw = np.random.default_rng(rows)
    x = draw.normal(size=(rows, FEATURES)) * np.array([1.0, 1.0, 0.0])
    return [draw.integers(0, ROWS - 1, (rows, 1)), x], draw.normal(size=(rows, 1))


@pytest.mark.parametrize("kind", OWN)
def test_a_net_with_parts_that_never_have_a_gradient(kind, record_property):
    declared = OWN[kind]
    variant = declared.variants[list(declared.variants)[-1]]
    arguments = {"weight_decay": 0.125, **declared.numbers, **variant}
    numbers = {
        name: v
        for name, v in arguments.items()
        if type(v) is float and name not in declared.idle
    }
    if not declared.sees_gradients:
        numbers = {name: v for name, v in numbers.items() if name in declared.direct}
    model = embedded()
    model.compile(declared.optimizer(**arguments), "mse", jit_compile=False)
    values = {f"optimizer.{name}": value for name, value in numbers.items()}
    made = hg.Problem.from_model(
        model,
        *embedded_data(5),
        validation_data=embedded_data(7),
        batch_size=5,
        steps=3,
        hyperparameters={k: range_around(k, v) for k, v in values.items()},
    )
    found = truth.check_against_differences(made, values)
    record_property("relative_error", found)
    start = np.asarray(model.get_layer("table").embeddings.value)
    end = hg.hypergradient(made, values, hg.Reverse("all")).info["final_state"]
    moved = [np.asarray(w) for w in end.weights if tuple(w.shape) == start.shape][0]
    assert not np.allclose(moved[0], start[0])


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
    assert derivative(lambda x: safe.smaller(x, 2.0), 1.0) == 1.0
    for f in (safe.larger, safe.smaller):
        assert derivative(lambda x, f=f: f(x, 2.0), 2.0) == 0.0
        assert derivative(lambda x, f=f: f(x, x * 2.0), 0.0) == 2.0
    for x, slope in [(-2.0, -1.0), (0.0, 0.0), (2.0, 1.0)]:
        assert derivative(safe.absolute, x) == slope
    for p, slope in [(0.5, 0.25), (0.0, 0.0), (1.0, 1.0)]:
        power = lambda x, p=p: safe.real_power(x, backend.convert(p))  # noqa: E731
        assert float(power(backend.convert(0.0))) == 0.0**p
        assert derivative(power, 0.0) == 0.0
        assert derivative(power, 4.0) == slope
        assert derivative(lambda p: safe.real_power(backend.convert(0.0), p), p) == 0.0
    tiny = lambda x: safe.tiny_quotient(x, backend.convert(1e-30))  # noqa: E731
    assert float(tiny(backend.convert(3e-30))) == 3e-30 / 1e-30
    assert derivative(tiny, 1e-30) == pytest.approx(1e30)


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
        clipped = options.clip_gradients(kind, grads, [{kind: 0.5}] * 2)
        assert np.isnan(np.asarray(clipped[0])[0])
