"""Growing horizons, samples drawn anew, several starts: what E is compared with."""

import inspect

import numpy as np
import pytest
from keras import ops

import hypergrad as hg
from hypergrad.callbacks import Callback
from hypergrad.outer import Screening, TakeBack

STEPS = 40
FULL = (0, STEPS)


def make(val_loss=None, samples=None, shift=0.05, **options):
    """w ← w (1 − rate) + shift from 1; sample i draws another number to reach."""
    return hg.Problem(
        init=lambda hparams, data: {"w": ops.ones(())},
        step=lambda s, hparams, t, data: (
            {"w": s["w"] * (1.0 - hparams["rate"]) + hparams["shift"]},
            {},
        ),
        val_loss=val_loss or (lambda s, hparams, data: (s["w"] - data) ** 2),
        num_steps=STEPS,
        data=np.float32(0.5),
        samples=samples or (lambda i: {"data": np.float32(0.5 + 0.2 * np.sin(i))}),
        space={
            "rate": hg.Float(1e-3, 0.5, sampling="log", default=0.01),
            "shift": hg.Float(-0.1, 0.1, default=shift),
        },
        **options,
    )


def tuned(problem, **options):
    return hg.tune(problem, **{"budget": 40, "verbose": 0, **options})


def conditions(result):
    return list(zip(result.history["draw"], result.history["num_steps"]))


OPTIONS = {
    "plain": ({}, {}),
    "growing": ({"horizon": hg.Growing(10)}, {}),
    "drawn": ({}, {"resample": "each_step"}),
    "several": ({"starts": 3}, {}),
    "all": (
        {"starts": 2, "horizon": hg.Growing(10, STEPS)},
        {"resample": "each_step", "average": 2},
    ),
}


@pytest.fixture(scope="module", params=list(OPTIONS))
def case(request):
    options, parts = OPTIONS[request.param]
    options = {"budget": 80 if "average" in parts else 40, **options}
    problem = make(**parts)
    return options, problem, tuned(problem, **options)


def test_every_row_is_what_it_says(case):
    _, problem, result = case
    history = result.history
    for row, (draw, steps) in enumerate(conditions(result)):
        same = problem.replace(num_steps=steps).draw(draw)
        values = {name: history[name][row] for name in problem.space}
        expected = float(hg.evaluate(same, values).loss)
        np.testing.assert_equal(history["val_loss"][row], expected)


def test_the_cost_is_that_of_shorter_trainings(case):
    options, problem, result = case
    costs = np.diff(np.concatenate([[0.0], result.history["runs"]]))
    share = np.asarray(result.history["num_steps"]) / STEPS * problem.average
    sweep = (hg.Reverse().runs(problem) - 1.0) * share
    # A run alone, or a sweep before it, of a run that may have to be repeated.
    alone = np.abs(costs - share) < 1e-9
    after = [np.abs(costs - share * k - sweep) < 1e-9 for k in (1, 2)]
    assert np.all(alone | after[0] | after[1])
    # The default spends all on the screening of so few numbers.
    asked = {"starts", "horizon"} & set(options) or problem.resample != "fixed"
    assert np.all(alone) != bool(asked)
    assert result.runs <= options["budget"] + 1e-9


def test_what_is_returned_was_measured_on_the_terms_of_the_result(case):
    _, problem, result = case
    assert float(hg.evaluate(problem, result.values).loss) == result.loss
    alike = [
        loss
        for loss, under in zip(result.history["val_loss"], conditions(result))
        if under == FULL
    ]
    assert result.loss in alike and result.loss < result.start["loss"]
    if problem.resample == "fixed":
        assert result.loss == min(alike)
    assert result.history["kind"][0] == "start" and conditions(result)[0] == FULL


class PowerCut(Callback):
    def __init__(self, row):
        self.row = row

    def on_run_end(self, row, logs=None):
        if row == self.row:
            raise RuntimeError("power cut")


def test_killed_anywhere_it_ends_with_the_same_bits(case, tmp_path):
    options, problem, whole = case
    rows = len(whole.history["val_loss"])
    for row in (1, rows // 3, 2 * rows // 3, rows - 1):
        folder = tmp_path / str(row)
        with pytest.raises(RuntimeError, match="power cut"):
            tuned(problem, directory=folder, callbacks=[PowerCut(row)], **options)
        again = tuned(problem, directory=folder, **options)
        for name, column in whole.history.items():
            if name != "seconds":
                np.testing.assert_array_equal(again.history[name], column, name)
        assert again.values == whole.values and again.loss == whole.loss


def test_a_horizon_grows():
    result = tuned(make(), horizon=hg.Growing(10))
    lengths = result.history["num_steps"]
    assert lengths[0] == STEPS  # the user's start, as it is
    assert sorted(lengths[1:]) == lengths[1:] and set(lengths) == {10, 20, STEPS}
    kinds = result.history["kind"]
    assert kinds[1] == "again" and kinds[2] == "screening"
    for steps in (20, STEPS):  # each stage begins with the values of the one before
        first = lengths.index(steps, 1)
        assert kinds[first] == "again"
    columns = result.history
    before, at = first - 1, first
    kept = [r for r in range(1, before + 1) if kinds[r] in ("step", "again")][-1]
    assert columns["rate"][at] == columns["rate"][kept]
    # Each stage has about the same share.
    spent = {
        n: columns["runs"][len(lengths) - 1 - lengths[::-1].index(n)] for n in lengths
    }
    assert spent[STEPS] - spent[20] > 5.0 and spent[20] - spent[10] > 3.0


def test_stages():
    assert hg.Growing(50, 400).stages(400) == (50, 100, 200, 400)
    assert hg.Growing(50).stages(400) == (50, 100, 200, 400)
    assert hg.Growing(10, factor=4).stages(100) == (10, 40, 100)
    assert hg.Growing(3).stages(13) == (3, 6, 13)  # no stage that is nearly the last
    assert hg.Growing(9).stages(10) == (9, 10)
    assert hg.Growing(1, factor=1.2).stages(3) == (1, 2, 3)


def test_each_step_sees_other_samples():
    problem = make(resample="each_step")
    result = tuned(problem, screening=Screening(3))
    draws = result.history["draw"]
    kinds = result.history["kind"]
    assert draws[:4] == [0] * 4
    first = kinds.index("again")
    assert set(draws[4:first]) == {0}  # the first slope is that of the first samples
    seen = [d for d, k in zip(draws, kinds) if k == "again"]
    assert seen[:-1] == list(range(1, len(seen))) and seen[-1] == 0
    assert kinds[-1] == "again" and result.history["rate"][-1] == result.values["rate"]


def test_values_do_not_lean_on_one_sample():
    """The first sample wants 0.9, all others 0.5 on the mean."""

    def samples(i):
        return {"data": np.float32(0.5 + 0.1 * (-1) ** i)}

    def loss(s, hparams, data):
        return (hparams["shift"] * 5.0 + 0.5 - data) ** 2 + 0.0 * s["w"]

    options = {"val_loss": loss, "samples": samples, "shift": -0.08}
    fixed = make(**options).replace(data=np.float32(0.9))
    drawn = fixed.replace(resample="each_step")
    known = {"screening": Screening(6), "budget": 100}
    leaning = tuned(fixed, **known).values["shift"]
    assert leaning == pytest.approx(0.08, abs=0.002)
    result = tuned(drawn, **known)
    assert abs(result.values["shift"]) < 0.05
    assert any("Samples were drawn anew" in note for note in result.notes)


@pytest.mark.parametrize("case", ["growing", "drawn"])
def test_a_tune_that_is_stopped_early_scores_what_it_has(case):
    class Stop(Callback):
        def on_outer_step_end(self, step, logs=None):
            if not logs["comparable"]:
                self.stop("enough")

    options, parts = OPTIONS[case]
    result = tuned(make(**parts), callbacks=[Stop()], **options)
    assert result.history["kind"][-1] == "again" and conditions(result)[-1] == FULL
    assert result.loss == result.history["val_loss"][-1] < result.start["loss"]
    assert "Stopped: enough." in result.notes


def test_patience_counts_steps_that_were_not_kept():
    result = tuned(make(resample="each_step"), patience=1, screening=Screening(3))
    kinds = [k for k in result.history["kind"] if k in ("step", "rejected")]
    assert kinds.index("rejected") == len(kinds) - 1
    assert any("no better E in 1 outer steps" in note for note in result.notes)


def test_several_starts_lie_apart():
    result = tuned(make(), starts=3, screening=Screening(8), outer_steps=9, budget=None)
    history = result.history
    tried = [
        r for r, kind in enumerate(history["kind"]) if kind in ("step", "rejected")
    ]
    assert len(tried) == 9  # three for each
    norms = np.asarray(history["gradient_norm.rate"])
    begun = [r for r in range(9) if np.isfinite(norms[r])]
    assert len(begun) == 3
    decades = np.log10([history["rate"][r] for r in begun])
    shifts = np.asarray([history["shift"][r] for r in begun])
    for i in range(3):
        for j in range(i):
            gap = abs(decades[i] - decades[j]), abs(shifts[i] - shifts[j]) / 0.2 * 2
            assert max(gap) > 0.4


def test_a_descent_that_ends_is_followed_by_another():
    """A hole for each of two starts: the first descent ends in its own."""

    def loss(s, hparams, data):
        at = ops.log(hparams["rate"]) / np.log(10.0)
        hole = ops.minimum((at + 2.5) ** 2, (at + 1.0) ** 2 + 0.01)
        return hole + hparams["shift"] ** 2 + 0.0 * s["w"]

    options = {
        "screening": Screening(6), "safeguard": TakeBack(probe=0.0), "budget": 300
    }  # fmt: skip
    result = tuned(make(val_loss=loss), **options)
    begun = result.history["gradient_norm.rate"][:7]
    assert sum(np.isfinite(begun)) > 1
    once = tuned(make(val_loss=loss), starts=1, **options)
    assert sum(np.isfinite(once.history["gradient_norm.rate"][:7])) == 1
    assert once.runs < result.runs


@pytest.mark.parametrize(
    ("make_options", "options", "text"),
    [
        ({}, {"starts": 0}, "`starts` must be an integer of at least 1"),
        ({}, {"starts": 1.5}, "`starts` must be an integer of at least 1"),
        ({}, {"horizon": 10}, r"`horizon` must be a hg.Growing\(first, last\)"),
        ({}, {"horizon": hg.Growing(40)}, "must begin below the length of training"),
        ({}, {"horizon": hg.Growing(10, 50)}, "Pass `steps=50`, or another Growing"),
    ],
)
def test_bad_input(make_options, options, text):
    with pytest.raises((ValueError, TypeError), match=text):
        tuned(make(**make_options), **options)


def test_bad_growing_and_bad_resample():
    for bad in ({"first": 0}, {"first": 5, "last": 5}, {"first": 2.5}):
        with pytest.raises(ValueError, match="Growing"):
            hg.Growing(**bad)
    with pytest.raises(ValueError, match="`Growing.factor=….` must be a number above"):
        hg.Growing(5, factor=1)
    with pytest.raises(ValueError, match="`resample` must be one of 'fixed', 'each_"):
        make(resample="always")
    problem = make()
    with pytest.raises(ValueError, match="`resample` must be one of"):
        problem.replace(resample=True)
    alone = {
        name: getattr(problem, name) for name in ("init", "step", "val_loss", "space")
    }
    with pytest.raises(ValueError, match="`resample` needs samples that differ"):
        hg.Problem(**alone, num_steps=3, data=problem.data, resample="each_step")


def test_the_words_of_the_signature():
    shown = inspect.signature(hg.tune).parameters
    assert {"starts", "horizon", "folds", "resample"} <= set(shown)
