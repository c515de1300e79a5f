"""`FiniteDifference`: right, and never more sure of itself than it may be."""

import dataclasses

import numpy as np
import pytest
from keras import ops

import hypergrad as hg
from hypergrad.methods.differences import CENTRAL, Sampled, extrapolated
from nets import NETS, optimizer_of, problem_of
from problems import (
    CLOSED_FORMS,
    UNIT,
    constant_rate,
    descend,
    heavy_ball,
    on_quadratic,
    quadratic,
    train_loss,
)
from registry import RULES

JUDGE = hg.FiniteDifference()


def check(h: hg.Hypergradient, expected: dict, relative: float = 1e-7) -> None:
    """The true error is at most 3 × the estimate, which is small."""
    assert h.status.ok, h.status
    for name, truth in expected.items():
        error = np.abs(h.gradient[name] - truth)
        rounding = 1e-12 * max(1.0, abs(float(h.loss)))
        assert h.info["error"][name].shape == np.shape(truth)
        assert np.all(error <= 3.0 * h.info["error"][name] + rounding), name
        allowed = relative * np.abs(truth) + rounding
        assert np.all(h.info["error"][name] <= allowed), name
        assert np.all(h.info["reliable"][name])


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    form = CLOSED_FORMS[name]()
    h = hg.hypergradient(form.problem, form.values, JUDGE)
    check(h, form.gradient)
    assert h.loss == pytest.approx(form.loss, rel=1e-10)
    assert h.info["runs"] <= JUDGE.runs(form.problem)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [5, 60])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.4, 0.49, 0.52])
def test_errors_are_honest(num_steps, rate):
    """From runs that barely move to runs that diverge."""
    form = constant_rate(num_steps, rate)
    h = hg.hypergradient(form.problem, form.values, JUDGE)
    check(h, form.gradient, relative=1e-7)


@pytest.mark.parametrize(
    "value, side", [(0.0, 1), (1e-6, 1), (0.3, 0), (1.0 - 1e-6, -1), (1.0, -1)]
)
def test_on_and_near_bounds(value, side):
    form = constant_rate(4, value)
    h = hg.hypergradient(form.problem, form.values, JUDGE)
    check(h, form.gradient, relative=1e-6)
    assert h.info["one_sided"]["rate"] == side


def with_penalty(range_: hg.Float) -> hg.Problem:
    """The root of a penalty: it changes on the scale of the penalty itself."""

    def loss(weights, state, hparams, batch, data):
        soft = ops.sqrt(hparams["l"] + 1e-4)
        value, aux = train_loss(weights, state, hparams, batch, data)
        return value + 0.5 * soft * ops.sum(weights**2), aux

    return on_quadratic(
        quadratic(),
        train_loss=loss,
        update=lambda grads, state, hparams, aux, data: descend(
            grads, state, {"rate": 0.2}, aux, data
        ),
        num_steps=4,
        space={"l": range_},
    )


@pytest.mark.parametrize(
    "range_, value",
    [
        (hg.Float(1e-8, 1e-1, sampling="log", default=0.0), 0.0),
        (hg.Float(1e-8, 1e-1, sampling="log"), 1e-8),
        (hg.Float(1e-8, 1e-1, sampling="log"), 3e-4),
        (hg.Float(1e-8, 1e-1, sampling="log"), 1e-1),
        (hg.Float(0.0, None), 1e-4),
        (hg.Float(0.0, None), 40.0),
        (hg.Float(None, 2.0), 0.5),
        (hg.Float(), 25.0),
        (hg.Float(0.0, 0.9999, sampling="reverse_log"), 0.999),
        (hg.Float(0.0, 1.0, constraint=lambda v: np.clip(v, 0.0, 1.0)), 0.25),
    ],
)
def test_every_kind_of_range(range_, value):
    problem = with_penalty(range_)
    exact = hg.hypergradient(problem, {"l": value})
    h = hg.hypergradient(problem, {"l": value}, JUDGE)
    check(h, exact.gradient, relative=1e-5)
    assert h.unconstrained_gradient["l"] == pytest.approx(
        exact.unconstrained_gradient["l"], rel=1e-5, abs=1e-12
    )


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_a_keras_model(rule):
    optimizer, tuned = optimizer_of(RULES[rule], [*RULES[rule].variants][-1], "decay")
    problem, values = problem_of(NETS["tanh"], optimizer, tuned)
    exact = hg.hypergradient(problem, values)
    h = hg.hypergradient(problem, values, JUDGE)
    check(h, exact.gradient, relative=1e-5)
    assert h.loss == pytest.approx(exact.loss, rel=1e-12)
    assert h.metrics == pytest.approx(exact.metrics)


def of_value(loss, num_steps: int = 1) -> hg.Problem:
    """A problem whose E is a function of its one number alone."""
    return on_quadratic(
        quadratic(),
        num_steps=num_steps,
        val_loss=lambda state, hparams, data: loss(hparams["rate"]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("amplitude", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("value", [0.3, 0.5, 0.7])
def test_noise_is_owned_up_to(amplitude, value):
    """A function so rough that differences see noise: slope 1 on their scale."""

    def rough(rate):
        uniform = 43758.5453 * ops.sin(1e12 * rate)
        return rate + amplitude * (uniform - ops.floor(uniform))

    h = hg.hypergradient(of_value(rough), {"rate": value}, JUDGE)
    assert h.status.ok
    assert 0.1 * amplitude <= h.info["noise"] <= 0.6 * amplitude  # in truth 0.29
    error = h.info["error"]["rate"]
    assert abs(h.gradient["rate"] - 1.0) <= 3.0 * error
    assert error >= amplitude
    assert h.info["reliable"]["rate"] == (error <= 0.01 * abs(h.gradient["rate"]))
    assert h.info["reliable"]["rate"] or amplitude == 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("value", np.linspace(0.2, 0.8, 12))
def test_waves_within_the_first_steps(value):
    """Slopes that large steps do not see at all."""
    wavy = of_value(lambda rate: rate + 0.01 * ops.sin(2e3 * rate))
    h = hg.hypergradient(wavy, {"rate": value}, JUDGE)
    truth = 1.0 + 20.0 * np.cos(2e3 * value)
    assert abs(h.gradient["rate"] - truth) <= 3.0 * h.info["error"]["rate"]
    assert h.info["error"]["rate"] <= 1e-4


def test_smaller_steps_contradict_an_accident():
    """Two large steps agree to 1e-4, two small ones to 1 %, on another number."""
    quotients = {1.0: 2.0, 0.5: 2.0001, 0.25: 9.0, 0.125: 60.0, 0.0625: 60.5}
    found = extrapolated(
        lambda h: Sampled(quotients[h], 1e-9), 1.0, len(quotients), CENTRAL, 1e-9
    )
    assert found.value == pytest.approx(60.0, rel=0.1)
    assert 0.1 <= found.error <= 6.0


def test_a_kink_beside_the_point_is_halved_away():
    h = hg.hypergradient(
        of_value(lambda rate: rate**2 + ops.abs(rate - 0.502)), method=JUDGE
    )
    check(h, {"rate": 0.0}, relative=1e-7)


def test_losses_that_are_not_finite_are_left_out():
    def edge(rate):
        return ops.where(rate > 0.502, np.nan, rate**3)

    h = hg.hypergradient(of_value(edge), method=JUDGE)
    check(h, {"rate": 0.75})


def test_nothing_finite_around_the_value():
    h = hg.hypergradient(
        of_value(lambda rate: ops.where(rate == 0.5, rate, np.nan)), method=JUDGE
    )
    assert not h.status.ok and np.isnan(h.gradient["rate"])
    assert h.status.variable == "rate"
    assert "No step away from `rate` gave finite losses" in h.status.reason
    assert np.isinf(h.info["error"]["rate"])


def test_a_number_without_influence():
    h = hg.hypergradient(of_value(lambda rate: 3.0 + 0.0 * rate), method=JUDGE)
    assert h.gradient["rate"] == 0.0
    assert h.info["error"]["rate"] < 1e-12 and h.info["reliable"]["rate"]


def test_more_halvings_know_more():
    form = heavy_ball()
    errors = []
    for halvings in (1, 2, 3, 4):
        method = hg.FiniteDifference(halvings)
        h = hg.hypergradient(form.problem, form.values, method)
        assert h.info["runs"] == method.runs(form.problem) == 8 + 4 * (halvings + 1)
        errors.append(h.info["error"]["rate"])
    assert errors == sorted(errors, reverse=True)


def test_too_many_numbers_are_refused():
    space = {"start": hg.Float(shape=(1001,)), "rate": UNIT}
    problem = on_quadratic(quadratic(np.ones(1001)), num_steps=2, space=space)
    with pytest.raises(ValueError, match="at most 1000 numbers. Received: 1002") as e:
        hg.hypergradient(problem, method=JUDGE)
    for text in ("22052 trainings", "Reverse()", "EvolutionStrategies()"):
        assert text in str(e.value)


@pytest.mark.parametrize("halvings", [0, -1, 2.0, True, None])
def test_halvings_are_checked(halvings):
    with pytest.raises(ValueError, match="`halvings` of FiniteDifference must be an"):
        hg.FiniteDifference(halvings)


@pytest.mark.parametrize("step", [0.0, -0.1, 1.5, np.nan, "1", True])
def test_steps_are_checked(step):
    with pytest.raises(ValueError, match="`step` of FiniteDifference must be a number"):
        hg.FiniteDifference(step=step)


@pytest.mark.float32
def test_errors_are_honest_in_float32():
    form = constant_rate()
    for method in (JUDGE, dataclasses.replace(JUDGE, step=0.5)):
        h = hg.hypergradient(form.problem, form.values, method)
        error = abs(h.gradient["rate"] - form.gradient["rate"])
        assert error <= 3.0 * h.info["error"]["rate"] + 1e-6 * abs(h.loss)
        assert h.info["error"]["rate"] <= 1e-2 * abs(form.gradient["rate"])
