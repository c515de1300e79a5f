"""`search`: where its points lie, what they cost, what comes back."""

import math

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad._search import grid_sizes, points_of

SPACE = {
    "rate": hg.Float(1e-4, 1.0, sampling="log", default=1e-3),
    "decay": hg.Float(0.0, 0.999, sampling="reverse_log", default=0.9),
    "shift": hg.Float(-1.0, 1.0, shape=(2,), default=0.25),
}


@pytest.fixture(scope="module")
def problem():
    """E = (log10 rate + 2)² + (decay − ½)² + |shift|²."""

    def val_loss(state, hparams):
        log = keras.ops.log(state["rate"]) / math.log(10.0)
        rest = keras.ops.sum(hparams["shift"] ** 2) + (hparams["decay"] - 0.5) ** 2
        return (log + 2.0) ** 2 + rest

    return hg.Problem(
        init=lambda hparams: {"rate": hparams["rate"]},
        step=lambda state, hparams, t: (state, {}),
        val_loss=val_loss,
        num_steps=1,
        space=SPACE,
    )


@pytest.mark.parametrize("method", ["random", "grid", "quasirandom"])
def test_the_start_is_row_0_and_a_point_costs_a_run(problem, method):
    result = hg.search(problem, method, budget=20, verbose=0)
    history = result.history
    assert history["kind"][0] == "start" and set(history["kind"][1:]) == {"search"}
    assert history["rate"][0] == 1e-3 and history["decay"][0] == 0.9
    np.testing.assert_array_equal(history["shift"][0], [0.25, 0.25])
    assert history["runs"] == list(range(1, len(history["runs"]) + 1))
    assert len(history["runs"]) == (19 if method == "grid" else 20)
    assert result.loss == min(history["val_loss"])
    row = int(np.argmin(history["val_loss"]))
    assert result.values["rate"] == history["rate"][row]
    assert isinstance(result.values["rate"], float)
    assert isinstance(result.values["shift"], np.ndarray)
    assert result.status.ok and result.runs == len(history["runs"])


def test_without_the_start_every_run_is_a_point(problem):
    result = hg.search(
        problem, "random", budget=5, include_start=False, verbose=0, seed=3
    )
    assert result.history["kind"] == ["search"] * 5


@pytest.mark.parametrize("method", ["random", "grid", "quasirandom"])
def test_the_seed_decides(method):
    one, same, other = (points_of(method, SPACE, 12, seed) for seed in (0, 0, 1))
    rates = [[p["rate"].item() for p in points] for points in (one, same, other)]
    assert rates[0] == rates[1] != rates[2]


@pytest.mark.parametrize("method", ["random", "quasirandom"])
def test_points_are_spread_over_the_sampling_scale(method):
    points = points_of(method, SPACE, 400, 0)
    decades = np.log10([p["rate"] for p in points])
    assert np.all((decades > -4) & (decades < 0))
    counts = np.histogram(decades, bins=4, range=(-4, 0))[0]
    assert np.all(np.abs(counts - 100) < 40)
    near_one = np.mean([p["decay"] > 0.9 for p in points])
    assert near_one == pytest.approx(2 / 3, abs=0.08)
    assert len({tuple(p["shift"]) for p in points}) == 400
    assert any(p["shift"][0] != p["shift"][1] for p in points)


def test_the_quasirandom_sequence_is_more_even_than_chance():
    points = points_of("quasirandom", {"rate": SPACE["rate"]}, 64, 0)
    decades = np.sort(np.log10([p["rate"] for p in points]))
    assert np.max(np.diff(decades)) < 3 * 4 / 64


@pytest.mark.parametrize(
    ("number", "dimensions", "sizes"),
    [(64, 3, [4, 4, 4]), (40, 3, [4, 3, 3]), (39, 3, [4, 3, 3]), (1, 2, [1, 1])]
    + [(7, 2, [3, 2]), (5, 1, [5])],
)
def test_a_grid_is_as_equal_as_the_budget_allows(number, dimensions, sizes):
    assert grid_sizes(number, dimensions) == sizes


def test_a_grid_has_the_midpoints_of_equal_parts():
    points = points_of("grid", {"rate": SPACE["rate"]}, 4, 0)
    decades = sorted(np.log10(p["rate"]).item() for p in points)
    np.testing.assert_allclose(decades, [-3.5, -2.5, -1.5, -0.5], atol=1e-12)


def test_a_method_that_does_not_exist(problem):
    with pytest.raises(ValueError, match="`method` must be one of 'random'.*'bayes'"):
        hg.search(problem, "bayes")


def test_a_search_needs_a_number_of_runs(problem):
    with pytest.raises(ValueError, match=r"Pass a number of runs"):
        hg.search(problem, budget=hg.Budget(seconds=1.0))


def test_a_budget_in_outer_steps_is_a_number_of_points(problem):
    for budget in (hg.Budget(outer_steps=3), hg.Budget(runs=9, outer_steps=3)):
        result = hg.search(problem, budget=budget, verbose=0)
        assert len(result.history["kind"]) == 3


def test_bad_input(problem):
    with pytest.raises(ValueError, match="Pass a number of runs"):
        hg.search(problem, budget=math.inf)
    with pytest.raises(ValueError, match="must be one of.*Reverse.* use hg.tune"):
        hg.search(problem, hg.Reverse())
    with pytest.raises(ValueError, match="`seed` must be an integer"):
        hg.search(problem, seed="a")


def test_a_search_prepares_no_sweep(problem, monkeypatch):
    monkeypatch.setattr(hg.Reverse, "prepare", None)
    hg.search(problem, budget=2, verbose=0)


def test_a_range_without_ends_cannot_be_searched():
    problem = hg.Problem(
        init=lambda hparams: hparams["w"],
        step=lambda state, hparams, t: (state, {}),
        val_loss=lambda state, hparams: state**2,
        num_steps=1,
        space={"w": hg.Float(default=1.0)},
    )
    with pytest.raises(ValueError, match="need both ends of the range"):
        hg.search(problem, budget=3, verbose=0)
