"""Screening by a model of E: its mathematics, what it moves, and what it proposes."""

import dataclasses
import gc
import math

import keras
import numpy as np
import pytest
from scipy.stats import norm

import hypergrad as hg
from hypergrad.outer import (
    AbstractScreening,
    BayesianScreening,
    Screening,
    Seen,
    bayesian,
    surrogate,
)
from hypergrad.outer.bayesian import Known
from hypergrad.outer.coordinates import Coordinates
from hypergrad.outer.study import Scored
from hypergrad.space import Float

RATE = Float(1e-5, 1.0, sampling="log", default=1e-4)
DECAY = Float(0.0, 0.9999, sampling="reverse_log", default=0.5)
SPACE = {"rate": RATE, "decay": DECAY}


def points(n=24, d=3, seed=0):
    rng = np.random.default_rng(seed)
    x = 4.0 * rng.random((n, d))
    return x, np.sin(x[:, 0]) + 0.1 * x[:, 1] ** 2 + 0.01 * rng.standard_normal(n)


# The process


def test_the_slope_of_the_misfit_is_that_of_its_differences():
    x, y = points()
    squares = (x[:, None] - x[None]) ** 2
    theta = np.array([0.3, 0.2, -0.1, 0.5, -3.0])

    def f(theta):
        return surrogate._misfit(theta, squares, y)[0]

    slope = surrogate._misfit(theta, squares, y)[1]
    h = 1e-5
    differences = [(f(theta + h * e) - f(theta - h * e)) / (2 * h) for e in np.eye(5)]
    np.testing.assert_allclose(slope, differences, rtol=1e-6, atol=1e-7)


def test_the_misfit_is_the_gaussian_likelihood():
    x, y = points(6)
    squares = (x[:, None] - x[None]) ** 2
    theta = np.log([1.0, 2.0, 3.0, 0.7, 0.05])
    k = 0.7 * np.exp(-0.5 * (squares / np.array([1.0, 4.0, 9.0])).sum(-1))
    k += (0.05 + surrogate.JITTER) * np.eye(6)
    by_hand = 0.5 * y @ np.linalg.inv(k) @ y + 0.5 * np.log(np.linalg.det(k))
    assert surrogate._misfit(theta, squares, y)[0] == pytest.approx(by_hand)


def test_a_process_predicts_and_knows_what_it_does_not_know():
    x, y = points(60)
    fitted = surrogate.fit(x, y)
    inside = points(20, seed=1)[0]
    truth = np.sin(inside[:, 0]) + 0.1 * inside[:, 1] ** 2
    mean, std = fitted.predict(inside)
    assert np.max(np.abs(mean - truth)) < 0.1
    assert np.mean(np.abs(mean - truth) < 3 * std) > 0.9
    assert np.max(fitted.predict(x)[1]) < fitted.predict(np.full((1, 3), 40.0))[1]
    assert fitted.lengths[2] > 2 * fitted.lengths[0]  # of no influence


def test_constant_values_make_a_process_too():
    x = points()[0]
    mean, std = surrogate.fit(x, np.full(len(x), 3.0)).predict(x)
    np.testing.assert_allclose(mean, 3.0)
    assert np.isfinite(std).all()


def test_expected_improvement_is_its_integral():
    fitted = surrogate.fit(*points())
    at = points(4, seed=2)[0]
    mean, std = fitted.predict(at)
    for m, s, found in zip(
        mean, std, surrogate.expected_improvement(fitted, at, least=0.2)
    ):
        f = np.linspace(m - 10 * s, 0.2, 200_001) if m - 10 * s < 0.2 else np.zeros(2)
        by_hand = np.trapezoid((0.2 - f) * norm.pdf(f, m, s), f) if f.any() else 0.0
        assert found == pytest.approx(by_hand, rel=1e-4, abs=1e-12)


# What is moved


def test_few_entries_are_moved_one_by_one():
    space = {"rate": RATE, "l2": Float(0.0, 2.0, shape=(3,))}
    box = Coordinates(space)
    assert [c.entry for c in box.all] == [0, 0, 1, 2] and not box.tied
    np.testing.assert_allclose(box.widths, [5.0, 4.0, 4.0, 4.0])
    values = {"rate": np.array(1e-3), "l2": np.array([0.5, 1.0, 1.5])}
    place = box.place(values)
    np.testing.assert_allclose(place, [2.0, 1.0, 2.0, 3.0])
    back = box.values(place, {})
    np.testing.assert_allclose(back["rate"], 1e-3)
    np.testing.assert_allclose(back["l2"], values["l2"])


def test_of_many_entries_a_group_has_one_value_and_a_plain_array_none():
    space = {
        "rate": hg.PerVariable(RATE).expand(40),
        "weight": Float(0.0, 2.0, shape=(30,), default=1.0),
        "decay": DECAY,
        "free": Float(0.0),
    }
    box = Coordinates(space)
    assert [(c.name, c.entry) for c in box.all] == [("rate", None), ("decay", None)]
    base = {name: float_.start() for name, float_ in space.items()}
    values = box.values(np.array([1.0, 2.0]), base)
    np.testing.assert_allclose(values["rate"], np.full(40, 1e-4))
    np.testing.assert_allclose(values["decay"], 0.99)
    np.testing.assert_array_equal(values["weight"], base["weight"])
    np.testing.assert_allclose(box.place(values), [1.0, 2.0])


def test_a_schedule_of_many_knots_is_a_straight_line_on_its_scale():
    curves = hg.space.groups.layout(hg.Schedule(hg.PerVariable(RATE), knots=5))
    box = Coordinates({"rate": curves.expand(4)})
    assert [c.entry for c in box.all] == ["first", "last"]
    values = box.values(np.array([4.0, 2.0]), {})
    line = 10.0 ** np.array([-1.0, -1.5, -2.0, -2.5, -3.0])
    np.testing.assert_allclose(values["rate"], np.repeat(line[:, None], 4, axis=1))
    np.testing.assert_allclose(box.place(values), [4.0, 2.0])
    # quasi-random screening, and one knot: a constant
    assert len(Coordinates({"rate": curves.expand(4)}, tied=True)) == 1
    one = hg.space.groups.layout(hg.Schedule(hg.PerVariable(RATE), knots=1))
    assert [c.entry for c in Coordinates({"rate": one.expand(20)}).all] == [None]


def test_a_start_on_a_bound_has_a_place():
    space = {"l2": Float(1e-7, 1e-1, sampling="log", default=0.0)}
    np.testing.assert_allclose(
        Coordinates(space).place({"l2": np.array(0.0)}), 0.0, atol=1e-9
    )


# What is proposed


def bowl(values):
    rate, decay = (float(values[n]) for n in SPACE)
    return 1.0 + (math.log10(rate) + 2.0) ** 2 + (math.log10(1.0 - decay) + 2.0) ** 2


def screened(screening, loss=bowl, runs=math.inf, most=64, space=SPACE, seed=0):
    """The values and losses that a screening makes of a function."""
    base = {name: float_.start() for name, float_ in space.items()}
    values, losses = [base], [loss(base)]
    while len(losses) < most:
        new = screening.propose(space, Seen(base, values, losses, 1, runs), seed)
        if new is None:
            break
        values.append(new)
        losses.append(loss(new))
    return values, np.array(losses)


def test_a_model_finds_the_minimum_that_quasirandom_points_miss():
    for seed in range(3):
        guided = screened(BayesianScreening(), runs=24, seed=seed)[1]
        blind = screened(Screening(23), seed=seed)[1]
        assert np.min(guided) - 1.0 < min(2e-3, 0.1 * (np.min(blind) - 1.0))


def test_it_ends_where_nothing_is_to_be_gained():
    losses = screened(BayesianScreening(), runs=1000, most=200)[1]
    assert 12 < len(losses) < 60


def test_runs_of_another_training_are_worth_some_of_its_own():
    """The other one is larger by a factor, and its minimum is elsewhere by a little."""

    def other(values):
        moved = {**values, "rate": 1.3 * float(values["rate"])}
        return 3.0 * bowl(moved)

    values, losses = screened(BayesianScreening(), other, runs=20)
    rows = tuple((float(v["rate"]), float(v["decay"])) for v in values)
    known = Known(("rate", "decay"), rows, tuple(losses))
    best = values[int(np.argmin(losses))]
    space = {
        n: dataclasses.replace(f, default=float(best[n])) for n, f in SPACE.items()
    }
    start = bowl(best)
    np.testing.assert_allclose(np.min(known.scaled_to(start)), start)
    told = screened(BayesianScreening(known=known), runs=8, space=space)[1]
    untold = screened(BayesianScreening(), runs=8, space=space)[1]
    assert np.min(told) - 1.0 < 0.5 * (np.min(untold) - 1.0)
    assert np.min(told) < start


def test_known_runs_that_diverged_are_no_error():
    known = Known(("rate", "decay"), ((0.1, 0.5), (0.9, 0.5)), (math.nan, math.nan))
    assert np.all(np.isnan(known.scaled_to(2.0)))
    losses = screened(BayesianScreening(known=known), runs=12)[1]
    assert len(losses) == 12 and np.min(losses) < 1.5


def test_a_proposal_follows_from_what_was_seen_alone():
    values, losses = screened(BayesianScreening(), most=14)
    seen = Seen(values[0], values[:12], losses[:12].tolist(), 1)
    for _ in range(2):
        again = BayesianScreening().propose(SPACE, seen, 0)
        assert again == values[12]
    assert BayesianScreening().propose(SPACE, seen, 1) != values[12]


def test_divergence_is_kept_away_from():
    def walled(values):
        return bowl(values) if float(values["rate"]) < 0.03 else math.nan

    losses = screened(BayesianScreening(), walled, runs=32)[1]
    assert np.nanmin(losses) < 1.01
    assert np.isnan(losses[:9]).any() and np.mean(np.isnan(losses[9:])) < 0.35


def test_where_nothing_is_finite_it_ends_after_the_first_runs():
    losses = screened(BayesianScreening(), lambda values: math.nan)[1]
    assert len(losses) == 1 + BayesianScreening().first


def test_shorter_length_scales_know_less_further_away():
    x, y = points(30)
    fitted = surrogate.fit(x, y)
    shorter = surrogate.rescaled(fitted, y, 0.7)
    np.testing.assert_allclose(shorter.lengths, 0.7 * fitted.lengths)
    at = points(20, seed=3)[0]
    assert np.all(shorter.predict(at)[1] >= fitted.predict(at)[1])
    same = surrogate.rescaled(fitted, y, 1.0)
    np.testing.assert_allclose(same.predict(at), fitted.predict(at), rtol=1e-6)


def test_how_long_ago_the_lowest_height_was():
    assert bayesian.stale(np.array([3.0, 1.0, 2.0, 2.0])) == 2
    assert bayesian.stale(np.array([3.0, 2.0, 1.0])) == 0
    assert bayesian.stale(np.array([3.0, 1.0, 2.0, 0.99])) == 2  # hardly lower


def test_equal_losses_are_no_error():
    assert len(screened(BayesianScreening(), lambda values: 2.0, runs=12)[1]) >= 9


@pytest.mark.parametrize(
    ("screening", "runs", "number"),
    [
        (BayesianScreening(5), math.inf, 6),
        (BayesianScreening(0), math.inf, 1),
        (BayesianScreening(least=0.0), 20, 20),
        (BayesianScreening(least=0.0), math.inf, 1 + 16 + 2 * 2),
        (Screening(4), 20, 5),
    ],
)
def test_how_many_runs(screening, runs, number):
    assert len(screened(screening, runs=runs)[1]) == number


def test_of_many_numbers_it_takes_a_part_of_the_budget():
    rates = hg.PerVariable(RATE).expand(30)

    def loss(values):
        return 1.0 + float(np.mean((np.log10(values["rate"]) + 2.0) ** 2))

    values, losses = screened(
        BayesianScreening(least=0.0), loss, runs=40, space={"rate": rates}
    )
    assert len(losses) == 14  # 35 % of 40
    assert all(len(set(v["rate"])) == 1 for v in values)
    assert np.min(losses) < 1.01


def test_large_plain_arrays_are_not_screened():
    space = {"weight": Float(0.0, 2.0, shape=(30,), default=1.0)}
    losses = screened(BayesianScreening(), lambda v: 1.0, runs=40, space=space)[1]
    assert len(losses) == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BayesianScreening(-1), "`BayesianScreening(runs=…)` must be an int"),
        (lambda: BayesianScreening(True), "`BayesianScreening(runs=…)` must be an int"),
        (lambda: BayesianScreening(first=1), "`BayesianScreening(first=…)` must be an"),
        (lambda: BayesianScreening(patience=0), "`BayesianScreening(patience=…)` mu"),
        (lambda: Screening(2.5), "`Screening(runs=…)` must be an integer of at least"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ValueError) as error:
        make()
    assert text in str(error.value)


# Inside of `tune`


def problem():
    def val_loss(state, hparams):
        rate = keras.ops.log(state["rate"]) / math.log(10.0) + 2.0
        return 1.0 + rate**2

    return hg.Problem(
        init=dict,
        step=lambda state, hparams, t: (state, {}),
        val_loss=val_loss,
        num_steps=2,
        space={"rate": RATE},
    )


def test_a_screening_of_ones_own():
    class Twice(AbstractScreening):
        def propose(self, space, seen, seed):
            made = len(seen.losses) - seen.given
            assert seen.runs == 30.0 and len(seen.values) == len(seen.losses)
            return {"rate": 10.0 ** (-1 - made)} if made < 2 else None

    result = hg.tune(problem(), budget=30, screening=Twice(), verbose=0)
    assert result.history["kind"][:3] == ["start", "screening", "screening"]
    np.testing.assert_allclose(result.history["rate"][1:3], [1e-1, 1e-2])


def test_a_proposal_outside_of_the_space_is_refused():
    class Outside(AbstractScreening):
        def propose(self, space, seen, seed):
            return {"rate": 7.0}

    with pytest.raises(ValueError, match="`rate` must lie in"):
        hg.tune(problem(), budget=30, screening=Outside(), verbose=0)


def test_final_states_of_the_screening_are_let_go():
    alive = []

    class Count(hg.callbacks.Callback):
        def on_run_end(self, row, logs=None):
            objects = [o for o in gc.get_objects() if type(o) is Scored]
            alive.append(sum(o.final is not None for o in objects))

    hg.tune(problem(), budget=14, callbacks=[Count()], verbose=0)
    assert len(alive) > 10 and max(alive) <= 3  # the start, the best, the last


def test_the_default_screens_by_a_model_and_then_descends():
    result = hg.tune(problem(), outer_steps=3, verbose=0)
    kinds = result.history["kind"]
    screening = kinds.count("screening")
    assert bayesian.BayesianScreening().first < screening <= 18
    assert kinds[1 : 1 + screening] == ["screening"] * screening
    assert result.loss == pytest.approx(1.0, abs=1e-4)
