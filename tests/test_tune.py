"""`tune`: the descent, its safety, its accounts, and going on after a kill."""

import inspect
import json
import math

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad import backend
from hypergrad.backend import Traces
from hypergrad.callbacks import Callback, EarlyStopping, ProgressBar
from hypergrad.from_model import from_model
from hypergrad.outer import Screening, SignSteps, TakeBack

SWEEP = backend.run_cost("Reverse") - 1.0
SPACE = {
    "rate": hg.Float(1e-5, 1.0, sampling="log", default=1e-4),
    "decay": hg.Float(0.0, 0.9999, sampling="reverse_log", default=0.5),
}


def make(space=SPACE, val_loss=None):
    """A bowl: lowest, E = 1, at rate = 0.01 and decay = 0.99."""

    def bowl(state, hparams):
        rate = keras.ops.log(state["rate"]) / math.log(10.0) + 2.0
        decay = keras.ops.log(1.0 - state["decay"]) / math.log(10.0) + 2.0
        return 1.0 + rate**2 + decay**2 + 0.5 * rate * decay

    return hg.Problem(
        init=dict,
        step=lambda state, hparams, t: (state, {}),
        val_loss=val_loss or bowl,
        num_steps=2,
        space=space,
    )


@pytest.fixture(scope="module")
def problem():
    return make()


@pytest.fixture(scope="module")
def wall():
    """Not finite for rates above 1e-2: a descent towards larger rates meets a wall."""

    def val_loss(state, hparams):
        return -state["rate"] + keras.ops.sqrt(1e-2 - state["rate"]) * 0.0

    space = {"rate": hg.Float(1e-5, 1.0, sampling="log", default=1e-4)}
    return make(space, val_loss)


def test_a_descent_finds_the_minimum(problem):
    result = hg.tune(problem, outer_steps=25, verbose=0)
    assert result.loss == pytest.approx(1.0, abs=2e-3)
    assert result.values["rate"] == pytest.approx(1e-2, rel=0.1)
    assert 1.0 - result.values["decay"] == pytest.approx(1e-2, rel=0.1)
    assert result.loss == min(result.history["val_loss"])
    assert result.status.ok


def test_row_0_is_the_start_and_the_screening_follows(problem):
    result = hg.tune(problem, outer_steps=2, verbose=0, screening=Screening(5))
    kinds = result.history["kind"]
    assert kinds[:6] == ["start"] + ["screening"] * 5
    assert set(kinds[6:]) <= {"step", "rejected"} and len(kinds) == 8
    assert result.history["rate"][0] == 1e-4 and result.history["decay"][0] == 0.5
    assert result.start["loss"] == result.history["val_loss"][0]


def test_a_kept_step_costs_a_run_and_a_sweep_a_rejected_one_a_run(problem):
    result = hg.tune(problem, outer_steps=12, verbose=0, screening=None)
    history = result.history
    swept = True  # the first step needs a sweep, later ones after a kept step
    for row in range(1, len(history["runs"])):
        cost = history["runs"][row] - history["runs"][row - 1]
        assert cost == pytest.approx(1.0 + SWEEP * swept)
        assert np.isfinite(history["gradient_norm.rate"][row - 1]) >= swept
        swept = history["kind"][row] == "step"
    assert "rejected" in history["kind"] and "step" in history["kind"]
    assert result.runs == history["runs"][-1]
    assert history["seconds"] == sorted(history["seconds"])


def test_rejected_steps_are_worse_and_kept_ones_better(problem):
    result = hg.tune(problem, outer_steps=12, verbose=0, screening=None)
    best = math.inf
    for loss, kind in zip(result.history["val_loss"], result.history["kind"]):
        assert (loss < best) == (kind != "rejected")
        best = min(best, loss)


@pytest.mark.parametrize("runs", [1, 2, 5, 9, 20, 40])
def test_a_budget_is_never_exceeded_and_nearly_used(problem, runs):
    safeguard = TakeBack(smallest=1e-12, fade=1.0)
    result = hg.tune(problem, budget=runs, verbose=0, safeguard=safeguard)
    assert runs - 1 < result.runs <= runs
    assert result.history["runs"][-1] == result.runs


def test_a_budget_in_outer_steps_and_seconds(problem):
    result = hg.tune(
        problem, budget=hg.Budget(outer_steps=3), verbose=0, screening=None
    )
    assert len(result.history["kind"]) == 4
    result = hg.tune(problem, budget=hg.Budget(seconds=0.0), verbose=0)
    assert result.history["kind"] == ["start"]


def test_no_step_is_longer_than_a_decade(problem):
    result = hg.tune(problem, outer_steps=15, verbose=0, screening=None)
    history = result.history
    for name, scale in (("rate", np.log10), ("decay", lambda v: np.log10(1 - v))):
        here = history[name][0]
        for value, kind in zip(history[name], history["kind"]):
            assert abs(scale(value) - scale(here)) <= 1.0 + 1e-9
            here = here if kind == "rejected" else value


def test_steps_do_not_depend_on_the_scale_of_the_loss():
    def scaled(factor):
        def val_loss(state, hparams):
            return factor * (keras.ops.log(state["rate"]) + 3.0) ** 2

        space = {"rate": SPACE["rate"]}
        result = hg.tune(make(space, val_loss), outer_steps=8, verbose=0)
        return result.history["rate"]

    np.testing.assert_allclose(scaled(1e-9), scaled(1e9), rtol=1e-6)


def test_a_step_into_nan_is_taken_back_and_shortened(wall):
    result = hg.tune(wall, outer_steps=15, verbose=0, screening=None)
    losses = np.asarray(result.history["val_loss"])
    assert np.isnan(losses).any()
    assert result.status.ok and np.isfinite(result.loss)
    assert 8e-3 < result.values["rate"] <= 1e-2


def test_a_start_that_diverges_is_left_by_screening(wall):
    result = hg.tune(wall, outer_steps=3, verbose=0)
    bad = make(
        {"rate": hg.Float(1e-5, 1.0, sampling="log", default=0.5)}, wall.val_loss
    )
    result = hg.tune(bad, outer_steps=3, verbose=0)
    assert math.isnan(result.history["val_loss"][0]) and result.status.ok
    assert result.values["rate"] < 1e-2


def test_nothing_finite_is_a_status_and_not_an_exception():
    nan = make({"rate": SPACE["rate"]}, lambda state, h: state["rate"] * math.nan)
    result = hg.tune(nan, outer_steps=3, verbose=0)
    assert not result.status.ok and "not finite" in result.status.reason
    assert math.isnan(result.loss) and result.values["rate"] == 1e-4
    assert any("No run ended in finite numbers" in note for note in result.notes)


def test_a_start_on_a_bound_is_scored_there_and_descended_from_inside():
    space = {
        "decay": hg.Float(0.0, 0.9999, sampling="reverse_log", default=0.0),
        "l2": hg.Float(1e-8, 1e-1, sampling="log", default=0.0),
    }

    def val_loss(state, hparams):
        l2 = keras.ops.log(state["l2"] + 1e-12) / math.log(10.0)
        return (state["decay"] - 0.9) ** 2 + (l2 + 4.0) ** 2

    result = hg.tune(make(space, val_loss), outer_steps=20, verbose=0, screening=None)
    assert result.history["decay"][0] == 0.0 and result.history["l2"][0] == 0.0
    assert result.history["kind"][1] == "interior"
    assert result.history["l2"][1] == space["l2"].interior(0.0)
    assert result.loss < 0.1
    text = result.summary()
    assert "l2 starts on its bound" in text and "decay starts on its bound" in text


def test_a_value_that_ends_at_its_bound_is_named():
    space = {"rate": hg.Float(1e-3, 1.0, sampling="log", default=0.1)}
    problem = make(space, lambda state, hparams: state["rate"])
    result = hg.tune(problem, outer_steps=20, verbose=0)
    assert "rate ends at its bound 0.001" in result.summary()


# Values that are stepped otherwise


def test_a_constrained_value_is_projected():
    def simplex(v):
        ordered = np.sort(v)[::-1]
        sums = (np.cumsum(ordered) - 1.0) / np.arange(1, len(v) + 1)
        return np.maximum(v - sums[np.nonzero(ordered > sums)[0][-1]], 0.0)

    target = np.array([0.7, 0.3, 0.0])
    start = np.full(3, 1.0 / 3.0)
    space = {"w": hg.Float(0.0, 1.0, shape=(3,), default=start, constraint=simplex)}
    problem = make(space, lambda state, h: keras.ops.sum((state["w"] - target) ** 2))
    result = hg.tune(problem, outer_steps=30, verbose=0)
    for value in result.history["w"]:
        assert np.sum(value) == pytest.approx(1.0) and np.all(value >= 0.0)
    np.testing.assert_allclose(result.values["w"], target, atol=0.05)


def test_thousands_of_entries_are_stepped_one_by_one():
    target = np.linspace(0.1, 0.9, 3000)
    space = {"w": hg.Float(0.0, 1.0, shape=(3000,), default=0.5)}
    problem = make(space, lambda state, h: keras.ops.sum((state["w"] - target) ** 2))
    result = hg.tune(problem, outer_steps=20, verbose=0)
    assert result.loss < 0.05 * result.start["loss"]
    assert result.history["kind"][1] != "screening"  # nothing to learn from few points
    assert result.values["w"].shape == (3000,)


def test_values_without_bounds():
    space = {"w": hg.Float(default=30.0), "s": hg.Float(0.0, None, default=5.0)}
    problem = make(
        space, lambda state, h: (state["w"] + 4.0) ** 2 + (state["s"] - 0.1) ** 2
    )
    result = hg.tune(problem, outer_steps=40, verbose=0)
    assert result.values["w"] == pytest.approx(-4.0, abs=0.5)
    assert result.values["s"] == pytest.approx(0.1, abs=0.5)


# Other optimizers


def test_a_keras_optimizer_gives_its_own_steps():
    problem = make({"w": hg.Float(default=3.0)}, lambda s, h: (s["w"] - 1.0) ** 2)
    optimizer = keras.optimizers.SGD(0.2, momentum=0.5)
    result = hg.tune(
        problem,
        outer_steps=4,
        optimizer=optimizer,
        screening=None,
        safeguard=None,
        verbose=0,
    )
    w, velocity, expected = 3.0, 0.0, [3.0]
    for _ in range(4):
        velocity = 0.5 * velocity - 0.2 * 2.0 * (w - 1.0)
        w += velocity
        expected.append(w)
    np.testing.assert_allclose(result.history["w"], expected, rtol=1e-12)
    assert not optimizer.built
    assert result.runs == pytest.approx(5.0 + 4.0 * SWEEP)


def test_adam_descends_with_and_without_a_safeguard(problem):
    for safeguard in (None, TakeBack()):
        result = hg.tune(
            problem,
            outer_steps=20,
            optimizer=keras.optimizers.Adam(0.3),
            screening=None,
            safeguard=safeguard,
            verbose=0,
        )
        assert result.loss < 1.2


def test_an_optax_transformation(problem):
    optax = pytest.importorskip("optax")
    if keras.backend.backend() != "jax":
        with pytest.raises(TypeError, match="optax transformations compute with JAX"):
            hg.tune(problem, optimizer=optax.adam(0.3), verbose=0)
        return
    options = {"outer_steps": 10, "screening": None, "safeguard": None, "verbose": 0}
    ours = hg.tune(problem, optimizer=keras.optimizers.Adam(0.3), **options)
    theirs = hg.tune(problem, optimizer=optax.adam(0.3, eps=1e-7), **options)
    np.testing.assert_allclose(ours.history["rate"], theirs.history["rate"], rtol=1e-3)


# Callbacks


class Notes(Callback):
    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def on_tune_begin(self, logs=None):
        self.events.append(("begin", logs["outer_steps"]))

    def on_tune_end(self, logs=None):
        self.events.append(("end", logs["result"].loss))

    def on_run_end(self, row, logs=None):
        self.events.append(("run", row, logs["kind"]))

    def on_outer_step_begin(self, step, logs=None):
        self.events.append(("step", step))

    def on_outer_step_end(self, step, logs=None):
        self.events.append(("stepped", step, logs["val_loss"], logs["kept"]))
        if step == self.stop_at:
            self.stop("enough")


def test_callbacks_are_told_everything_in_order(problem):
    notes = Notes()
    result = hg.tune(
        problem, outer_steps=2, screening=Screening(1), callbacks=[notes], verbose=0
    )
    names = [event[0] for event in notes.events]
    step = ["step", "run", "stepped"]
    assert names == ["begin", "run", "run", *step, *step, "end"]
    assert notes.events[0] == ("begin", 2) and notes.events[-1][1] == result.loss
    assert [e[2] for e in notes.events if e[0] == "stepped"] == result.history[
        "val_loss"
    ][2:]


def test_a_callback_can_stop_a_tune(problem):
    result = hg.tune(problem, screening=None, callbacks=[Notes(stop_at=1)], verbose=0)
    assert len(result.history["kind"]) == 3
    assert "Stopped: enough." in result.notes


def test_early_stopping_without_improvement(problem):
    flat = make({"rate": SPACE["rate"]}, lambda s, h: 1.0 + 0.0 * s["rate"] ** 2)
    result = hg.tune(problem, outer_steps=200, patience=3, verbose=0)
    losses = result.history["val_loss"]
    assert min(losses[-3:]) > min(losses[:-3]) - 1e-12 and len(losses) < 60
    assert "no better E in 3 outer steps" in " ".join(result.notes)
    result = hg.tune(flat, verbose=0)
    assert "exactly zero" in " ".join(result.notes)
    with pytest.raises(ValueError, match="`patience` must be an integer"):
        EarlyStopping(0)


def test_progress_is_a_line_for_each_step_where_there_is_no_terminal(problem, capsys):
    hg.tune(problem, outer_steps=3, screening=Screening(2))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].startswith("start") and "\r" not in lines[3]
    assert lines[-1].startswith("step 3/3") and "best" in lines[-1]
    hg.tune(problem, outer_steps=3, verbose=0)
    assert capsys.readouterr().out == ""


def test_progress_is_a_bar_on_a_terminal(problem, capsys):
    hg.tune(problem, budget=20, verbose=1)
    out = capsys.readouterr().out
    assert out.count("\r") > 10 and out.count("\n") == 1 and "█" in out
    assert "/20 runs" in out
    with pytest.raises(ValueError, match="`verbose` must be"):
        ProgressBar(7)


# Directories


class Killed(Exception):
    pass


class Kill(Callback):
    def __init__(self, event, at):
        self.event, self.at = event, at

    def on_run_end(self, row, logs=None):
        if self.event == "run" and row == self.at:
            raise Killed

    def on_outer_step_end(self, step, logs=None):
        if self.event == "step" and step == self.at:
            raise Killed


ARRAYS = {**SPACE, "w": hg.Float(-1.0, 1.0, shape=(20,), default=0.3)}


@pytest.fixture(scope="module")
def arrays():
    def val_loss(state, hparams):
        rest = keras.ops.sum(state["w"] ** 2) * state["rate"] ** 0.1
        return rest + (keras.ops.log(state["rate"]) + 4.0) ** 2 + state["decay"]

    return make(ARRAYS, val_loss)


@pytest.mark.parametrize("optimizer", [None, keras.optimizers.Adam(0.2)])
@pytest.mark.parametrize(
    ("event", "at"), [("run", 0), ("run", 3), ("step", 0), ("step", 4), ("run", 11)]
)
def test_a_killed_tune_goes_on_to_the_same_numbers(
    arrays, tmp_path, optimizer, event, at
):
    options = {"outer_steps": 9, "optimizer": optimizer, "verbose": 0}
    whole = hg.tune(arrays, **options)
    with pytest.raises(Killed):
        hg.tune(arrays, directory=tmp_path, callbacks=[Kill(event, at)], **options)
    resumed = hg.tune(arrays, directory=tmp_path, **options)
    for name in (*ARRAYS, "val_loss", "runs", "gradient_norm.rate"):
        np.testing.assert_array_equal(resumed.history[name], whole.history[name])
    assert resumed.history["kind"] == whole.history["kind"]
    for name, value in whole.values.items():
        np.testing.assert_array_equal(resumed.values[name], value)


def test_a_finished_directory_is_not_run_again(problem, tmp_path):
    first = hg.tune(problem, outer_steps=3, directory=tmp_path, verbose=0)
    notes = Notes()
    again = hg.tune(
        problem, outer_steps=3, directory=tmp_path, callbacks=[notes], verbose=0
    )
    assert notes.events == []
    assert again.values == first.values and again.loss == first.loss
    for name, column in first.history.items():
        np.testing.assert_array_equal(again.history[name], column)


def test_a_directory_of_another_tune_is_refused_with_the_difference(problem, tmp_path):
    hg.tune(problem, outer_steps=2, directory=tmp_path, verbose=0)
    for other, options, text in (
        (problem, {"seed": 1}, "seed: 0 there, 1 here"),
        (problem.replace(num_steps=7), {}, "steps of training: 2 there, 7 here"),
        (make({"rate": SPACE["rate"]}), {}, "range of decay: .* there, absent here"),
    ):
        with pytest.raises(ValueError, match=text):
            hg.tune(other, outer_steps=2, directory=tmp_path, verbose=0, **options)


def test_a_directory_that_cannot_be_written_is_refused_before_training(
    problem, tmp_path
):
    file = tmp_path / "file"
    file.write_text("in the way")
    notes = Notes()
    with pytest.raises(ValueError, match="`directory` must be a folder"):
        hg.tune(problem, directory=file / "study", callbacks=[notes], verbose=0)
    assert notes.events == []


def test_what_is_on_disk_is_strict_json_and_no_pickle(wall, tmp_path):
    hg.tune(wall, outer_steps=6, directory=tmp_path, screening=None, verbose=0)

    def refuse(constant):
        raise AssertionError(constant)

    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text("utf-8"), parse_constant=refuse)
    written = {p.suffix for p in tmp_path.iterdir() if p.name != ".lock"}
    assert written <= {".json", ".npz"}


def test_ctrl_c_gives_the_best_so_far(problem):
    class Interrupt(Callback):
        def on_outer_step_end(self, step, logs=None):
            if step == 2:
                raise KeyboardInterrupt

    result = hg.tune(problem, screening=None, callbacks=[Interrupt()], verbose=0)
    assert result.loss == min(result.history["val_loss"])
    assert len(result.history["kind"]) == 4
    assert "interrupted" in " ".join(result.notes)


# Nothing is compiled twice; bad input


@pytest.mark.parametrize("checkpoints", [None, "all"])
def test_nothing_is_compiled_after_the_first_outer_step(checkpoints):
    problem = make()
    method = hg.Reverse(checkpoints=checkpoints)
    marks = []

    class Mark(Callback):
        def on_outer_step_end(self, step, logs=None):
            marks.append(Traces.total)

    hg.tune(problem, outer_steps=20, method=method, callbacks=[Mark()], verbose=0)
    assert len(set(marks)) == 1 and len(marks) > 5
    hg.tune(problem.replace(num_steps=5), outer_steps=2, method=method, verbose=0)
    assert Traces.total == marks[0]


def test_search_makes_the_runs_of_evaluate():
    problem = make()
    loss = hg.evaluate(problem).loss
    before = Traces.total
    result = hg.search(problem, budget=3, verbose=0)
    assert Traces.total == before
    assert result.history["val_loss"][0] == loss


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "reverse"}, "`method` must be a method such as hg.Reverse.*'rev"),
        ({"method": hg.Reverse}, r"`method` must be .* Write Reverse\(\)"),
        ({"seed": "a"}, "`seed` must be an integer of at least 0. Received: 'a'"),
        ({"seed": -1}, "`seed` must be an integer of at least 0. Received: -1"),
        ({"budget": hg.Budget}, "`budget` must be a number of runs or hg.Budget"),
        ({"outer_steps": -1}, "`outer_steps` must be an integer of at least 0"),
        ({"outer_steps": 2.5}, "`outer_steps` must be an integer of at least 0"),
        ({"budget": 0}, "must be a number of at least 1"),
        ({"budget": "much"}, "`budget` must be a number of runs or hg.Budget"),
        ({"optimizer": "adam"}, "`optimizer` must be None .* a Keras optimizer"),
        ({"screening": 7}, "`screening` must be a Screening"),
        ({"safeguard": True}, "`safeguard` must be a TakeBack"),
        ({"outer_stpes": 3}, "Unknown keyword 'outer_stpes'"),
        ({"epochs": 3}, r"A Problem holds its data.*\['epochs'\]"),
        ({"test_data": (1, 2)}, "`test_data` needs the problem of a compiled"),
    ],
)
def test_bad_input_is_refused_before_anything_is_run(problem, options, text):
    notes = Notes()
    with pytest.raises((ValueError, TypeError), match=text):
        hg.tune(problem, callbacks=[notes], verbose=0, **options)
    assert notes.events == []


@pytest.mark.parametrize(
    ("callbacks", "text"),
    [
        ([3], "`callbacks` must hold objects of hg.callbacks.Callback. Received: 3"),
        (Notes(), "`callbacks` must be a list of hg.callbacks.Callback"),
        (7, "`callbacks` must be a list of hg.callbacks.Callback. Received: 7"),
        ([Notes], r"Received: <class .* Write Notes\(\)"),
    ],
)
def test_what_is_no_callback(problem, callbacks, text):
    for verb in (hg.tune, hg.search):
        with pytest.raises(TypeError, match=text):
            verb(problem, callbacks=callbacks, budget=2, verbose=0)


def test_callbacks_of_keras_without_a_model(problem):
    options = {"callbacks": [keras.callbacks.TerminateOnNaN()], "budget": 2}
    with pytest.raises(ValueError, match="Callbacks of Keras follow the training of a"):
        hg.tune(problem, **options, verbose=0)
    with pytest.raises(TypeError, match="A Keras callback follows the epochs of one"):
        hg.search(problem, **options, verbose=0)


def test_a_method_that_is_called_like_an_event_and_is_none(problem):
    class Misspelt(Callback):
        def on_outer_step_ends(self, step, logs=None):
            raise AssertionError

    for verb in (hg.tune, hg.search):
        with pytest.raises(TypeError, match="never called.*mean 'on_outer_step_end'"):
            verb(problem, callbacks=[Misspelt()], budget=2, verbose=0)


def test_an_objective_that_is_nan_everywhere_says_where_it_comes_from():
    def val_loss(state, hparams):
        return state["rate"] + keras.ops.log(-1.0 - keras.ops.square(state["decay"]))

    result = hg.tune(make(val_loss=val_loss), budget=40, verbose=0)
    assert not result.status.ok and len(result.history["kind"]) < 12
    assert any("no run of the screening ended in finite" in n for n in result.notes)
    assert any("the validation loss is not finite" in n for n in result.notes)
    assert any("ops.log" in note for note in result.notes)


def test_a_budget_in_parts_of_outer_steps():
    with pytest.raises(ValueError, match=r"`Budget\(outer_steps=…\)` must be an int"):
        hg.Budget(outer_steps=2.5)


def test_hyperparameters_that_are_no_list_and_the_keywords_of_from_model(problem):
    with pytest.raises(
        TypeError, match="`hyperparameters` must be a dict.*Received: 3"
    ):
        hg.tune(None, hyperparameters=3, verbose=0)
    with pytest.raises(ValueError, match="`hyperparameters` is missing"):
        hg.tune(None, verbose=0)
    for verb in (hg.tune, hg.search):
        shown = inspect.signature(verb).parameters
        wanted = inspect.signature(from_model).parameters
        assert set(wanted) - {"model"} <= set(shown)
        assert "fit_options" not in shown and "budget" in shown
        for name in set(wanted) - {"model"}:
            assert name in verb.__doc__, name


def test_sign_steps_grow_shrink_and_ignore_the_size_of_a_slope():
    steps = SignSteps(first=0.5, grow=1.5, shrink=0.4, largest=1.0)
    space, u = {"rate": SPACE["rate"]}, {"rate": np.array(0.0)}
    state = steps.init(space, u)
    sizes = []
    for slope in (1e-9, 1e9, 1.0, -1e-3, -1.0):
        direction, state = steps.direct(space, u, {"rate": np.array(slope)}, state)
        sizes.append(direction["rate"].item())
    np.testing.assert_allclose(sizes, [-0.5, -0.75, -1.0, 0.4, 0.6])
