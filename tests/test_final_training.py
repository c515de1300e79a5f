"""E on the way of the final training, its best step, and callbacks of Keras."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg
from hypergrad.callbacks import Callback

RATE = {"optimizer.learning_rate": hg.Float(1e-3, 1.0, sampling="log", default=0.3)}


def arrays(rows, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 6)), rng.integers(0, 2, size=(rows, 1)) * 1.0


def build():
    """Twelve random labels are learned by heart: E falls, then rises."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, "tanh"),
            layers.BatchNormalization(),
            layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.3), "binary_crossentropy", metrics=["accuracy"]
    )
    return model


DATA, HELD, TEST = arrays(12, 0), arrays(20, 1), arrays(20, 2)


@pytest.fixture(scope="module")
def problem():
    return hg.Problem.from_model(
        build(),
        *DATA,
        validation_data=HELD,
        epochs=8,
        batch_size=4,
        hyperparameters=RATE,
    )


def tuned(problem, **options):
    return hg.tune(problem, budget=4, screening=None, verbose=0, **options)


def loss_of(model, data=HELD):
    return model.evaluate(*data, verbose=0, return_dict=True)["loss"]


def test_the_curve_ends_where_the_run_that_was_scored_does(problem):
    result = tuned(problem, validate_every=5)
    curve = result.learning_curve
    assert curve["step"] == [5, 10, 15, 20, 24]
    assert curve["val_loss"][-1] == result.loss
    assert curve["val_accuracy"][-1] == result.metrics["accuracy"]
    assert curve["keras_val_loss"][-1] == result.metrics["keras_val_loss"]
    losses = hg.evaluate(problem, result.values).info["train_losses"]
    np.testing.assert_allclose(curve["loss"][1], np.mean(losses[5:10]), rtol=1e-6)
    for step, loss in zip(curve["step"], curve["val_loss"]):
        shorter = problem.replace(num_steps=step)
        assert hg.evaluate(shorter, result.values).loss == pytest.approx(loss, rel=1e-6)
    assert result.best_step == curve["step"][int(np.argmin(curve["val_loss"]))]
    assert result.model_step == 24
    assert loss_of(result.model) == pytest.approx(result.loss, rel=1e-5)
    assert tuned(problem).best_step is None


def test_the_model_of_the_best_step(problem, tmp_path):
    result = tuned(
        problem, restore_best_weights=True, test_data=TEST, directory=tmp_path
    )
    curve = result.learning_curve
    assert curve["step"] == [3, 6, 9, 12, 15, 18, 21, 24]  # epochs
    assert result.best_step < 24 and result.model_step == result.best_step
    lowest = min(curve["val_loss"])
    assert lowest < result.loss
    assert loss_of(result.model) == pytest.approx(lowest, rel=1e-5)
    assert int(result.model.optimizer.iterations.value) == result.best_step
    assert loss_of(result.model, TEST) == pytest.approx(
        result.test["tuned"]["loss"], rel=1e-5
    )
    assert f"The model is that of step {result.best_step} of 24" in result.summary()
    options = {"restore_best_weights": True, "test_data": TEST}
    for _ in range(2):  # from the file, then without it
        again = tuned(problem, directory=tmp_path, **options)
        assert again.best_step == result.best_step
        assert again.learning_curve == result.learning_curve
        assert loss_of(again.model) == pytest.approx(lowest, rel=1e-5)
        (tmp_path / "model.keras").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="restore_best_weights"):
        tuned(problem, directory=tmp_path, test_data=TEST)


class Epochs(keras.callbacks.Callback):
    """Notes what Keras' own callbacks are told."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):
        kernel = np.asarray(self.model.layers[0].kernel.value)
        np.testing.assert_array_equal(
            kernel, np.asarray(build().layers[0].kernel.value)
        )

    def on_epoch_end(self, epoch, logs=None):
        logs = dict(logs or {})
        self.seen.append((epoch, logs, loss_of(self.model)))

    def on_train_end(self, logs=None):
        self.seen.append("end")


def test_keras_callbacks_follow_the_final_training(problem, tmp_path):
    epochs = Epochs()
    file = tmp_path / "best.keras"
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    keep = keras.callbacks.ModelCheckpoint(file, save_best_only=True)
    log = keras.callbacks.CSVLogger(tmp_path / "fit.csv")
    result = tuned(problem, callbacks=[epochs, stop, keep, Callback(), log])
    curve = result.learning_curve
    best = result.best_step
    assert curve["step"][-1] == best + 6 < 24  # two epochs later
    assert result.model_step == best == 3 * (stop.best_epoch + 1)
    lowest = min(curve["val_loss"])
    assert loss_of(result.model) == pytest.approx(lowest, rel=1e-5)
    assert loss_of(keras.models.load_model(file)) == pytest.approx(lowest, rel=1e-5)
    *told, end = epochs.seen
    assert end == "end" and [epoch for epoch, _, _ in told] == list(range(len(told)))
    for (_, logs, measured), e in zip(told, curve["val_loss"], strict=True):
        assert logs["val_loss"] == e == pytest.approx(measured, rel=1e-5)
        assert {"loss", "val_accuracy", "keras_val_loss"} <= set(logs)
    lines = (tmp_path / "fit.csv").read_text().splitlines()
    assert len(lines) == 1 + len(told)
    text = result.summary()
    assert f"The final training was stopped after {best + 6} steps." in text
    # E of all steps is what was tuned.
    assert result.loss == result.history["val_loss"][
        int(np.argmin(result.history["val_loss"]))
    ]  # fmt: skip


def test_weights_that_a_callback_made_itself(problem, tmp_path):
    class Zeros(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            for variable in self.model.trainable_variables:
                variable.assign(0.0 * variable.value)

    result = tuned(problem, callbacks=[Zeros()], directory=tmp_path)
    assert "A callback gave the model weights of its own." in result.notes
    for model in (result.model, hg.Result.load(tmp_path).model):
        assert loss_of(model) == pytest.approx(np.log(2.0), rel=1e-5)


def test_the_final_training_of_several_samples_is_that_of_the_first(problem):
    result = hg.tune(
        problem.replace(average=2), outer_steps=0, validate_every=12, verbose=0
    )
    one = hg.evaluate(problem, result.values)
    assert result.learning_curve["val_loss"][-1] == pytest.approx(one.loss, rel=1e-6)


def of_functions():
    return hg.Problem(
        init=lambda hparams: {"w": ops.ones(())},
        step=lambda s, hparams, t: ({"w": s["w"] * (1.0 - hparams["rate"])}, {}),
        val_loss=lambda s, hparams: (s["w"] - 0.5) ** 2,
        num_steps=6,
        space={"rate": hg.Schedule(hg.Float(0.0, 0.9, default=0.2), knots=2)},
    )


def test_a_problem_of_functions_has_a_curve():
    options = {"outer_steps": 0, "screening": None, "verbose": 0}
    result = hg.tune(of_functions(), validate_every=2, **options)
    expected = [(0.8**t - 0.5) ** 2 for t in (2, 4, 6)]
    np.testing.assert_allclose(
        result.learning_curve["val_loss"], expected, rtol=1e-5, atol=1e-7
    )
    assert result.best_step == 4  # 0.41 is nearer to one half than 0.64 and 0.26


def test_what_is_refused(problem):
    for given in (0, 2.5, True, "1"):
        with pytest.raises(ValueError, match="`validate_every` must be an integer"):
            tuned(problem, validate_every=given)
    for callback in (
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.ReduceLROnPlateau(),
    ):
        with pytest.raises(ValueError, match="changes a training on its way"):
            tuned(problem, callbacks=[callback])

    class Batches(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            """Never called."""

    with pytest.raises(ValueError, match="'on_train_batch_end', expected events of"):
        tuned(problem, callbacks=[Batches()])
    with pytest.raises(ValueError, match="only the epochs of arrays are known"):
        hg.tune(of_functions(), restore_best_weights=True, verbose=0)
    with pytest.raises(ValueError, match="Callbacks of Keras follow the training of a"):
        hg.tune(of_functions(), validate_every=1, callbacks=[Epochs()], verbose=0)
    with pytest.raises(TypeError, match="A Keras callback follows the epochs of one"):
        hg.search(problem, budget=2, callbacks=[Epochs()], verbose=0)
