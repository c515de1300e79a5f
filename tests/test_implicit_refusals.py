"""What `Implicit` does not take, and what it says instead."""

import keras
import pytest

import hypergrad as hg
from hypergrad import backend
from hypergrad.linear import CG, FixedPoint, Neumann
from linear_models import L2, ROWS, linear_model, linear_problem
from problems import descend, on_quadratic, opaque, quadratic, rate_per_step, ridge


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: hg.Implicit("cg"), "`solver` of Implicit must be a solver of hyperg"),
        (lambda: hg.Implicit(CG), "such as hg.linear.CG()"),
        (lambda: hg.Implicit(batch=0), '`batch` of Implicit must be "all" or an int'),
        (lambda: hg.Implicit(batch="some"), "Received: 'some'"),
        (lambda: hg.Implicit(batch=True), "Received: True"),
        (lambda: hg.Implicit(seed=-1), "`seed` of Implicit must be an int of at least"),
    ],
)
def test_arguments(make, text):
    with pytest.raises((TypeError, ValueError)) as error:
        make()
    assert text in str(error.value)


def refusal(problem, method) -> str:
    """What is said before anything but a bind is traced."""
    before = backend.Traces.total
    with pytest.raises(ValueError) as error:
        hg.hypergradient(problem, method=method)
    assert backend.Traces.total - before <= (problem.bind is not None)
    return str(error.value)


def test_an_opaque_step_is_refused():
    problem = on_quadratic(quadratic(), step=opaque(descend), num_steps=3)
    for solver in (CG(), FixedPoint(3)):
        text = refusal(problem, hg.Implicit(solver))
        assert "Received: one with an opaque `step`. Use Reverse()" in text


NO_INFLUENCE = (
    "has no influence on the stationary point of the training loss, so that the "
    "implicit hypergradient is zero."
)


def sgd(**arguments):
    return keras.optimizers.SGD(**{"learning_rate": 0.1, **arguments})


@pytest.mark.parametrize("solver", [CG(), FixedPoint(5)], ids=["CG", "FixedPoint"])
@pytest.mark.parametrize(
    "path, fix",
    [
        ("optimizer.learning_rate", "Use Reverse() or Truncated()."),
        ("optimizer.momentum", "Use Reverse() or Truncated()."),
        ("initial.dense.kernel", "Use Reverse()."),
        ("scale.dense.bias", "Use Reverse()."),
    ],
)
def test_numbers_of_the_way_are_refused(path, fix, solver):
    model = linear_model(sgd(momentum=0.5))
    text = refusal(linear_problem(model, numbers=[path]), hg.Implicit(solver))
    assert text == f"`{path}` {NO_INFLUENCE} {fix}"


def test_numbers_of_a_schedule_are_refused():
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    path = "optimizer.learning_rate.decay_rate"
    problem = linear_problem(linear_model(sgd(learning_rate=rate)), numbers=[path])
    assert f"`{path}` {NO_INFLUENCE}" in refusal(problem, hg.Implicit())


def test_numbers_behind_a_bind_are_refused():
    problem = linear_problem(
        numbers={"a": hg.Float(0.0, 1.0, default=0.1)},
        bind=lambda h: {"optimizer.learning_rate": h["a"], L2: h["a"]},
    )
    text = refusal(problem, hg.Implicit())
    assert f"`optimizer.learning_rate` {NO_INFLUENCE}" in text


def test_a_decoupled_decay_is_refused_but_for_fixed_points():
    model = linear_model(sgd(weight_decay=0.1))
    problem = linear_problem(model, numbers=["optimizer.weight_decay"])
    text = refusal(problem, hg.Implicit(Neumann(5)))
    assert "`optimizer.weight_decay` is decoupled from the training loss" in text
    assert "kernel_regularizer.l2` instead, or use Implicit(FixedPoint(…))" in text
    assert hg.hypergradient(problem, method=hg.Implicit(FixedPoint(20))).status.ok


def test_numbers_per_step_are_refused():
    text = refusal(rate_per_step().problem, hg.Implicit())
    assert "Received: 'rate' with a value for each step" in text
    numbers = {L2: hg.Schedule(hg.Float(0.0, 1.0, default=0.1), knots=2)}
    text = refusal(linear_problem(numbers=numbers, steps=4), hg.Implicit())
    assert f"Received: {L2!r} with a value for each step" in text
    assert "Use Reverse() or Truncated()" in text


def test_accumulated_gradients_are_refused_for_fixed_points():
    model = linear_model(sgd(gradient_accumulation_steps=2))
    problem = linear_problem(model, numbers=(L2,))
    text = refusal(problem, hg.Implicit(FixedPoint(5)))
    assert "gradient_accumulation_steps=2. Use Implicit(CG())" in text
    assert hg.hypergradient(problem, method=hg.Implicit()).status.ok


def test_rows_that_cannot_be_drawn_are_refused():
    text = refusal(ridge().problem, hg.Implicit(batch=4))
    assert "`batch` of Implicit draws rows of the arrays" in text
    text = refusal(linear_problem(), hg.Implicit(batch=ROWS + 1))
    assert "must not exceed the 12 training examples. Received: 13" in text
