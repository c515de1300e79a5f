"""Implicit hypergradients: closed forms, other methods, chunks, refusals, reports."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg
from hypergrad import backend, unroll
from hypergrad.bound import bind_values
from hypergrad.data import arrays
from hypergrad.linear import CG, FixedPoint, Identity, Neumann, Nystrom
from hypergrad.methods import Tape
from hypergrad.methods.back import Adjoint
from hypergrad.methods.curvature import Hessian
from hypergrad.methods.sample import Sample
from hypergrad.methods.step_map import StepMap
from linear_models import (
    L2,
    ROWS,
    WEIGHTS,
    X_VAL,
    Y_VAL,
    X,
    Y,
    linear_model,
    linear_problem,
)
from problems import (
    CLOSED_FORMS,
    UNIT,
    on_quadratic,
    quadratic,
    ridge,
    wavy,
)

RIDGES = [name for name in CLOSED_FORMS if name.startswith("F-")]


def same(a, b, tolerance=1e-12):
    assert a.status.ok and b.status.ok
    assert set(a.gradient) == set(b.gradient)
    for name, expected in b.gradient.items():
        scale = np.max(np.abs(expected))
        assert scale > 0
        assert np.max(np.abs(a.gradient[name] - expected)) <= tolerance * scale, name


@functools.cache
def ridge_of(name):
    """A closed form, whose problem all solvers share."""
    return CLOSED_FORMS[name]()


# Right numbers


@pytest.mark.parametrize("form", RIDGES)
@pytest.mark.parametrize(
    "solver",
    [
        CG(tolerance=1e-13),
        Neumann(400),
        Neumann(400, scale=0.5),
        Nystrom(3, rho=1e-13),
        FixedPoint(400),
    ],
    ids=str,
)
def test_closed_forms_at_the_solution(form, solver):
    form = ridge_of(form)
    h = hg.hypergradient(form.problem, form.values, hg.Implicit(solver))
    assert h.status.ok
    assert h.loss == pytest.approx(form.loss, rel=1e-12)
    for name, expected in form.gradient.items():
        assert np.shape(h.gradient[name]) == np.shape(expected)
        assert np.max(np.abs(h.gradient[name] - expected)) <= 1e-10
    assert h.info["residual"] <= 1e-12
    assert h.info["gradient_norm"] <= 1e-12
    assert 0 < h.info["products"] <= solver.products


@pytest.mark.parametrize("form, steps", list(zip(RIDGES, [1, 2, 5], strict=True)))
def test_neumann_is_truncated_gradient_descent(form, steps):
    """G. K terms with scale a at w* equal K steps of rate a from w*, swept back."""
    form = ridge_of(form)
    checked = form.problem.values(form.values)
    run = hg.Implicit().run(form.problem, checked)
    rate = np.asarray(0.7)
    data = {
        **form.problem.data,
        "start": backend.to_numpy(run.final.weights),
        "rate": rate,
    }
    problem = form.problem.replace(data=data, num_steps=steps)
    truncated = hg.hypergradient(problem, form.values, hg.Truncated(steps))
    neumann = hg.Implicit(Neumann(steps, float(rate)))
    same(hg.hypergradient(problem, form.values, neumann), truncated)
    fixed_point = hg.Implicit(FixedPoint(steps))
    same(hg.hypergradient(problem, form.values, fixed_point), truncated)


def test_identity_is_one_step_without_its_rate():
    form = ridge_of("F-ridge-per-example")
    run = hg.Implicit().run(form.problem, form.problem.values(form.values))
    start = backend.to_numpy(run.final.weights)
    data = {**form.problem.data, "start": start, "rate": np.asarray(1.0)}
    problem = form.problem.replace(data=data, num_steps=1)
    one = hg.hypergradient(problem, form.values, hg.Truncated(1))
    same(hg.hypergradient(problem, form.values, hg.Implicit(Identity())), one)


@pytest.mark.parametrize(
    "loss, jit_compile", [("mse", True), ("binary_crossentropy", False)]
)
def test_a_model_trained_to_the_end_agrees_with_reverse(loss, jit_compile):
    activation = "sigmoid" if loss == "binary_crossentropy" else None
    rate = keras.optimizers.SGD(0.5)
    model = linear_model(rate, loss, jit_compile, activation=activation)
    problem = linear_problem(model, steps=200)
    values = {WEIGHTS: np.linspace(0.5, 1.5, ROWS)}
    exact = hg.hypergradient(problem, values, hg.Reverse())
    for solver in (CG(1e-12), Neumann(300), FixedPoint(300)):
        h = hg.hypergradient(problem, values, hg.Implicit(solver))
        assert h.info["gradient_norm"] < 1e-10
        same(h, exact, 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer, steps",
    [
        (keras.optimizers.SGD(0.2, momentum=0.5), 200),
        (keras.optimizers.SGD(0.2, weight_decay=0.3), 200),
    ],
    ids=["momentum", "decay"],
)
def test_fixed_point_of_the_whole_step(optimizer, steps):
    """With slots, and numbers of the rule that move the fixed point."""
    optimizer = type(optimizer).from_config(optimizer.get_config())
    numbers = {L2: hg.Float(0.0, 1.0), WEIGHTS: hg.Float(0.0, 2.0, shape=(ROWS,))}
    if optimizer.weight_decay:
        numbers["optimizer.weight_decay"] = hg.Float(0.0, 1.0)
    problem = linear_problem(linear_model(optimizer), numbers=numbers, steps=steps)
    h = hg.hypergradient(problem, method=hg.Implicit(FixedPoint(300)))
    assert h.info["residual"] < 1e-10
    same(h, hg.hypergradient(problem), 1e-8)


# Chunks


def systems_of(problem, kind):
    """(A v for some v, dE/dbound after a pull of v, ‖∂L/∂θ‖) at the first state."""
    bound, state = unroll.start(problem, problem.values())
    tape = Tape({}, bound, 0.0, {}, [], state, state, np.empty(0))
    adjoint = Adjoint(problem, tape)
    v = adjoint.carry[0] if kind is StepMap else adjoint.carry[0].weights
    system = kind(problem, state, Sample(problem, bound, "all", 0))
    product = backend.to_numpy(system.product(v))
    length = system.pull(v, adjoint)
    whole = adjoint.bound()
    return product, backend.to_numpy(whole.shared), whole.per_example, length


def assert_equal_trees(a, b, tolerance=1e-12):
    for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
        scale = max(1e-3, np.max(np.abs(y), initial=0.0))
        assert np.max(np.abs(x - y), initial=0.0) <= tolerance * scale


@functools.cache
def whole_system(kind):
    return systems_of(weighted_problem(ROWS), kind)


def weighted_problem(batch_size):
    keras.utils.set_random_seed(7)
    model = linear_model(keras.optimizers.SGD(0.3))
    weights = np.linspace(0.5, 1.5, ROWS)
    return linear_problem(model, sample_weight=weights, batch_size=batch_size)


@pytest.mark.parametrize("kind", [Hessian, StepMap])
@pytest.mark.parametrize(
    "batch_size, batches", [(1, "Batches"), (5, "Batches"), (5, "HostBatches")]
)
def test_chunks_equal_the_whole(kind, batch_size, batches, monkeypatch):
    """With a partial chunk, penalties once, weights of examples; rows that travel."""
    whole = whole_system(kind)
    assert whole[-1] > 0.0
    if batches == "HostBatches":
        monkeypatch.setattr(arrays, "ON_DEVICE", 0)
    problem = weighted_problem(batch_size)
    assert type(problem.batches).__name__ == batches
    assert_equal_trees(systems_of(problem, kind), whole)


@pytest.mark.slow
def test_a_sample_of_several_blocks(monkeypatch):
    monkeypatch.setattr(unroll, "TRAVELLING", 40)  # bytes: ten indices
    model = linear_model(keras.optimizers.SGD(0.3))
    problem = linear_problem(model, batch_size=5, steps=2, shuffle=False)
    bound = bind_values(problem, problem.values())
    blocks = list(Sample(problem, bound, "all", 0))
    assert [int(b.inputs.length) for b in blocks] == [2, 1]
    monkeypatch.setattr(unroll, "TRAVELLING", 20)
    fresh = linear_problem(model, batch_size=5, steps=2, shuffle=False)
    blocks = list(Sample(fresh, bound, "all", 0))
    assert [int(b.inputs.length) for b in blocks] == [1, 1, 1]
    whole = systems_of(linear_problem(model), Hessian)
    assert_equal_trees(systems_of(fresh, Hessian), whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dataset", "functional"])
def test_batches_of_a_run_are_gone_over_once(kind):
    """Of a dataset, and of a Problem with ``batches``: each distinct batch, by rows."""
    if kind == "dataset":
        parts = [(X[:5], Y[:5]), (X[5:10], Y[5:10]), (X[10:], Y[10:])]
        model = linear_model(keras.optimizers.SGD(0.0))
        problem = hg.Problem.from_model(
            model,
            (part for part in parts * 2),
            steps=6,
            validation_data=(X_VAL, Y_VAL),
            hyperparameters={L2: hg.Float(0.0, 1.0)},
        )
        whole = linear_problem(model, numbers=(L2,))
    else:
        whole, problem = (functional(number) for number in (1, 3))
    method = hg.Implicit(CG(1e-13))
    same(
        hg.hypergradient(problem, method=method),
        hg.hypergradient(whole, method=method),
        1e-10,
    )


def functional(parts: int) -> hg.Problem:
    """Ridge regression that does not move, whose steps see a part of the rows."""
    index = np.array_split(np.arange(ROWS, dtype="int32"), parts)

    def loss(weights, state, hparams, batch, data):
        x, y = ops.take(data["x"], batch, axis=0), ops.take(data["y"], batch, axis=0)
        fit = ops.mean((ops.matmul(x, weights) - y[:, 0]) ** 2)
        return fit + hparams["l"] * ops.sum(weights**2), ()

    form = ridge()
    return hg.Problem(
        init=form.problem.init,
        train_loss=loss,
        update=lambda grads, state, hparams, aux, data: (state, {}),
        val_loss=form.problem.val_loss,
        num_steps=2 * parts,
        space={"l": hg.Float(0.0, 1.0, default=0.3)},
        data={"x": X, "y": Y, "start": np.array([1.0, 0.5, -0.5])},
        batches=lambda t: index[t % parts],
    )


def test_a_sample_of_the_rows():
    rows = 7
    model = linear_model(keras.optimizers.SGD(0.0))
    problem = linear_problem(model, batch_size=5, numbers=(L2,))
    found = [
        hg.hypergradient(problem, method=hg.Implicit(CG(1e-13), rows, seed))
        for seed in (3, 3, 4)
    ]
    index = np.random.default_rng(3).choice(ROWS, rows, replace=False)
    part = linear_problem(model, X[index], Y[index], numbers=(L2,))
    same(found[0], hg.hypergradient(part, method=hg.Implicit(CG(1e-13))), 1e-10)
    assert found[0].gradient[L2] == found[1].gradient[L2] != found[2].gradient[L2]


@pytest.mark.slow
def test_all_rows_drawn_are_all_rows():
    problem = linear_problem(batch_size=5)
    drawn = hg.hypergradient(problem, method=hg.Implicit(batch=ROWS))
    same(drawn, hg.hypergradient(problem, method=hg.Implicit()), 1e-10)


# Reports


def test_a_series_that_diverges_is_reported():
    form = ridge_of("F-ridge")
    method = hg.Implicit(Neumann(200, scale=50.0))
    h = hg.hypergradient(form.problem, form.values, method)
    assert h.loss == pytest.approx(form.loss)
    assert not h.status.ok and h.status.variable == "hypergradient"
    assert "The Neumann series diverges: term 1 is" in h.status.reason
    assert np.isnan(h.gradient["l"])
    assert h.info["products"] == 1 and h.info["residual"] > 1.0
    with pytest.raises(hg.NonFiniteError, match="Neumann series diverges"):
        hg.hypergradient(form.problem, form.values, method, raise_on_failure=True)


def saddle() -> hg.Problem:
    """One step on ½ w'Hw − s b'w with a negative eigenvalue."""
    q = quadratic((-0.5, 1.0, 2.0, 4.0))

    def loss(weights, state, hparams, batch, data):
        curved = ops.matmul(data["H"], weights)
        slope = hparams["s"] * data["b"]
        return ops.sum(weights * (0.5 * curved - slope)), ()

    return on_quadratic(
        q,
        num_steps=1,
        train_loss=loss,
        update=lambda grads, state, hparams, aux, data: (state, {}),
        space={"s": UNIT},
    )


def test_an_indefinite_hessian_is_detected():
    problem, q = saddle(), quadratic((-0.5, 1.0, 2.0, 4.0))
    for solver, text in (
        (CG(), "CG needs a positive definite Hessian"),
        (Neumann(50), "The Neumann series diverges"),
        (Nystrom(4), "Nystrom needs a positive semidefinite Hessian"),
    ):
        h = hg.hypergradient(problem, method=hg.Implicit(solver))
        assert not h.status.ok and text in h.status.reason
        assert "CG(damping=…)" in h.status.reason
        assert np.isnan(h.gradient["s"])
    h = hg.hypergradient(problem, method=hg.Implicit(CG(1e-13, damping=1.0)))
    _, g = wavy(q.start)
    expected = q.b @ np.linalg.solve(q.hessian + np.eye(4), g)
    assert h.gradient["s"] == pytest.approx(expected, rel=1e-10)


def test_a_number_without_influence_is_warned_of():
    q = quadratic()

    def loss(weights, state, hparams, batch, data):
        curved = ops.matmul(data["H"], weights)
        return ops.sum(weights * (0.5 * curved - hparams["s"] * data["b"])), ()

    space = {"rate": hg.Float(0.0, 1.0, default=0.3), "s": UNIT}
    problem = on_quadratic(q, num_steps=5, train_loss=loss, space=space)
    with pytest.warns(UserWarning, match="`rate` has no influence on the st") as said:
        h = hg.hypergradient(problem, method=hg.Implicit())
    assert said[0].filename == __file__
    assert h.gradient["rate"] == 0.0 and h.gradient["s"] != 0.0
    hg.hypergradient(problem, method=hg.Implicit())  # once is enough


def test_what_it_costs():
    form = ridge_of("F-ridge")
    assert hg.Implicit().exact is False
    assert hg.Implicit(Neumann(20, 0.1)).runs(form.problem) == 1 + 2.5 * 21 / 400
    assert hg.Implicit(CG()).runs(form.problem) == 1 + 2.5 * 102 / 400
    problem = linear_problem(batch_size=5, steps=10)
    assert hg.Implicit(Identity()).runs(problem) == 1 + 2.5 * 2 * (12 / 5) / 10
    assert hg.Implicit(Identity(), batch=10).runs(problem) == 1 + 2.5 * 2 * 2 / 10


@pytest.mark.slow
def test_layers_with_a_state():
    """BatchNormalization and Dropout, and a model that stays as it was."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=1),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    problem = linear_problem(model, numbers={L2: hg.Float(0.0, 1.0)}, steps=3)
    before = [np.array(v) for v in model.variables]
    found = [
        hg.hypergradient(problem, method=hg.Implicit(CG(None, 2, damping=50.0)))
        for _ in range(2)
    ]
    assert found[0].status.ok and found[0].gradient[L2] != 0.0
    assert found[0].gradient[L2] == found[1].gradient[L2]
    for v, old in zip(model.variables, before, strict=True):
        assert np.array_equal(np.array(v), old)
    # All that is random has the seeds of the last state.
    tape = hg.Implicit().run(problem, problem.values())
    sample = Sample(problem, tape.bound, "all", 0)
    hessian = Hessian(problem, tape.final, sample)
    b = Adjoint(problem, tape).carry[0].weights
    twice = [backend.to_numpy(hessian.product(b)) for _ in range(2)]
    assert_equal_trees(*twice, tolerance=0.0)


@pytest.mark.slow
def test_tuning_with_it():
    model = linear_model(keras.optimizers.SGD(0.3))
    numbers = {L2: hg.Float(1e-4, 1.0, sampling="log")}
    problem = linear_problem(model, numbers=numbers, steps=30)
    result = hg.tune(problem, outer_steps=4, method=hg.Implicit(), verbose=0)
    assert result.loss < result.history["val_loss"][0]
