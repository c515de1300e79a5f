"""Numbers reach a step by different roads, and methods store differently: one answer.

Shared, per-step and per-example numbers against the same problem written densely, an
opaque step against gradient and rule, and every way of storing against the others.
"""

import dataclasses
import functools

import numpy as np
import pytest
from keras import ops

import hypergrad as hg
from nets import NETS, optimizer_of, problem_of
from problems import (
    CLOSED_FORMS,
    UNIT,
    descend,
    heavy_ball_update,
    on_quadratic,
    opaque,
    quadratic,
    ridge,
    train_loss,
)
from registry import METHODS, RULES

EXACT = [m for m in METHODS if m.exact and not m.needs_convergence]
OPAQUE = [m for m in EXACT if m.opaque_step and not m.momentum_only]
FUNCTIONAL = [m for m in EXACT if not m.momentum_only]
STEPS = 7


def same(a: hg.Hypergradient, b: hg.Hypergradient, tolerance: float = 1e-12) -> None:
    assert a.status.ok and b.status.ok
    assert abs(a.loss - b.loss) <= tolerance * abs(b.loss)
    assert set(a.gradient) == set(b.gradient)
    for name, expected in b.gradient.items():
        scale = np.max(np.abs(expected))
        assert scale > 0
        assert np.max(np.abs(a.gradient[name] - expected)) <= tolerance * scale, name


@pytest.mark.parametrize("method", FUNCTIONAL, ids=lambda m: m.name)
def test_per_step_slices_equal_the_dense_form(method):
    """``PerStep`` against a step that is shown all rates and takes its own."""
    q = quadratic(seed=6)
    space = {"rate": dataclasses.replace(UNIT, shape=(STEPS,)), "scale": UNIT}
    values = {"rate": np.linspace(0.05, 0.4, STEPS), "scale": 0.7}

    def bind(hparams):
        rate = hparams["rate"] * hparams["scale"]
        return {"rate": hg.PerStep(rate), "scale": hparams["scale"]}

    sliced = on_quadratic(q, num_steps=STEPS, space=space, bind=bind)

    def loss_and_index(weights, state, hparams, t, data):
        return train_loss(weights, state, hparams, t, data)[0], t

    def dense_update(grads, state, hparams, t, data):
        rate = ops.take(hparams["rate"], t) * hparams["scale"]
        return descend(grads, state, {"rate": rate}, (), data)

    dense = on_quadratic(
        q,
        num_steps=STEPS,
        space=space,
        train_loss=loss_and_index,
        update=dense_update,
    )
    same(
        hg.hypergradient(sliced, values, method.make()),
        hg.hypergradient(dense, values, hg.Reverse("all")),
    )


@functools.cache
def per_example_problem(sliced, whole_batches):
    """Ridge regression with weights of examples, sliced outside or in the step."""
    form = ridge("per_example")
    order = np.random.default_rng(0).permutation(9).astype("int32")

    def batches(t):
        if whole_batches:
            return order
        return order[(t % 3) * 3 : (t % 3) * 3 + 3]

    def loss(weights, state, hparams, batch, data, sliced):
        x, y = ops.take(data["x"], batch, axis=0), ops.take(data["y"], batch)
        s = hparams["s"] if sliced else ops.take(hparams["s"], batch)
        residual = ops.matmul(x, weights) - y
        penalty = ops.sum(hparams["l"] * weights**2)
        return 0.5 * ops.sum(s * residual**2) + 0.5 * penalty, ()

    return hg.Problem(
        init=form.problem.init,
        train_loss=lambda *args: loss(*args, sliced),
        update=form.problem.update,
        val_loss=form.problem.val_loss,
        num_steps=STEPS,
        space=form.problem.space,
        data=form.problem.data,
        batches=batches,
        bind=(lambda h: {"s": hg.PerExample(h["s"]), "l": h["l"]}) if sliced else None,
    )


@pytest.mark.parametrize("method", FUNCTIONAL, ids=lambda m: m.name)
@pytest.mark.parametrize("whole_batches", [True, False])
def test_per_example_slices_equal_the_dense_form(method, whole_batches):
    """``PerExample`` against a step that is shown all weights and takes its rows."""
    form = ridge("per_example")
    found = hg.hypergradient(
        per_example_problem(True, whole_batches), form.values, method.make()
    )
    dense = hg.hypergradient(
        per_example_problem(False, whole_batches), form.values, hg.Reverse("all")
    )
    same(found, dense)


def test_per_example_slices_have_the_closed_form():
    form = CLOSED_FORMS["F-ridge-per-example"]()

    def loss(weights, state, hparams, batch, data):
        residual = ops.matmul(data["x"], weights) - data["y"]
        fit = 0.5 * ops.sum(ops.flip(hparams["s"]) * ops.flip(residual**2))
        return fit + 0.5 * ops.sum(hparams["l"] * weights**2), ()

    problem = hg.Problem(
        init=form.problem.init,
        train_loss=loss,
        update=form.problem.update,
        val_loss=form.problem.val_loss,
        num_steps=form.problem.num_steps,
        space=form.problem.space,
        data=form.problem.data,
        batches=lambda t: np.arange(9, dtype="int32"),
        bind=lambda h: {"s": hg.PerExample(h["s"]), "l": h["l"]},
    )
    h = hg.hypergradient(problem, form.values)
    for name, expected in form.gradient.items():
        assert h.gradient[name] == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("method", OPAQUE, ids=lambda m: m.name)
@pytest.mark.parametrize("update", [descend, heavy_ball_update])
def test_an_opaque_step_equals_gradient_and_rule(method, update):
    space = {"rate": UNIT, "start": hg.Float(shape=(4,))}
    values = {"rate": 0.2, "start": np.array([0.5, -1.0, 2.0, 0.1])}
    if update is heavy_ball_update:
        space["momentum"] = UNIT
        values["momentum"] = 0.6
    parts = {"num_steps": STEPS, "space": space}
    two = on_quadratic(quadratic(), update=update, **parts)
    one = on_quadratic(quadratic(), step=opaque(update), **parts)
    same(
        hg.hypergradient(one, values, method.make()),
        hg.hypergradient(two, values, method.make()),
    )


def test_all_ways_of_storing_agree_on_a_keras_model():
    """With a partial batch in each epoch, so that segments end early too."""
    optimizer, tuned = optimizer_of(RULES["SGD"], "momentum", "bare")
    problem, values = problem_of(NETS["tanh"], optimizer, tuned, rows=7, steps=9)
    plain = hg.hypergradient(problem, values, hg.Reverse("all"))
    for method in EXACT:
        found = hg.hypergradient(problem, values, method.make())
        same(found, plain, method.tolerance or 1e-12)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 8, 17])
def test_all_ways_of_storing_agree_for_every_length(num_steps):
    """Fewer steps than a segment has room for, exactly as many, and one more."""
    problem = on_quadratic(
        quadratic(),
        num_steps=num_steps,
        update=heavy_ball_update,
        space={"rate": UNIT, "momentum": UNIT},
    )
    values = {"rate": 0.2, "momentum": 0.6}
    plain = hg.hypergradient(problem, values, hg.Reverse("all"))
    if num_steps == 1:
        assert plain.gradient["momentum"] == 0.0  # the velocity was 0
        return
    for method in EXACT:
        if method.applies_to(problem):
            same(hg.hypergradient(problem, values, method.make()), plain)


def test_a_hypergradient_is_the_same_when_asked_again():
    """Bit for bit: nothing is left behind by a run or by a sweep."""
    optimizer, tuned = optimizer_of(RULES["SGD"], "momentum", "bare")
    problem, values = problem_of(NETS["tanh"], optimizer, tuned)
    for method in EXACT:
        first, second = (
            hg.hypergradient(problem, values, method.make()) for _ in range(2)
        )
        assert first.loss == second.loss
        for name in values:
            assert first.gradient[name] == second.gradient[name]
