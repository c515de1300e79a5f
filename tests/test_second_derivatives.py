"""Derivatives of hypergradients, and clear words where there can be none."""

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.backend import Traces
from nets import NETS, optimizer_of, problem_of
from problems import constant_rate, heavy_ball, initial_weights, quadratic, ridge, wavy
from registry import METHODS, RULES

EXACT = [m for m in METHODS if m.exact and not m.momentum_only]
UNROLLED = [m for m in EXACT if not m.needs_convergence]


def curvature(w):
    """∇²E of the validation loss of ``problems``, a diagonal."""
    i = np.arange(1.0, w.size + 1.0)
    return -(i**2) * np.sin(i * w) + 0.3 * w**2


def by_start_and_rate():
    """The closed form of E, differentiated twice: (problem, values, Hessian).

    w_T = w* + (I−aH)^T (w₀ − w*), so that with P = (I−aH)^T and e = w₀ − w*:
    d²E/dw₀² = P ∇²E P, d²E/da dw₀ = P ∇²E P'e + P' g, where P' = dP/da, and
    d²E/da² = (P'e)' ∇²E P'e + g'P''e.
    """
    form = initial_weights()
    q, T, a = quadratic(seed=4), form.problem.num_steps, form.values["rate"]
    h = q.eigenvalues

    def matrix(factors):
        return (q.basis * factors) @ q.basis.T

    P = matrix((1 - a * h) ** T)
    dP = matrix(-T * h * (1 - a * h) ** (T - 1))
    ddP = matrix(T * (T - 1) * h**2 * (1 - a * h) ** (T - 2))
    e = q.start - q.solution
    w = q.solution + P @ e
    g, C = wavy(w)[1], np.diag(curvature(w))
    mixed = P @ C @ dP @ e + dP @ g
    return (
        form,
        {
            "start": {"start": P @ C @ P, "rate": mixed},
            "rate": {
                "start": mixed,
                "rate": (dP @ e) @ C @ (dP @ e) + g @ ddP @ e,
            },
        },
    )


FORM, HESSIAN = by_start_and_rate()


@pytest.mark.parametrize("method", UNROLLED, ids=lambda m: m.name)
def test_a_closed_form(method):
    second = hg.second_derivatives(FORM.problem, FORM.values, method.make())
    assert second.status.ok
    assert second.loss == pytest.approx(FORM.loss)
    for a, row in HESSIAN.items():
        np.testing.assert_allclose(second.gradient[a], FORM.gradient[a], rtol=1e-9)
        for b, expected in row.items():
            found, error = second.hessian[a][b], second.error[a][b]
            assert found.shape == error.shape == np.shape(expected)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
            assert np.all(np.abs(found - expected) <= 3 * error + 1e-9)
    assert second.info["asymmetry"] <= 1e-6
    assert second.info["runs"] > 8 * method.make().runs(FORM.problem)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [m for m in EXACT if m.needs_convergence], ids=lambda m: m.name
)
def test_a_closed_form_of_a_solution(method):
    """Of ridge regression by its penalties: w = A⁻¹b, dw/dl_i = −A⁻¹ e_i w_i."""
    form = ridge("per_feature")
    data = form.problem.data
    x, y, s = (np.asarray(data[name]) for name in ("x", "y", "s"))
    inverse = np.linalg.inv((x.T * s) @ x + np.diag(form.values["l"]))
    w = inverse @ x.T @ (s * y)
    g = wavy(w)[1]
    first = -inverse * w  # column i: dw/dl_i
    # d²w/dl_i dl_j = A⁻¹ e_i (A⁻¹)_ij w_j + A⁻¹ e_j (A⁻¹)_ji w_i
    twice = np.einsum("ki,ij,j->kij", inverse, inverse, w)
    twice = twice + np.swapaxes(twice, 1, 2)
    expected = first.T @ np.diag(curvature(w)) @ first + np.einsum("k,kij", g, twice)
    second = hg.second_derivatives(form.problem, form.values, method.make(), halvings=5)
    np.testing.assert_allclose(second.hessian["l"]["l"], expected, rtol=1e-6)


def test_two_numbers_of_a_rule_are_symmetric():
    form = heavy_ball(16.0, 12, 0.05, 0.3)
    second = hg.second_derivatives(form.problem, form.values)
    mixed = second.hessian["rate"]["momentum"], second.hessian["momentum"]["rate"]
    assert mixed[0] == pytest.approx(mixed[1], rel=1e-6)
    assert abs(mixed[0] - mixed[1]) == pytest.approx(second.info["asymmetry"])
    error = second.error["rate"]["momentum"] + second.error["momentum"]["rate"]
    assert abs(mixed[0] - mixed[1]) <= 3 * error


def test_an_estimate_has_the_errors_of_an_estimate():
    form = constant_rate()
    exact = hg.second_derivatives(form.problem, form.values)
    rough = hg.second_derivatives(form.problem, form.values, hg.FiniteDifference(5))
    distance = abs(rough.hessian["rate"]["rate"] - exact.hessian["rate"]["rate"])
    assert 0.0 < distance <= 3 * rough.error["rate"]["rate"]
    assert rough.error["rate"]["rate"] > exact.error["rate"]["rate"]


def test_a_model_and_nothing_compiled_again():
    optimizer, _ = optimizer_of(RULES["Adam"], "plain", "bare")
    tuned = {"learning_rate": 0.0625, "beta_1": 0.75}
    problem, values = problem_of(NETS["tanh"], optimizer, tuned)
    hg.hypergradient(problem, values)
    before = Traces.total
    second = hg.second_derivatives(problem, values, halvings=5)
    assert Traces.total == before
    sizes = [abs(v) for row in second.hessian.values() for v in row.values()]
    assert second.info["asymmetry"] <= 1e-6 * max(sizes)


def test_beside_a_bound_and_where_nothing_is_finite():
    form = constant_rate()
    at_bound = hg.second_derivatives(form.problem, {"rate": 0.0})
    inside = hg.second_derivatives(form.problem, {"rate": 1e-6})
    assert at_bound.status.ok
    assert at_bound.hessian["rate"]["rate"] == pytest.approx(
        inside.hessian["rate"]["rate"], rel=1e-3
    )
    data = {**form.problem.data, "start": np.full(4, np.nan)}
    broken = form.problem.replace(data=data)
    second = hg.second_derivatives(broken, form.values)
    assert not second.status.ok and np.isnan(second.hessian["rate"]["rate"])
    with pytest.raises(hg.NonFiniteError):
        hg.second_derivatives(broken, form.values, raise_on_failure=True)


def test_refusals():
    form = constant_rate()
    with pytest.raises(TypeError, match="`method` must be a method"):
        hg.second_derivatives(form.problem, method="Reverse")
    with pytest.raises(TypeError, match="needs a hypergrad.Problem"):
        hg.second_derivatives("problem")
    with pytest.raises(ValueError, match="`halvings`"):
        hg.second_derivatives(form.problem, halvings=0)
    space = {"start": hg.Float(shape=(101,), default=0.0)}
    many = hg.Problem(
        init=lambda hparams: hparams["start"],
        step=lambda s, hparams, t: (s, {}),
        val_loss=lambda s, hparams: keras.ops.sum(s**2),
        num_steps=1,
        space=space,
    )
    with pytest.raises(ValueError, match="at most 100 numbers. Received: 101"):
        hg.second_derivatives(many)


# No derivative goes through a hypergradient: it says so

TEXT = "from the host.*is being traced.*hg.second_derivatives"


def slope(value, method):
    form = constant_rate()
    return hg.hypergradient(form.problem, {"rate": value}, method).gradient["rate"]


@pytest.mark.parametrize(
    "method",
    [m for m in METHODS if not m.momentum_only and m.rule_numbers],
    ids=lambda m: m.name,
)
def test_derivatives_and_traces_of_a_hypergradient_are_refused(method):
    made = method.make()
    for traced in transformations(lambda value: slope(value, made)):
        with pytest.raises(TypeError, match=TEXT):
            traced()


def transformations(function):
    """Calls that a framework follows."""
    if keras.backend.backend() == "jax":
        import jax

        yield lambda: jax.grad(function)(0.1)
        yield lambda: jax.jit(function)(0.1)
        yield lambda: jax.jvp(function, (0.1,), (1.0,))
        yield lambda: jax.vmap(function)(np.array([0.1, 0.2]))
        yield lambda: jax.jit(lambda: function(0.1))()
    else:
        import tensorflow as tf

        variable = tf.Variable(0.1, dtype="float64")
        constant = tf.constant(0.1, "float64")

        def under_a_tape(value, watched=None):
            with tf.GradientTape() as tape:
                if watched is not None:
                    tape.watch(watched)
                return function(value)

        def under_an_accumulator():
            with tf.autodiff.ForwardAccumulator(constant, constant):
                return function(constant)

        yield lambda: under_a_tape(variable)
        yield lambda: under_a_tape(keras.Variable(0.1))
        yield lambda: under_a_tape(constant, constant)
        yield under_an_accumulator
        yield lambda: tf.function(function, autograph=False)(constant)
        yield lambda: tf.function(lambda: function(0.1), autograph=False)()


def test_tensors_that_nothing_follows_are_values():
    tensor = keras.ops.convert_to_tensor(0.1, "float64")
    assert slope(tensor, hg.Reverse()) == slope(0.1, hg.Reverse())
    assert slope(keras.Variable(0.1, dtype="float64"), None) == slope(0.1, None)


def test_tune_and_search_are_refused_inside_of_a_trace():
    form = constant_rate()
    *_, compiled = transformations(
        lambda value: hg.tune(form.problem, outer_steps=1, verbose=0).loss
    )
    with pytest.raises(TypeError, match=TEXT):
        compiled()
