"""What callbacks write and when they act, on disk and after a kill."""

import csv
import math
import struct
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import hypergrad as hg
from hypergrad.callbacks import (
    CSVLogger,
    MLflow,
    OverfittingError,
    OverfittingGuard,
    TensorBoard,
)
from hypergrad.callbacks.columns import numbers_of

RATE = "optimizer.learning_rate"


@pytest.fixture(scope="module")
def problem():
    """w ← w (1 − rate) from 1, E = w² + 0.4; the loss it reports is w²."""

    def step(state, hparams, t):
        w = state["w"] * (1.0 - hparams["rate"])
        return {"w": w}, {"loss": w**2}

    return hg.Problem(
        init=lambda hparams: {"w": keras.ops.ones(()) + 0.0 * hparams["shift"][0]},
        step=step,
        val_loss=lambda s, hparams: s["w"] ** 2 + 0.4,
        num_steps=10,
        space={
            "rate": hg.Float(1e-3, 0.5, sampling="log", default=0.01),
            "shift": hg.Float(-1.0, 1.0, shape=(20,), default=0.5),
        },
    )


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype("float32")
    y = x[:, :1] + 0.1
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    result = hg.tune(
        model, x[:60], y[:60], validation_data=(x[60:], y[60:]), steps=10,
        batch_size=20, hyperparameters=[RATE], budget=12, verbose=0,
        test_data=(x[40:60], y[40:60]),
    )  # fmt: skip
    return result, (x, y)


def lines(file, **options):
    with file.open(newline="", encoding="utf-8") as content:
        return list(csv.DictReader(content, **options))


def same_history(result, rows):
    history = result.history
    assert len(rows) == len(history["val_loss"])
    for i, row in enumerate(rows):
        assert int(row["row"]) == i and row["kind"] == history["kind"][i]
        assert float(row["val_loss"]) == history["val_loss"][i]
        assert float(row["train_loss"]) == history["train_loss"][i]
        assert float(row["rate"]) == history["rate"][i]
        assert float(row["shift.mean"]) == pytest.approx(np.mean(history["shift"][i]))


def test_a_line_for_each_run(problem, tmp_path):
    file = tmp_path / "new" / "tune.csv"
    result = hg.tune(problem, budget=20, verbose=0, callbacks=[CSVLogger(file)])
    rows = lines(file)
    same_history(result, rows)
    assert list(rows[0])[:10] == [
        "row", "kind", "draw", "num_steps", "val_loss", "train_loss", "best", "runs",
        "seconds", "rate",
    ]  # fmt: skip
    best = np.minimum.accumulate([float(row["val_loss"]) for row in rows])
    np.testing.assert_array_equal([float(row["best"]) for row in rows], best)


def test_a_tune_that_goes_on_has_all_lines_once(problem, tmp_path):
    class Interrupt(hg.callbacks.Callback):
        def on_run_end(self, row, logs=None):
            if row == 5:
                raise KeyboardInterrupt

    file, folder = tmp_path / "tune.csv", tmp_path / "tune"
    options = {"budget": 20, "verbose": 0, "directory": folder}
    hg.tune(problem, callbacks=[CSVLogger(file), Interrupt()], **options)
    assert 0 < len(lines(file)) < 10
    result = hg.tune(problem, callbacks=[CSVLogger(file)], **options)
    same_history(result, lines(file))


def test_the_training_loss_is_that_of_the_last_steps(problem):
    result = hg.search(problem, budget=2, verbose=0)
    assert result.history["train_loss"][0] == pytest.approx(0.99**20, rel=1e-5)
    silent = hg.Problem(
        init=dict,
        step=lambda s, h, t: (s, {}),
        val_loss=lambda s, h: h["w"] ** 2 if "w" in h else s["w"] ** 2,
        num_steps=1,
        space={"w": hg.Float(-1.0, 1.0, default=0.5)},
    )
    assert math.isnan(hg.search(silent, budget=1, verbose=0).history["train_loss"][0])


def test_numbers_of_values():
    found = numbers_of({"a": 2.0, "b": np.array([1.0, 3.0, 5.0])})
    assert found == {"a": 2.0, "b.min": 1.0, "b.mean": 3.0, "b.max": 5.0}


def records(file):
    """The events of a TensorBoard file: length, checksum, content, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, events = file.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return events


def test_tensorboard_files_hold_the_runs(problem, tmp_path):
    pytest.importorskip("tensorboardX")
    result = hg.tune(problem, budget=9, verbose=0, callbacks=[TensorBoard(tmp_path)])
    (file,) = tmp_path.iterdir()
    scalars, histograms = {}, set()
    for event in records(file):
        for value in event.summary.value:
            if value.HasField("histo"):
                histograms.add(value.tag)
            else:
                scalars[value.tag, event.step] = value.simple_value
    for row, loss in enumerate(result.history["val_loss"]):
        assert scalars["tune/val_loss", row] == pytest.approx(loss)
        rate = result.history["rate"][row]
        assert scalars["values/rate", row] == pytest.approx(rate)
    assert histograms == {"values/shift"}


def test_mlflow_keeps_metrics_by_row_and_the_tuned_values(
    problem, tmp_path, monkeypatch
):
    mlflow = pytest.importorskip("mlflow", reason="pip install '.[test]'")
    # Files need neither a database nor a server.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = tmp_path.as_uri()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = MLflow(experiment="e", run_name="r", tracking_uri=uri)
        result = hg.tune(problem, budget=6, verbose=0, callbacks=[log])
        assert mlflow.active_run() is None
        client = mlflow.tracking.MlflowClient(uri)
        experiment = client.get_experiment_by_name("e")
        (run,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(run.info.run_id, "tune/val_loss")
    found = sorted((m.step, m.value) for m in history)
    assert found == list(enumerate(result.history["val_loss"]))
    assert float(run.data.params["rate"]) == result.values["rate"]


@pytest.mark.parametrize(
    ("kind", "package"), [(TensorBoard, "tensorboardX"), (MLflow, "mlflow")]
)
def test_what_is_not_installed_is_named(monkeypatch, tmp_path, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        kind(*[tmp_path] * (kind is TensorBoard))


# Overfitting


def test_the_guard_stops_warns_and_raises(problem):
    def tuned(**options):
        guard = OverfittingGuard(patience=3, **options)
        return hg.tune(problem, budget=20, verbose=0, callbacks=[guard])

    stopped = tuned(max_gap=0.3)  # E is w² + 0.4
    assert len(stopped.history["val_loss"]) == 3
    assert any("overfitting: the validation loss is 0.4" in n for n in stopped.notes)
    with pytest.warns(UserWarning, match="for 3 runs more than max_gap=0.3"):
        assert len(tuned(max_gap=0.3, action="warn").history["val_loss"]) > 3
    with pytest.raises(OverfittingError, match="above the training loss"):
        tuned(max_gap=0.3, action="raise")
    assert len(tuned(max_gap=0.5).history["val_loss"]) > 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"patience": 0}, "`patience` must be an integer of at least 1"),
        ({"max_gap": math.nan}, "`max_gap` must be a number"),
        ({"action": "shout"}, "`action` must be one of"),
    ],
)
def test_bad_arguments_of_the_guard(options, text):
    with pytest.raises(ValueError, match=text):
        OverfittingGuard(**options)


def test_a_test_loss_that_is_too_high_raises(trained):
    result, (x, y) = trained
    assert hg.raise_if_overfitting(result, (x[60:], y[60:])) == pytest.approx(0.0)
    gap = hg.raise_if_overfitting(result, max_gap=100.0)
    test = result.test["tuned"]["loss"]
    assert gap == pytest.approx((test - result.loss) / result.loss)
    with pytest.raises(OverfittingError, match="more than max_gap=0.25 allows"):
        hg.raise_if_overfitting(result, (x, y + 3.0))


def test_what_cannot_be_judged(trained, problem, tmp_path):
    result, (x, y) = trained
    with pytest.raises(ValueError, match="`max_gap` must be at least 0"):
        hg.raise_if_overfitting(result, max_gap=-1.0)
    with pytest.raises(ValueError, match="There are no test data"):
        hg.raise_if_overfitting(hg.search(problem, budget=1, verbose=0))
    result.save(tmp_path)
    loaded = hg.Result.load(tmp_path)
    assert hg.raise_if_overfitting(loaded, max_gap=100.0) is not None
    with pytest.raises(ValueError, match="loaded from a file has no problem"):
        hg.raise_if_overfitting(loaded, (x, y))


def test_more_numbers_than_validation_examples_are_noted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype("float32")
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    options = {"validation_data": (x[:5], x[:5, :1]), "steps": 3, "budget": 1}
    weights = {"data.sample_weight": hg.Float(0.0, 2.0)}
    result = hg.tune(model, x, x[:, :1], hyperparameters=weights, verbose=0, **options)
    note = "40 hyperparameters are tuned on 5 validation examples"
    assert any(note in text for text in result.notes)
    assert note in result.summary()
