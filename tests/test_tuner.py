"""Searches on SQLite: trials, objectives, conditions, failures, going on."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.tuner.samplers import Grid, QuasiRandom, Random

SEARCHES = [hg.RandomSearch, hg.GridSearch, hg.BayesianOptimization]


def branching(hp):
    """A number to minimise over a space with a conditional branch."""
    x = hp.Float("x", -2.0, 2.0)
    kind = hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", "b"):
        n = hp.Int("n", 1, 3)
    return (x + 1.0) ** 2 + (0 if kind == "a" else n)


class Branching(hg.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        return branching(trial.hyperparameters)


def data(rows=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32")


def build_model(hp):
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(hp.Int("units", 2, 6, step=2), activation="tanh"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    model.compile(
        optimizer=keras.optimizers.SGD(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def fit_arguments():
    x, y = data()
    return (x[:40], y[:40]), {"validation_data": (x[40:], y[40:]), "verbose": 0}


def test_a_search_prints_and_keeps_its_trials(tmp_path, capsys):
    tuner = Branching(max_trials=5, directory=tmp_path, project_name="p", seed=0)
    tuner.search()
    out = capsys.readouterr().out
    assert "Search: Running Trial #1" in out
    assert "Value             |Best Value So Far |Hyperparameter" in out
    assert "Trial 5 Complete [00h 00m 00s]" in out
    best = tuner.oracle.get_best_trials(1)[0]
    assert f"Best default_objective So Far: {best.score}" in out
    trials = tuner.oracle.trials
    assert list(trials) == ["0000", "0001", "0002", "0003", "0004"]
    scores = [t.score for t in trials.values()]
    assert best.score == min(scores)
    for trial in trials.values():
        values = trial.hyperparameters.values
        assert ("n" in values) == (values.get("kind") == "b")
        assert trial.score == branching(trial.hyperparameters.copy())
        assert trial.status == "COMPLETED"
    assert tuner.get_best_hyperparameters()[0].values == best.hyperparameters.values
    assert tuner.remaining_trials == 0
    tuner.results_summary(2)
    out = capsys.readouterr().out
    assert out.count("Trial 0") == 2 and f"Score: {best.score}" in out


def test_a_finished_search_is_read_again_and_can_be_longer(tmp_path, capsys):
    arguments = {"directory": tmp_path, "project_name": "p", "seed": 0}
    Branching(max_trials=3, **arguments).search(verbose=0)
    again = Branching(max_trials=3, **arguments)
    assert "Reloading Tuner from" in capsys.readouterr().out
    again.search(verbose=0)
    assert len(again.oracle.trials) == 3
    longer = Branching(max_trials=5, **arguments)
    longer.search(verbose=0)
    whole = Branching(max_trials=5, directory=tmp_path, project_name="q", seed=0)
    whole.search(verbose=0)
    values = [
        [t.hyperparameters.values for t in tuner.oracle.trials.values()]
        for tuner in (longer, whole)
    ]
    assert values[0] == values[1]
    fresh = Branching(max_trials=1, overwrite=True, **arguments)
    assert len(fresh.oracle.trials) == 0


@pytest.mark.parametrize("seed", [0, None])
def test_seed_0_is_a_seed(tmp_path, seed):
    found = []
    for name in ("p", "q"):
        tuner = Branching(
            max_trials=3, directory=tmp_path, project_name=name, seed=seed
        )
        tuner.search(verbose=0)
        found.append([t.hyperparameters.values for t in tuner.oracle.trials.values()])
    assert (found[0] == found[1]) == (seed == 0)


@pytest.mark.parametrize("search", SEARCHES)
def test_models_are_given_back_with_the_scored_weights(tmp_path, search):
    tuner = search(
        build_model,
        objective="val_accuracy",
        max_trials=3,
        directory=tmp_path,
        project_name="p",
        seed=3,
    )
    args, kwargs = fit_arguments()
    tuner.search(*args, epochs=3, **kwargs)
    best = tuner.oracle.get_best_trials(2)
    models = tuner.get_best_models(2)
    for trial, model in zip(best, models):
        loss, accuracy = model.evaluate(*kwargs["validation_data"], verbose=0)
        assert accuracy == pytest.approx(trial.score)
        assert loss == pytest.approx(trial.metrics.get_best_value("val_loss"), rel=1e-5)
        assert model.layers[0].units == trial.hyperparameters["units"]


def test_an_execution_is_the_same_whenever_it_is_made(tmp_path):
    args, kwargs = fit_arguments()
    scores = []
    for name in ("p", "q"):
        tuner = hg.RandomSearch(
            build_model,
            objective="val_loss",
            max_trials=2,
            executions_per_trial=2,
            directory=tmp_path,
            project_name=name,
            seed=1,
        )
        tuner.search(*args, epochs=2, **kwargs)
        scores.append([t.score for t in tuner.oracle.trials.values()])
        np.random.rand()
    assert scores[0] == scores[1]


def test_executions_are_averaged_and_differ(tmp_path):
    seen = []

    class Model(hg.HyperModel):
        def build(self, hp):
            return build_model(hp)

        def fit(self, hp, model, *args, **kwargs):
            history = super().fit(hp, model, *args, **kwargs)
            seen.append(min(history.history["val_loss"]))
            return history

    args, kwargs = fit_arguments()
    tuner = hg.RandomSearch(
        Model(),
        objective="val_loss",
        max_trials=1,
        executions_per_trial=3,
        directory=tmp_path,
        project_name="p",
    )
    tuner.search(*args, epochs=2, **kwargs)
    assert len(set(seen)) == 3
    assert tuner.oracle.get_trial("0000").score == pytest.approx(np.mean(seen))


def test_a_fit_of_ones_own_returns_a_number_or_metrics(tmp_path):
    class Model(hg.HyperModel):
        def build(self, hp):
            return build_model(hp)

        def fit(self, hp, model, x, y, callbacks=None, **kwargs):
            epochs = hp.Int("epochs", 1, 2)
            model.fit(x, y, epochs=epochs, verbose=0)
            return {"mine": float(epochs), "other": 2.0}

    args, _ = fit_arguments()
    tuner = hg.RandomSearch(
        Model(),
        objective=hg.Objective("mine", "max"),
        max_trials=3,
        directory=tmp_path,
        project_name="p",
        seed=0,
    )
    tuner.search(*args, verbose=0)
    best = tuner.oracle.get_best_trials(1)[0]
    assert best.score == 2.0 and best.metrics.get_best_value("other") == 2.0
    assert best.hyperparameters["epochs"] == 2
    assert tuner.get_best_models()[0].count_params() > 0


def test_several_objectives_are_added_up(tmp_path):
    class Two(hg.RandomSearch):
        def run_trial(self, trial, *args, **kwargs):
            x = trial.hyperparameters.Float("x", 0.0, 1.0)
            return {"a": x, "val_accuracy": 3.0 * x}

    tuner = Two(
        objective=[hg.Objective("a", "min"), "val_accuracy"],
        max_trials=4,
        directory=tmp_path,
        project_name="p",
    )
    tuner.search(verbose=0)
    for trial in tuner.oracle.trials.values():
        assert trial.score == pytest.approx(-2.0 * trial.hyperparameters["x"])
    best = tuner.oracle.get_best_trials(1)[0]
    assert best.score == min(t.score for t in tuner.oracle.trials.values())


def test_hyperband_stops_the_worse_ones(tmp_path):
    args, kwargs = fit_arguments()
    tuner = hg.Hyperband(
        build_model,
        objective="val_loss",
        max_epochs=4,
        factor=2,
        directory=tmp_path,
        project_name="p",
        seed=0,
    )
    tuner.search(*args, **kwargs)
    status = [t.status for t in tuner.oracle.trials.values()]
    assert len(status) == 10 and set(status) == {"COMPLETED", "PRUNED"}
    best = tuner.oracle.get_best_trials(1)[0]
    assert best.status == "COMPLETED"
    assert tuner.get_best_models()[0].evaluate(*kwargs["validation_data"], verbose=0)


# Failures


class Failing(hg.RandomSearch):
    """Fails where the number says so."""

    def run_trial(self, trial, *args, **kwargs):
        x = trial.hyperparameters.Float("x", 0.0, 1.0)
        self.calls = [*getattr(self, "calls", []), trial.trial_id]
        if x < self.limit:
            return self.bad(trial)
        return x


def failing(tmp_path, limit, bad, **options):
    tuner = Failing(directory=tmp_path, project_name="p", seed=0, **options)
    tuner.limit, tuner.bad = limit, bad
    return tuner


def nan(trial):
    return math.nan


def error(trial):
    raise ZeroDivisionError("by the model")


def oversized(trial):
    raise hg.FailedTrialError("too large")


@pytest.mark.parametrize(
    "bad, text",
    [
        (nan, "is nan: training diverged"),
        (error, "ZeroDivisionError: by the model"),
        (oversized, "too large"),
    ],
)
def test_a_trial_that_fails_does_not_end_the_search(tmp_path, capsys, bad, text):
    tuner = failing(tmp_path, 0.5, bad, max_trials=8, max_consecutive_failed_trials=8)
    tuner.search(verbose=0)
    trials = tuner.oracle.trials.values()
    failed = [t for t in trials if t.status == "FAILED"]
    done = [t for t in trials if t.status == "COMPLETED"]
    assert 0 < len(failed) < 8 and len(failed) + len(done) == 8
    assert all(text in t.message for t in failed)
    assert all(t.score >= 0.5 for t in done)
    assert tuner.oracle.get_best_trials(8)[0].score == min(t.score for t in done)
    assert len(tuner.oracle.get_best_trials(8)) == len(done)
    tuner.results_summary()
    out = capsys.readouterr().out
    assert f"{len(failed)} trials failed:" in out and text in out


def test_trials_are_tried_again_as_often_as_asked(tmp_path):
    tuner = failing(
        tmp_path,
        2.0,
        error,
        max_trials=2,
        max_retries_per_trial=2,
        max_consecutive_failed_trials=9,
    )
    tuner.search(verbose=0)
    assert tuner.calls == ["0000"] * 3 + ["0001"] * 3
    assert [t.failures for t in tuner.oracle.trials.values()] == [3, 3]


def test_the_search_stops_where_nothing_works(tmp_path):
    tuner = failing(tmp_path, 2.0, nan, max_trials=9, max_consecutive_failed_trials=2)
    with pytest.raises(RuntimeError, match="2 trials failed one after.*(?s:.)*is nan"):
        tuner.search(verbose=0)
    assert tuner.oracle.get_best_trials(1) == []


def test_a_broken_off_trial_is_gone_on_with(tmp_path):
    def stop(trial):
        raise KeyboardInterrupt

    tuner = failing(tmp_path, 2.0, stop, max_trials=2)
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)
    tuner.limit = -1.0
    tuner.search(verbose=0)
    assert tuner.calls == ["0000", "0000", "0001"]
    assert [t.status for t in tuner.oracle.trials.values()] == ["COMPLETED"] * 2


@pytest.mark.parametrize(
    "build, text",
    [
        (lambda hp: None, "must return a compiled keras.Model. Received: None"),
        (lambda hp: keras.Sequential([keras.layers.Dense(1)]), "not compiled"),
    ],
)
def test_what_every_trial_would_fail_with_ends_the_search(tmp_path, build, text):
    tuner = hg.RandomSearch(build, "val_loss", directory=tmp_path, project_name="p")
    args, kwargs = fit_arguments()
    with pytest.raises(hg.FatalError, match=text):
        tuner.search(*args, **kwargs)
    assert tuner.oracle.get_trial("0000").status == "FAILED"


def test_an_objective_that_is_not_there_lists_those_that_are(tmp_path):
    args, kwargs = fit_arguments()
    tuner = hg.RandomSearch(
        build_model, "val_mse", directory=tmp_path, project_name="p"
    )
    with pytest.raises(ValueError, match="'val_mse' is not among.*val_accuracy, val_l"):
        tuner.search(*args, **kwargs)
    tuner = hg.RandomSearch(
        build_model, "val_accuracy", directory=tmp_path, project_name="q"
    )
    with pytest.raises(ValueError, match="accuracy, loss. Pass `validation_data="):
        tuner.search(*args, verbose=0)


def test_too_large_models_fail_their_trial(tmp_path):
    args, kwargs = fit_arguments()
    tuner = hg.GridSearch(
        build_model, "val_loss", 3, max_model_size=10, directory=tmp_path, seed=0
    )
    with pytest.raises(RuntimeError, match="more than max_model_size=10"):
        tuner.search(*args, **kwargs)


def test_models_are_compiled_with_what_the_tuner_has(tmp_path):
    seen = []

    class Model(hg.HyperModel):
        def build(self, hp):
            return build_model(hp)

        def fit(self, hp, model, *args, **kwargs):
            seen.append((type(model.optimizer).__name__, model.loss))
            return 1.0

    optimizer = keras.optimizers.Adam(0.1)
    hg.RandomSearch(
        Model(),
        max_trials=2,
        optimizer=optimizer,
        loss="mse",
        metrics=["mae"],
        directory=tmp_path,
    ).search(verbose=0)
    assert seen == [("Adam", "mse")] * 2 and not optimizer.built


# The space


@pytest.mark.parametrize("given", ["ours", "theirs"])
def test_known_hyperparameters_win(tmp_path, given):
    import keras_tuner

    space = (hg if given == "ours" else keras_tuner).HyperParameters()
    space.Float("learning_rate", 0.5, 0.6)
    space.Fixed("units", 4)
    tuner = hg.RandomSearch(
        build_model, "val_loss", 3, hyperparameters=space, directory=tmp_path
    )
    args, kwargs = fit_arguments()
    tuner.search(*args, **kwargs)
    for trial in tuner.oracle.trials.values():
        assert 0.5 <= trial.hyperparameters["learning_rate"] <= 0.6
        assert trial.hyperparameters["units"] == 4


def test_new_entries_are_fixed_or_refused_where_asked(tmp_path):
    space = hg.HyperParameters()
    space.Int("units", 2, 6)
    tuner = hg.RandomSearch(
        build_model,
        "val_loss",
        hyperparameters=space,
        tune_new_entries=False,
        directory=tmp_path,
        project_name="p",
    )
    assert [e.name for e in tuner.oracle.get_space().space] == ["units"]
    args, kwargs = fit_arguments()
    tuner.oracle.max_trials = 2
    tuner.search(*args, **kwargs)
    rates = [t.hyperparameters["learning_rate"] for t in tuner.oracle.trials.values()]
    assert rates == [1e-3, 1e-3]
    with pytest.raises(
        RuntimeError, match="`allow_new_entries` is False.*learning_rat"
    ):
        hg.RandomSearch(
            build_model,
            "val_loss",
            hyperparameters=space,
            allow_new_entries=False,
            directory=tmp_path,
            project_name="q",
        )


def test_all_branches_are_found_before_the_search(tmp_path, capsys):
    def build(hp):
        branching(hp)
        with hp.conditional_scope("kind", "b"):
            if hp.get("kind") == "b":
                hp.Int("late", 1, 3)
        return build_model(hp)

    tuner = hg.RandomSearch(build, "val_loss", directory=tmp_path)
    tuner.search_space_summary()
    out = capsys.readouterr().out
    assert "Default search space size: 6" in out
    assert "late (Int)\n{'conditions': [{'class_name': 'Parent'" in out


def test_changed_bounds_are_honoured_and_other_choices_refused(tmp_path, capsys):
    def tuner(high, choices=("a", "b"), **options):
        class Search(hg.RandomSearch):
            def run_trial(self, trial, *args, **kwargs):
                return trial.hyperparameters["x"]

        space = hg.HyperParameters()
        space.Float("x", 0.0, high)
        space.Choice("kind", list(choices))
        return Search(
            hyperparameters=space, directory=tmp_path, project_name="p", **options
        )

    tuner(1.0, max_trials=3, seed=0).search(verbose=0)
    more = tuner(9.0, max_trials=9)
    assert "The search space has changed: Float(name: 'x'" in capsys.readouterr().out
    more.search(verbose=0)
    values = [t.hyperparameters["x"] for t in more.oracle.trials.values()]
    assert max(values[:3]) <= 1.0 < max(values[3:]) <= 9.0
    with pytest.raises(ValueError, match=r"\['a', 'b'\].*→.*\['a', 'c'\]"):
        tuner(9.0, ("a", "c"))
    with pytest.raises(ValueError, match="begun with seed=0. Received: seed=1"):
        tuner(9.0, seed=1)
    with pytest.raises(ValueError, match="Scores of two objectives"):
        tuner(9.0, objective="val_loss")


def test_enqueued_values_are_tried_first(tmp_path):
    space = hg.HyperParameters()
    branching(space)
    tuner = Branching(
        max_trials=3,
        hyperparameters=space,
        directory=tmp_path,
        project_name="p",
        seed=0,
    )
    tuner.enqueue({"x": 0.25, "kind": "b", "n": 2})
    tuner.enqueue({"x": -0.5})
    for values, text in (
        ({"y": 1.0}, "must name hyperparameters of the space: kind, n, x.*'y'"),
        ({"x": 5.0}, "must be a value of Float.*5.0"),
        ({"kind": "c"}, "must be a value of Choice.*'c'"),
    ):
        with pytest.raises(ValueError, match=text):
            tuner.enqueue(values)
    tuner.search(verbose=0)
    values = [t.hyperparameters.values for t in tuner.oracle.trials.values()]
    assert values[0] == {"x": 0.25, "kind": "b", "n": 2}
    assert values[1]["x"] == -0.5
    plain = Branching(
        max_trials=1,
        hyperparameters=space,
        directory=tmp_path,
        project_name="q",
        seed=0,
    )
    plain.search(verbose=0)
    assert values[2] == plain.oracle.get_trial("0000").hyperparameters.values


def test_samplers_propose_every_value_once():
    hp = hg.HyperParameters()
    hp.Choice("kind", ["a", "b"], default="b")
    hp.Int("n", 1, 3, parent_name="kind", parent_values=["b"])
    grid = Grid()
    found = [grid.values(hp, i) for i in range(5)]
    assert found == [
        {"kind": "b", "n": 1},
        {"kind": "b", "n": 2},
        {"kind": "b", "n": 3},
        {"kind": "a"},
        None,
    ]
    random = Random(3)
    drawn = [random.values(hp, i) for i in range(6)]
    assert sorted(map(str, filter(None, drawn))) == sorted(map(str, found[:4]))
    assert drawn[4] is None
    assert Random(3).values(hp, 2) == drawn[2]
    quasi = QuasiRandom(0)
    assert quasi.values(hp, 0) == {"kind": "b", "n": 1}
    assert quasi.values(hp, 3) == QuasiRandom(0).values(hp, 3)


def test_a_grid_ends_with_its_last_combination(tmp_path):
    class Search(hg.GridSearch):
        def run_trial(self, trial, *args, **kwargs):
            return float(trial.hyperparameters.Int("n", 1, 4))

    tuner = Search(directory=tmp_path, project_name="p")
    assert tuner.remaining_trials is None
    tuner.search(verbose=0)
    assert [t.score for t in tuner.oracle.trials.values()] == [1.0, 2.0, 3.0, 4.0]


# The folder and the database


@pytest.mark.parametrize("name", ["..", "../out", "a/../../out", "/tmp/out", " ", "."])
def test_a_project_stays_in_its_directory(tmp_path, name):
    inside = tmp_path / "inside"
    with pytest.raises(ValueError, match="inside of `directory`"):
        Branching(directory=inside, project_name=name, overwrite=True)
    assert not (tmp_path / "out").exists()


def test_a_link_does_not_lead_out_either(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "p").symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match="inside of `directory`"):
        Branching(directory=tmp_path / "inside", project_name="p", overwrite=True)
    assert (tmp_path / "other").exists()


def test_a_project_of_kerastuner_says_what_to_do(tmp_path):
    import keras_tuner

    keras_tuner.RandomSearch(
        build_model, "val_loss", directory=tmp_path, project_name="p"
    ).oracle.save()
    with pytest.raises(ValueError, match="project of KerasTuner.*enqueue"):
        hg.RandomSearch(build_model, "val_loss", directory=tmp_path, project_name="p")


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"max_trials": 0}, ValueError, "`max_trials` must be"),
        ({"executions_per_trial": 0}, ValueError, "`executions_per_trial` must be"),
        ({"seed": -1}, ValueError, "`seed` must be"),
        ({"distribution_strategy": 1}, ValueError, "start the same script.*storage="),
        ({"oracle": 1}, ValueError, "hg.RandomSearch"),
        ({"max_trial": 1}, TypeError, "Unknown argument 'max_trial'"),
        ({"objective": "val_mine"}, ValueError, 'hg.Objective."val_mine", direction='),
        ({"objective": 3}, TypeError, "`objective` must be the name of a metric"),
        ({"tune_new_entries": False}, ValueError, "pass `hyperparameters=`"),
        ({"hyperparameters": {}}, TypeError, "hypergrad.HyperParameters"),
        ({"hypermodel": 3}, ValueError, "`hypermodel` must be a function"),
        ({"sampler": 3}, TypeError, "`sampler` must be one of"),
        ({"storage": 3}, TypeError, "`storage` must be the URL"),
        ({"storage": "no url: secret"}, ValueError, "Received: '.not a URL.'"),
        (
            {"storage": "sqlite:////no/where/x.db"},
            ValueError,
            "unable to open database",
        ),
    ],
    ids=str,
)
def test_bad_arguments(tmp_path, options, error, text):
    given = {"directory": tmp_path} | options
    with pytest.raises(error, match=text):
        if {"sampler", "hypermodel"} & set(options):
            given.setdefault("hypermodel", build_model)
            hg.Tuner(**given)
        else:
            Branching(**given)


def test_a_model_is_needed_unless_trials_are_ones_own(tmp_path):
    with pytest.raises(ValueError, match="unless `run_trial` is overridden"):
        hg.RandomSearch(objective="val_loss", directory=tmp_path)


def test_a_password_is_neither_printed_nor_saved(tmp_path):
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/x?sslpassword=hunter2"
    with pytest.raises((ValueError, ImportError)) as caught:
        Branching(directory=tmp_path, storage=url)
    assert "hunter2" not in str(caught.value) and "***" in str(caught.value)
    assert caught.value.__cause__ is None
    for path in Path(tmp_path).rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()


@pytest.mark.parametrize("what", ["version", "text"])
def test_a_database_that_cannot_be_read(tmp_path, what):
    import sqlite3

    Branching(directory=tmp_path, project_name="p")
    path = tmp_path / "p" / "study.db"
    if what == "text":
        path.write_text("this is no database " * 50)
        text = "file is not a database"
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("update alembic_version set version_num='v9.9.9.a'")
            connection.execute("update version_info set schema_version=99")
        connection.close()
        text = "are of another version than this Optuna's"
    with pytest.raises(ValueError, match=text):
        Branching(directory=tmp_path, project_name="p")


def test_nothing_is_pickled(tmp_path):
    args, kwargs = fit_arguments()
    hg.RandomSearch(
        build_model, "val_loss", 1, directory=tmp_path, project_name="p"
    ).search(*args, **kwargs)
    kinds = {p.suffix for p in (tmp_path / "p").rglob("*") if p.is_file()}
    assert kinds == {".db", ".h5", ".json"}


SCRIPT = """
import sys, time
import hypergrad as hg

class Slow(hg.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        x = trial.hyperparameters.Float("x", 0.0, 1.0)
        print("began", trial.trial_id, flush=True)
        time.sleep(float(sys.argv[3]))
        return x

folder, number = sys.argv[1], int(sys.argv[2])
tuner = Slow(max_trials=number, directory=folder, project_name="p", seed=0)
tuner.search(verbose=0)
print("best", tuner.get_best_hyperparameters()[0]["x"])
"""


def worker(folder, number, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(number), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_killed_worker_loses_no_trial_and_makes_none_twice(tmp_path):
    first = worker(tmp_path, 4, 60)
    assert first.stdout.readline() == "began 0000\n"
    first.kill()
    first.communicate()
    second, third = worker(tmp_path, 4, 0.3), worker(tmp_path, 4, 0.3)
    outputs = [process.communicate(timeout=120)[0] for process in (second, third)]
    began = [line for out in outputs for line in out.splitlines() if "began" in line]
    assert sorted(began) == [f"began 000{i}" for i in range(4)]
    best = {line for out in outputs for line in out.splitlines() if "best" in line}
    serial = worker(tmp_path / "serial", 4, 0.0).communicate(timeout=120)[0]
    assert best == {serial.splitlines()[-1]}


def test_optuna_opens_the_study_as_it_is(tmp_path):
    import optuna

    tuner = Branching(max_trials=3, directory=tmp_path, project_name="p", seed=0)
    tuner.search(verbose=0)
    study = optuna.load_study(
        study_name="p", storage=f"sqlite:///{tmp_path}/p/study.db"
    )
    trials = list(tuner.oracle.trials.values())
    assert study.best_value == min(t.score for t in trials)
    for mine, row in zip(trials, study.trials):
        assert row.user_attrs["start"] == mine.start
        assert json.dumps(row.user_attrs)
    shutil.rmtree(tmp_path / "p")


PARALLEL = """
import os, sys, time
import hypergrad as hg

def slow(hp):
    return hp.Float("x", 0.0, 1.0)

class Slow(hg.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        if trial.trial_id == "0000" and not os.path.exists(sys.argv[2]):
            open(sys.argv[2], "w").close()
            os.kill(os.getpid(), 9)
        time.sleep(0.2)
        print("ran", trial.trial_id, len(os.sched_getaffinity(0)), flush=True)
        return slow(trial.hyperparameters)

tuner = Slow(max_trials=6, directory=sys.argv[1], project_name="p", seed=0)
tuner.search(verbose=0, n_jobs=2)
print("best", tuner.get_best_hyperparameters()[0]["x"])
"""


def test_workers_of_a_script_share_a_search_and_survive_each_other(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", PARALLEL, str(tmp_path / "s"), str(tmp_path / "died")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "1 of 2 workers ended with an error; the others did" in run.stderr
    ran = [line.split()[1] for line in run.stdout.splitlines() if "ran" in line]
    assert sorted(ran) == [f"000{i}" for i in range(6)]
    cores = {line.split()[2] for line in run.stdout.splitlines() if "ran" in line}
    assert cores == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    assert "best" in run.stdout


def test_a_worker_waits_for_a_space_that_another_one_is_finding(tmp_path):
    begun = threading.Event()

    class Finding(hg.RandomSearch):
        def run_trial(self, trial, *args, **kwargs):
            begun.set()
            time.sleep(0.5)
            done.append((self, trial.trial_id))
            return trial.hyperparameters.Float("x", 0.0, 1.0)

    done = []
    first, second = (
        Finding(max_trials=4, directory=tmp_path, project_name="p", seed=0)
        for _ in range(2)
    )
    thread = threading.Thread(target=first.search, kwargs={"verbose": 0})
    thread.start()
    begun.wait()
    second.search(verbose=0)  # nothing is known to differ yet
    thread.join()
    assert sorted(number for _, number in done) == [f"000{i}" for i in range(4)]
    assert {worker for worker, _ in done} == {first, second}


def test_what_cannot_be_sent_to_workers_is_named(tmp_path):
    tuner = Branching(directory=tmp_path, project_name="p")
    with pytest.raises(TypeError, match="sent to other processes.*arrays instead of"):
        tuner.search((i for i in range(3)), n_jobs=2)
