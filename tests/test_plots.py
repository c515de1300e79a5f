"""Pictures of horizons, landscapes and several results."""

import math

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.diagnostics import landscape
from hypergrad.outer import Screening

pytest.importorskip("matplotlib")

NAMES = ("rate", "decay")


@pytest.fixture(scope="module")
def problem():
    """Lowest, E = 1, at rate = 0.01 and decay = 0.99; not finite above rate = 0.3."""

    def val_loss(state, hparams):
        rate = keras.ops.log(state["rate"]) / math.log(10.0) + 2.0
        decay = keras.ops.log(1.0 - state["decay"]) / math.log(10.0) + 2.0
        return 1.0 + rate**2 + decay**2 + 0.0 * keras.ops.sqrt(0.3 - state["rate"])

    return hg.Problem(
        init=dict,
        step=lambda state, hparams, t: (state, {}),
        val_loss=val_loss,
        num_steps=4,
        space={
            "rate": hg.Float(1e-5, 1.0, sampling="log", default=1e-4),
            "decay": hg.Float(0.0, 0.9999, sampling="reverse_log", default=0.5),
            "free": hg.Float(0.0, default=1.0),
        },
    )


@pytest.fixture(scope="module")
def descended(problem):
    return hg.tune(problem, outer_steps=4, screening=Screening(2), verbose=0)


def test_a_landscape_is_measured_on_the_scales_of_its_ranges(problem):
    found = landscape(problem, NAMES, size=5, arrows=2)
    np.testing.assert_allclose(
        found.grids[0], 10.0 ** np.array([-4.5, -3.5, -2.5, -1.5, -0.5])
    )
    np.testing.assert_allclose(1.0 - found.grids[1][2], 1e-2, rtol=1e-6)
    assert found.losses.shape == (5, 5)
    assert np.isnan(found.losses[:, -1]).all()
    assert np.isfinite(found.losses[:, :-1]).all()
    best = np.unravel_index(np.nanargmin(found.losses), (5, 5))
    assert best == (2, 2) or best == (2, 3)
    # E rises by 2 (log10 v + 2) a decade: the arrows point to the lowest place.
    for a, b, da, db in found.arrows:
        if not math.isfinite(da):
            continue
        rate, decay = 5.0 * a - 3.0, 2.0 - 4.0 * b
        np.testing.assert_allclose(da, -2.0 * rate * 5.0, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(db, 2.0 * decay * 4.0, rtol=1e-3, atol=1e-3)


def test_the_picture_of_a_landscape(problem, descended, tmp_path):
    file = tmp_path / "landscape.png"
    figure = hg.plots.landscape(problem, NAMES, descended, file, size=4, arrows=2)
    assert file.stat().st_size > 10_000
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == NAMES
    assert axes.get_xscale() == "log"
    measured = landscape(problem, NAMES, size=3, arrows=0)
    assert hg.plots.landscape(measured).axes


@pytest.mark.parametrize("names", [("rate",), ("rate", "rate"), ("rate", "momentum")])
def test_names_that_are_not_two_of_the_space(problem, names):
    with pytest.raises(ValueError, match="`names` must be two of"):
        hg.plots.landscape(problem, names)


def test_a_range_without_two_ends_has_no_picture(problem):
    with pytest.raises(ValueError, match="`free` has no two ends"):
        hg.plots.landscape(problem, ("rate", "free"))
    with pytest.raises(ValueError, match="`size` must be an integer of at least 2"):
        landscape(problem, NAMES, size=1)


def test_a_landscape_where_nothing_is_finite(problem):
    found = landscape(problem, NAMES, size=2, arrows=0)
    empty = found._replace(losses=np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="Every run of the grid diverged"):
        hg.plots.landscape(empty)


def test_several_results_in_one_picture(problem, descended, tmp_path):
    blind = [
        hg.search(
            problem.replace(
                space={**problem.space, "free": hg.Float(0.0, 2.0, default=1.0)}
            ),
            budget=6,
            seed=s,
            verbose=0,
        )
        for s in (0, 1)
    ]
    file = tmp_path / "compare.png"
    figure = hg.plots.compare({"tune": descended, "random": blind}, file)
    assert file.stat().st_size > 8_000
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["tune", "random"]
    assert axes.get_xlabel() == "runs (plain trainings)"
    assert len(axes.collections) == 1  # the band of the two seeds
    last = axes.lines[0].get_ydata()[-1]
    assert last == descended.loss
    assert hg.plots.compare([descended], x="seconds").axes[0].get_xlabel() == "seconds"


def test_bad_input_of_compare(descended):
    with pytest.raises(ValueError, match="`compare` needs results"):
        hg.plots.compare({})
    with pytest.raises(ValueError, match="`x` must be 'runs' or 'seconds'"):
        hg.plots.compare([descended], x="steps")


def test_the_picture_of_a_horizon(problem, tmp_path):
    report = hg.horizon(problem)
    file = tmp_path / "horizon.png"
    figure = hg.plots.horizon(report, file)
    assert file.stat().st_size > 8_000
    assert [axes.get_ylabel() for axes in figure.axes][0] == "norm of dE/du"
    assert figure.axes[0].get_title(loc="left") == report.advice


def test_schedules_and_norms_have_their_panels(tmp_path):
    rate = hg.Float(1e-3, 0.5, sampling="log", default=0.01)
    tuned = hg.Problem(
        init=lambda hparams: {"w": keras.ops.ones(3)},
        step=lambda s, hparams, t: ({"w": s["w"] * (1.0 - hparams["rate"])}, {}),
        val_loss=lambda s, hparams: keras.ops.sum((s["w"] - 0.3) ** 2),
        num_steps=12,
        space={"rate": hg.Schedule(rate, knots=6)},
    )
    result = hg.tune(tuned, outer_steps=2, screening=None, verbose=0)
    assert result.space["rate"]["curve"] is True
    titles = [a.get_title(loc="left") for a in result.plot(tmp_path / "r.png").axes]
    assert titles[1:] == [
        "rate",
        "rate, tuned schedule",
        "norm of dE/du, the hypergradient",
    ]
    per_entry = tuned.replace(space={"rate": hg.Schedule(rate, knots=6)})
    assert per_entry.space["rate"].curve
    wide = hg.Problem(
        init=lambda hparams: {"w": keras.ops.ones(3)},
        step=lambda s, hparams, t: ({"w": s["w"] * (1.0 - hparams["rate"])}, {}),
        val_loss=lambda s, hparams: keras.ops.sum((s["w"] - 0.3) ** 2),
        num_steps=12,
        space={
            "rate": hg.Schedule(
                hg.Float(0.0, 0.99, sampling="reverse_log", shape=(3,), default=0.1),
                knots=6,
            )
        },
    )
    figure = hg.search(wide, budget=2, verbose=0).plot(tmp_path / "w.png")
    (heat,) = [a for a in figure.axes if a.images]
    assert heat.images[0].get_array().shape == (3, 6)
    assert heat.get_title(loc="left") == "1 − rate, tuned schedule"
