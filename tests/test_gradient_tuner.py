"""Searches whose real numbers are descended."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.tuner.descent_options import descent_options
from hypergrad.tuner.pruning import BehindTheBest
from test_tuner import data


def build_model(hp):
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(hp.Int("units", 2, 8, step=2), activation="tanh"),
            keras.layers.Dropout(hp.Float("dropout", 0.0, 0.3)),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    rate = hp.Float("learning_rate", 1e-3, 1.0, sampling="log")
    momentum = 1.0 - hp.Float("one_less", 0.05, 1.0, sampling="log")
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=momentum),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def training():
    x, y = data(120)
    return (x[:80], y[:80]), {"validation_data": (x[80:], y[80:]), "epochs": 3}


def tuner(folder, model=build_model, **options):
    given = {"objective": "val_loss", "max_trials": 2, "seed": 1, "budget": 6}
    return hg.GradientTuner(
        model, directory=folder, project_name="p", **given | options
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    found = tuner(tmp_path_factory.mktemp("study"), max_trials=3, pruner=None)
    args, kwargs = training()
    found.search(*args, **kwargs, verbose=0)
    return found


def test_a_trial_descends_and_is_scored_by_a_fresh_training(searched):
    args, kwargs = training()
    for trial in searched.oracle.trials.values():
        assert trial.status == "COMPLETED"
        descent = trial.info["descent"]
        assert set(descent["values"]) == {"learning_rate", "one_less"}
        assert descent["runs"] <= 6.0
        losses = descent["history"]["val_loss"]
        assert descent["loss"] == min(losses) <= losses[0]
        hp = trial.hyperparameters
        assert {n: hp[n] for n in descent["values"]} == descent["values"]
        assert 1e-3 <= hp["learning_rate"] <= 1.0 and 0.05 <= hp["one_less"] <= 1.0
        for name in ("units", "dropout"):
            assert hp[name] == trial.start[name]
        assert trial.score == trial.metrics.get_best_value("val_loss")


def test_later_trials_begin_where_the_best_one_ended(searched):
    first, second, _ = searched.oracle.trials.values()
    for name in ("learning_rate", "one_less"):
        assert second.start[name] == pytest.approx(first.hyperparameters[name])
        history = second.info["descent"]["history"]
        assert history[name][0] == pytest.approx(second.start[name], rel=1e-6)


def test_the_best_model_has_the_scored_weights(searched):
    _, kwargs = training()
    best = searched.oracle.get_best_trials(1)[0]
    model = searched.get_best_models(1)[0]
    loss, _ = model.evaluate(*kwargs["validation_data"], verbose=0)
    assert loss == pytest.approx(best.score, rel=1e-5)
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    assert rate == pytest.approx(best.hyperparameters["learning_rate"], rel=1e-6)
    assert model.optimizer.momentum == pytest.approx(
        1.0 - best.hyperparameters["one_less"]
    )


def test_the_same_seed_gives_the_same_trials(searched, tmp_path):
    again = tuner(tmp_path, max_trials=1, pruner=None)
    args, kwargs = training()
    again.search(*args, **kwargs, verbose=0)
    one, other = again.oracle.get_trial("0000"), searched.oracle.get_trial("0000")
    assert one.hyperparameters.values == other.hyperparameters.values
    assert one.score == other.score


def test_the_summary_shows_what_is_descended_and_why_not(searched, capsys):
    searched.search_space_summary()
    out = capsys.readouterr().out
    assert "  one_less: optimizer.momentum = 1 + -1 v" in out
    assert "  learning_rate: optimizer.learning_rate = itself" in out
    assert "  units: a choice or a whole number has no derivative" in out
    assert "  dropout: dropout.rate: sets a random threshold" in out


def test_a_broken_off_descent_goes_on(searched, tmp_path):
    class Stop(hg.callbacks.Callback):
        def on_run_end(self, row, logs=None):
            if row == 2:
                raise KeyboardInterrupt

    args, kwargs = training()
    one = tuner(tmp_path, max_trials=1, pruner=None)
    one.tune_options["callbacks"] = [Stop()]
    with pytest.raises(KeyboardInterrupt):
        one.search(*args, **kwargs, verbose=0)
    rows = []

    class Count(hg.callbacks.Callback):
        def on_run_end(self, row, logs=None):
            rows.append(row)

    again = tuner(tmp_path, max_trials=1, pruner=None)
    again.tune_options["callbacks"] = [Count()]
    again.search(*args, **kwargs, verbose=0)
    assert 0 < len(rows) < 6
    trials = again.oracle.trials
    assert list(trials) == ["0000"]
    whole = searched.oracle.get_trial("0000")
    assert trials["0000"].hyperparameters.values == whole.hyperparameters.values
    assert trials["0000"].score == whole.score


class Epochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        HEARD.append((epoch, logs["val_loss"]))


HEARD = []


def test_the_run_that_was_tuned_is_the_one_that_is_scored(tmp_path):
    args, kwargs = training()
    HEARD.clear()
    found = tuner(tmp_path, max_trials=1)
    found.search(*args, **kwargs, callbacks=[Epochs()], verbose=0)
    (trial,) = found.oracle.trials.values()
    assert [epoch for epoch, _ in HEARD] == [0, 1, 2]
    losses = [loss for _, loss in HEARD]
    assert losses[-1] == pytest.approx(trial.info["descent"]["loss"], rel=1e-6)
    assert trial.score == min(losses)
    (model,) = found.get_best_models()
    again = model.evaluate(*kwargs["validation_data"], verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(trial.score, rel=1e-5)


@pytest.mark.parametrize("why", ["training metric", "batches", "rates that change"])
def test_another_training_is_scored_where_that_run_cannot_be_watched(tmp_path, why):
    class Watching(hg.GradientTuner):
        def on_batch_end(self, trial, model, batch, logs):
            HEARD.append(batch)

    args, kwargs = training()
    HEARD.clear()
    kind, objective, callbacks = {
        "training metric": (hg.GradientTuner, "accuracy", []),
        "batches": (Watching, "val_loss", []),
        "rates that change": (
            *(hg.GradientTuner, "val_loss"),
            [keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)],
        ),
    }[why]
    found = kind(
        *(build_model, objective, 1),
        **{"budget": 3, "seed": 1, "directory": tmp_path, "project_name": "p"},
    )
    found.search(*args, **kwargs, callbacks=callbacks, verbose=0)
    (trial,) = found.oracle.trials.values()
    assert trial.status == "COMPLETED"
    assert trial.metrics.exists("accuracy")  # as `fit` reports it
    assert bool(HEARD) == (why == "batches")


def test_hopeless_trials_are_pruned(tmp_path):
    class Always:
        def prune(self, study, trial):
            return len(trial.intermediate_values) == 2

    args, kwargs = training()
    known = hg.HyperParameters()
    known.Float("learning_rate", 1e-3, 1.0, sampling="log")
    found = tuner(
        *(tmp_path, build_model),
        pruner=Always(),
        max_trials=1,
        hyperparameters=known,
        tune_new_entries=False,
    )
    found.search(*args, **kwargs, verbose=0)
    trial = found.oracle.get_trial("0000")
    assert trial.status == "PRUNED" and trial.score is None
    assert trial.hyperparameters["units"] == 2  # what its model asked for besides
    assert len(trial.info["descent"]["history"]["val_loss"]) == 2
    assert found.get_best_models() == []


def test_what_is_behind_the_best_is_given_up():
    states = {
        True: SimpleNamespace(name="COMPLETE"),
        False: SimpleNamespace(name="FAIL"),
    }

    def trial(values, done=True):
        return SimpleNamespace(
            state=states[done], intermediate_values=dict(enumerate(values))
        )

    class Study:
        def get_trials(self, deepcopy=True):
            return [
                trial([2.0, 1.0]),
                trial([3.0]),
                trial([0.1], done=False),
                trial([]),
            ]

    pruner = BehindTheBest(margin=0.1, later=0.0, runs=3)
    assert not pruner.prune(Study(), trial([1.09]))
    assert pruner.prune(Study(), trial([1.11]))
    assert pruner.prune(Study(), trial([1.09, 1.2, 1.3]))
    assert not pruner.prune(Study(), trial([1.09, 1.2, 0.99]))
    assert not pruner.prune(Study(), trial([]))


def test_later_trials_know_the_runs_of_earlier_ones(searched):
    first, second, third = searched.oracle.trials.values()
    rows = searched.oracle.store.study.get_trials()
    points, losses = rows[1].user_attrs["known"]
    history = first.info["descent"]["history"]
    assert rows[0].user_attrs["known"] == [[], []]
    assert sorted(losses) == pytest.approx(sorted(history["val_loss"]))
    best = points[int(np.argmin(losses))]
    assert best == [first.hyperparameters[n] for n in ("learning_rate", "one_less")]
    count = len(history["val_loss"]) + len(
        second.info["descent"]["history"]["val_loss"]
    )
    assert len(rows[2].user_attrs["known"][1]) == count
    assert third.info["descent"]["history"]["kind"][0] == "start"


def test_accuracy_selects_what_the_loss_descends(tmp_path):
    args, kwargs = training()
    found = tuner(tmp_path, objective="val_accuracy", executions_per_trial=2)
    found.search(*args, **kwargs, verbose=0)
    best = found.oracle.get_best_trials(1)[0]
    assert 0.5 < best.score <= 1.0 and best.info["descent"]["loss"] > 0.0


def smoothed(hp):
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(2, activation="softmax")]
    )
    rate = hp.Float("learning_rate", 1e-2, 1.0, sampling="log")
    smoothing = hp.Float("smoothing", 0.0, 0.4)
    model.compile(
        optimizer=keras.optimizers.SGD(rate),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=smoothing),
        metrics=["categorical_crossentropy"],
    )
    return model


def test_the_measure_does_not_move_with_the_loss(tmp_path):
    (x, y), kwargs = training()
    x_val, y_val = kwargs["validation_data"]
    y, y_val = (keras.utils.to_categorical(labels, 2) for labels in (y, y_val))
    found = tuner(tmp_path, smoothed, max_trials=1)
    found.enqueue({"smoothing": 0.35})
    found.search(x, y, validation_data=(x_val, y_val), epochs=2, verbose=0)
    trial = found.oracle.get_trial("0000")
    plain = trial.metrics.get_best_value("val_categorical_crossentropy")
    assert trial.score == pytest.approx(plain, rel=1e-5)
    assert not trial.metrics.exists("val_measured_loss")
    assert trial.start["smoothing"] == 0.35
    hp = trial.hyperparameters
    measured = found._measured(hp, found.reach(hp))
    assert measured["smoothing"] == 0.0 != hp["smoothing"]
    assert measured["learning_rate"] == hp["learning_rate"]


class OwnFit(hg.HyperModel):
    def build(self, hp):
        return build_model(hp)

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, batch_size=hp.Int("batch", 8, 32), **kwargs)


class OwnRun(hg.GradientTuner):
    def run_trial(self, trial, *args, **kwargs):
        return trial.hyperparameters.Float("x", 0.0, 1.0)


@pytest.mark.parametrize("own", ["fit", "run_trial"])
def test_a_training_of_ones_own_is_searched(tmp_path, capsys, own):
    if own == "fit":
        found = tuner(tmp_path, OwnFit())
    else:
        found = OwnRun(max_trials=2, directory=tmp_path, project_name="p")
    found.search_space_summary()
    out = capsys.readouterr().out
    assert "Descended, by the gradient of the validation loss:\n  nothing" in out
    args, kwargs = training()
    found.search(*args, **kwargs, verbose=0)
    assert all("descent" not in t.info for t in found.oracle.trials.values())
    assert found.oracle.get_best_trials(1)
    word = "`fit` of its own" if own == "fit" else "`run_trial` is overridden"
    assert word in found.why_nothing_is_descended


def test_a_model_without_real_numbers_is_searched(tmp_path):
    def plain(hp):
        hp.Int("other", 1, 4)
        space = hg.HyperParameters()
        model = build_model(space)
        return model

    found = tuner(tmp_path, plain, max_trials=1)
    args, kwargs = training()
    found.search(*args, **kwargs, verbose=0)
    assert found.oracle.get_trial("0000").info == {}


@pytest.mark.parametrize(
    "options, text",
    [
        ({"validation_data": None}, "needs data to validate on"),
        ({"initial_epoch": 1}, r"search\(initial_epoch=1\)` cannot be descended"),
        ({"nonsense": 1}, "takes what `fit` takes.*nonsense"),
    ],
)
def test_what_cannot_be_descended_ends_the_search(tmp_path, options, text):
    args, kwargs = training()
    found = tuner(tmp_path)
    with pytest.raises(hg.FatalError, match=text):
        found.search(*args, **kwargs | options, verbose=0)


def test_arguments_of_fit_become_those_of_tune():
    x, y = data()
    options = descent_options(
        (x, y, 8), {"steps_per_epoch": 3, "epochs": 2, "validation_split": 0.5}
    )
    assert options.pop("x") is x and options.pop("y") is y
    assert options == {"batch_size": 8, "steps": 6, "validation_split": 0.5}
    plain = descent_options((), {"x": x, "validation_data": (x, y), "callbacks": [1]})
    assert set(plain) == {"x", "validation_data", "epochs"} and plain["epochs"] == 1


@pytest.mark.parametrize("name", ["hyperparameters", "directory", "budget"])
def test_options_that_the_tuner_sets_itself_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"`tune_options`.*'{name}'"):
        tuner(tmp_path, tune_options={name: 1})
    assert not np.any(list(tmp_path.iterdir()))
