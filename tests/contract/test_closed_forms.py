"""Every method that is exact or claims to be close, against closed forms A-F and M.

See ``tests/problems.py``.

A: gradient descent, one rate. B: a rate per step. C: heavy ball. D: one step.
E: initial weights. F: ridge regression. M: a shared value is the sum of per-step ones.
"""

import functools

import numpy as np
import pytest

import hypergrad as hg
from problems import (
    CLOSED_FORMS,
    ClosedForm,
    constant_rate,
    heavy_ball,
    shared_and_per_step,
)
from registry import METHODS

CASES = [
    pytest.param(name, method, id=f"{name}-{method.name}")
    for name, form in CLOSED_FORMS.items()
    for method in METHODS
    if method.applies_to((at := form()).problem, at.converged)
]
SHARED, PER_STEP = shared_and_per_step()
EXACT = [
    m for m in METHODS if m.exact and m.applies_to(SHARED.problem, converged=False)
]


def relative_error(found, expected) -> float:
    """The largest difference over the largest entry (of 1, where all are smaller)."""
    scale = max(1.0, np.max(np.abs(expected), initial=0.0))
    assert np.shape(found) == np.shape(expected)
    return float(np.max(np.abs(found - np.asarray(expected)), initial=0.0) / scale)


def worst_error(form: ClosedForm, method) -> float:
    h = hg.hypergradient(form.problem, form.values, method)
    assert h.status.ok
    assert set(h.gradient) == set(form.gradient)
    errors = [relative_error(h.loss, form.loss)]
    errors += [relative_error(h.gradient[k], form.gradient[k]) for k in form.gradient]
    return max(errors)


@functools.lru_cache(maxsize=1)
def made(form: str) -> ClosedForm:
    """Methods share what is compiled for a form."""
    return CLOSED_FORMS[form]()


@pytest.mark.parametrize("form, method", CASES)
def test_closed_form(form, method):
    allowed = max(1e-10, method.tolerance or 0.0)
    assert worst_error(made(form), method.make()) <= allowed


@pytest.mark.parametrize(
    "condition, num_steps, momentum",
    [
        (1e2, 50, None),
        (1e2, 5000, 0.9),
        (1e4, 50, None),
        (1e4, 5000, 0.9),
        (1e6, 50, None),
        (1e6, 5000, 0.9),
        (1e6, 5000, None),
    ],
)
def test_heavy_ball_of_bad_condition(condition, num_steps, momentum):
    if momentum is None:  # Polyak's rate and momentum
        form = heavy_ball(condition, num_steps)
    else:  # stable, and slow enough that the end still depends on the way
        rate = min(3.6 / condition, 2 * (1 - momentum) / num_steps)
        form = heavy_ball(condition, num_steps, rate, momentum)
    h = hg.hypergradient(form.problem, form.values)
    assert h.loss == pytest.approx(form.loss, rel=1e-8)
    for name, expected in form.gradient.items():
        assert abs(expected) > 1e-6
        assert h.gradient[name] == pytest.approx(expected, rel=1e-8), name


def test_the_cauchy_step_is_flat():
    form = CLOSED_FORMS["D-cauchy-step"]()
    beside = CLOSED_FORMS["D-one-step"]()
    flat = hg.hypergradient(form.problem, form.values).gradient["rate"]
    assert abs(flat) <= 1e-10 * abs(beside.gradient["rate"])


@pytest.mark.parametrize("method", EXACT, ids=lambda m: m.name)
def test_shared_is_the_sum_of_per_step(method):
    one = hg.hypergradient(SHARED.problem, SHARED.values, method.make())
    each = hg.hypergradient(PER_STEP.problem, PER_STEP.values, method.make())
    total = one.gradient["rate"]
    assert relative_error(each.gradient["rate"], PER_STEP.gradient["rate"]) <= 1e-10
    assert abs(each.gradient["rate"].sum() - total) <= 1e-12 * abs(total)


def test_the_derivative_by_the_logarithm():
    """dE/dlog a = a dE/da, through the transform of a log range."""
    form = constant_rate()
    log_range = hg.Float(1e-3, 1.0, sampling="log", default=0.3)
    problem = form.problem.replace(space={"rate": log_range})
    h = hg.hypergradient(problem, form.values)
    u = log_range.to_unconstrained(0.3)
    logistic = 1.0 / (1.0 + np.exp(-u))
    slope = 0.3 * np.log(1e3) * logistic * (1.0 - logistic)
    expected = slope * form.gradient["rate"]
    assert h.unconstrained_gradient["rate"] == pytest.approx(expected, rel=1e-10)
