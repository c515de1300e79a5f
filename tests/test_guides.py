"""What the guides of KerasTuner do, with another import: the same calls, our models.

The guides are "Getting started", "Tailor the search space", "Tune hyperparameters in
your custom training loop" and "Handling failed trials" on keras.io. HyperResNet and the
metric that is written in TensorFlow are left out.
"""

import keras
import numpy as np
import pytest
from keras import layers

import hypergrad as hg

CLASSES = pytest.mark.parametrize("search", [hg.RandomSearch, hg.GradientTuner])

RNG = np.random.default_rng(0)
X, X_VAL = RNG.random((60, 6, 6, 1)), RNG.random((20, 6, 6, 1))
LABELS = RNG.integers(0, 10, (60, 1)), RNG.integers(0, 10, (20, 1))
Y, Y_VAL = (keras.utils.to_categorical(labels, 10) for labels in LABELS)
ROWS, ROWS_VAL = RNG.random((100, 10)), RNG.random((20, 10))
TARGETS, TARGETS_VAL = RNG.random((100, 1)), RNG.random((20, 1))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def few(search):
    """So that each descent is short."""
    return {"budget": 2} if search is hg.GradientTuner else {}


def existing_code(units, activation, dropout, rate):
    parts = [layers.Flatten(), layers.Dense(units=units, activation=activation)]
    parts += [layers.Dropout(rate=0.25)] if dropout else []
    model = keras.Sequential([*parts, layers.Dense(10, activation="softmax")])
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def build_classifier(hp):
    return existing_code(
        units=hp.Int("units", min_value=4, max_value=16, step=4),
        activation=hp.Choice("activation", ["relu", "tanh"]),
        dropout=hp.Boolean("dropout"),
        rate=hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log"),
    )


def build_deep(hp):
    model = keras.Sequential([layers.Flatten()])
    for i in range(hp.Int("num_layers", 1, 3)):
        units = hp.Int(f"units_{i}", min_value=4, max_value=16, step=4)
        model.add(layers.Dense(units, activation=hp.Choice("activation", ["relu"])))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def test_hyperparameters_are_plain_values():
    hp = hg.HyperParameters()
    assert hp.Int("units", min_value=32, max_value=512, step=32) == 32
    assert isinstance(build_classifier(hg.HyperParameters()), keras.Model)
    assert isinstance(build_deep(hg.HyperParameters()), keras.Model)


@CLASSES
@pytest.mark.parametrize("build", [build_classifier, build_deep])
def test_a_search_and_what_is_done_with_it(search, build, capsys):
    tuner = search(
        hypermodel=build,
        objective="val_accuracy",
        max_trials=2,
        executions_per_trial=2,
        overwrite=True,
        directory="my_dir",
        project_name="helloworld",
        **few(search),
    )
    tuner.search_space_summary()
    tuner.search(X, Y, epochs=2, validation_data=(X_VAL, Y_VAL))
    models = tuner.get_best_models(num_models=2)
    models[0].summary()
    tuner.results_summary()
    out = capsys.readouterr().out
    assert "Search space summary" in out and "Results in my_dir/helloworld" in out
    best = tuner.get_best_hyperparameters(5)
    model = build(best[0])
    model.fit(x=np.concatenate((X, X_VAL)), y=np.concatenate((Y, Y_VAL)), epochs=1)


class Cropping(hg.HyperModel):
    """Asks in ``build`` and in ``fit``, and changes the data."""

    def build(self, hp):
        size = hp.Int("image_size", 3, 6)
        inputs = keras.Input(shape=(size, size))
        outputs = layers.Dense(hp.Int("units", 4, 8), activation="relu")(
            layers.Flatten()(inputs)
        )
        model = keras.Model(inputs, layers.Dense(10, activation="softmax")(outputs))
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        if hp.Boolean("normalize"):
            x = layers.Normalization()(x)
        size = hp.get("image_size")
        if validation_data:
            x_val, y_val = validation_data
            validation_data = (x_val[:, :size, :size, :], y_val)
        return model.fit(
            x[:, :size, :size, :],
            y,
            shuffle=hp.Boolean("shuffle"),
            validation_data=validation_data,
            **kwargs,
        )


@CLASSES
def test_training_and_preprocessing_are_tuned_in_fit(search):
    hp = hg.HyperParameters()
    hypermodel = Cropping()
    hypermodel.fit(hp, hypermodel.build(hp), X, Y)
    tuner = search(Cropping(), objective="val_accuracy", max_trials=3, overwrite=True)
    tuner.search(X, Y, epochs=2, validation_data=(X_VAL, Y_VAL))
    best = tuner.get_best_hyperparameters()[0]
    assert set(best.values) == {"image_size", "units", "normalize", "shuffle"}
    model = Cropping().build(best)
    Cropping().fit(best, model, X, Y, epochs=1)


class Spread(keras.metrics.Metric):
    """A metric of one's own."""

    def __init__(self, **kwargs):
        super().__init__(name="custom_metric", **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        squares = keras.ops.square(keras.ops.cast(y_true, y_pred.dtype) - y_pred)
        self.total.assign_add(keras.ops.sum(squares))
        self.count.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))

    def result(self):
        return self.total / self.count


@CLASSES
@pytest.mark.parametrize(
    "metric, name",
    [
        (keras.metrics.MeanAbsoluteError, "val_mean_absolute_error"),
        (Spread, "val_custom_metric"),
    ],
)
def test_any_metric_is_an_objective(search, metric, name, capsys):
    def build(hp):
        first = layers.Dense(units=hp.Int("units", 4, 16, 4), activation="relu")
        model = keras.Sequential([first, layers.Dense(units=1)])
        model.compile("adam", "mean_squared_error", metrics=[metric()])
        return model

    tuner = search(
        hypermodel=build,
        objective=hg.Objective(name, direction="min"),
        max_trials=2,
        overwrite=True,
        directory="my_dir",
        project_name="metrics",
    )
    tuner.search(x=ROWS, y=TARGETS, validation_data=(ROWS_VAL, TARGETS_VAL))
    tuner.results_summary()
    assert f'Objective(name="{name}", direction="min")' in capsys.readouterr().out


class Regressor(hg.HyperModel):
    def __init__(self, as_dict):
        super().__init__()
        self.as_dict = as_dict

    def build(self, hp):
        model = keras.Sequential(
            [layers.Dense(hp.Int("units", 4, 16, 4)), layers.Dense(1)]
        )
        model.compile("adam", "mean_squared_error")
        return model

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        model.fit(x, y, **kwargs)
        x_val, y_val = validation_data
        error = model.predict(x_val) - y_val
        mean = np.mean(np.abs(error))
        return {"a": -mean, "b": np.mean(error**2)} if self.as_dict else mean


@CLASSES
@pytest.mark.parametrize("as_dict", [False, True])
def test_fit_returns_what_is_looked_for(search, as_dict):
    tuner = search(
        hypermodel=Regressor(as_dict),
        max_trials=2,
        overwrite=True,
        **({"objective": hg.Objective("a", "max")} if as_dict else {}),
    )
    tuner.search(x=ROWS, y=TARGETS, validation_data=(ROWS_VAL, TARGETS_VAL))
    best = tuner.oracle.get_best_trials(1)[0]
    assert (best.score < 0.0) == as_dict and best.metrics.exists("b") == as_dict


def whole_program(units, optimizer, saving_path):
    model = keras.Sequential([layers.Dense(units), layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mean_squared_error")
    model.fit(ROWS, TARGETS)
    model.save(saving_path)
    return np.mean(np.abs(model.predict(ROWS_VAL) - TARGETS_VAL))


@CLASSES
def test_any_program_is_a_trial(search):
    class Separate(search):
        def run_trial(self, trial, **kwargs):
            hp = trial.hyperparameters
            return whole_program(
                units=hp.Int("units", 4, 16, 4),
                optimizer=hp.Choice("optimizer", ["adam", "adadelta"]),
                saving_path=f"{trial.trial_id}.keras",
            )

    tuner = Separate(max_trials=2, overwrite=True, project_name="separate")
    tuner.search()
    best = tuner.get_best_hyperparameters()[0]
    whole_program(**best.values, saving_path="best.keras")

    class Anything(search):
        def run_trial(self, trial, *args, **kwargs):
            x = trial.hyperparameters.Float("x", min_value=-1.0, max_value=1.0)
            return x * x + 1

    tuner = Anything(max_trials=20, overwrite=True, project_name="anything")
    tuner.search()
    assert abs(tuner.get_best_hyperparameters()[0].get("x")) < 0.5


def build_tailored(hp):
    model = keras.Sequential([layers.Flatten()])
    model.add(layers.Dense(hp.Int("units", 4, 16, step=4, default=8)))
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(rate=0.25))
    model.add(layers.Dense(10, activation="softmax"))
    rate = hp.Choice("learning_rate", values=[1e-2, 1e-3, 1e-4])
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@CLASSES
def test_few_are_searched_and_the_rest_is_fixed(search, capsys):
    hp = hg.HyperParameters()
    hp.Float("learning_rate", min_value=1e-4, max_value=1e-2, sampling="log")
    tuner = search(
        hypermodel=build_tailored,
        hyperparameters=hp,
        tune_new_entries=False,
        objective="val_accuracy",
        max_trials=2,
        overwrite=True,
        **few(search),
    )
    tuner.search(X, LABELS[0], epochs=1, validation_data=(X_VAL, LABELS[1]))
    tuner.search_space_summary()
    assert "Default search space size: 1\nlearning_rate (Float)" in (
        capsys.readouterr().out
    )
    for trial in tuner.oracle.trials.values():
        assert trial.hyperparameters["units"] == 8
        assert ("descent" in trial.info) == (search is hg.GradientTuner)


@CLASSES
def test_few_are_fixed_and_the_rest_is_searched(search, capsys):
    hp = hg.HyperParameters()
    hp.Fixed("learning_rate", value=1e-4)
    tuner = search(
        build_tailored,
        hyperparameters=hp,
        tune_new_entries=True,
        objective="val_accuracy",
        max_trials=2,
        overwrite=True,
    )
    tuner.search(X, LABELS[0], epochs=1, validation_data=(X_VAL, LABELS[1]))
    tuner.search_space_summary()
    assert "learning_rate (Fixed)" in capsys.readouterr().out


@CLASSES
def test_compile_arguments_are_overridden(search):
    tuner = search(
        build_tailored,
        optimizer=keras.optimizers.Adam(1e-3),
        loss="mse",
        metrics=["sparse_categorical_crossentropy"],
        objective="val_loss",
        max_trials=2,
        overwrite=True,
    )
    tuner.search(X, LABELS[0], epochs=1, validation_data=(X_VAL, LABELS[1]))
    assert tuner.get_best_models()[0].loss == "mse"


@pytest.mark.slow
@CLASSES
def test_a_premade_model_of_kerastuner_is_searched(search):
    import keras_tuner

    space = keras_tuner.HyperParameters()
    space.Choice("learning_rate", values=[1e-2, 1e-3])
    tuner = search(
        keras_tuner.applications.HyperXception(input_shape=(71, 71, 1), classes=10),
        hyperparameters=space,
        tune_new_entries=False,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        objective="val_accuracy",
        max_trials=1,
        overwrite=True,
    )
    x = RNG.random((8, 71, 71, 1))
    y = RNG.integers(0, 10, (8, 1))
    tuner.search(x, y, epochs=1, validation_data=(x, y))
    assert tuner.oracle.get_best_trials(1)


class OwnLoop(hg.HyperModel):
    """A training loop of one's own, on a model that is not compiled."""

    def build(self, hp):
        inputs = keras.Input(shape=(10,))
        x = layers.Dense(hp.Choice("units", [4, 8]), activation="relu")(inputs)
        return keras.Model(inputs, layers.Dense(1)(x))

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        batch = hp.Int("batch_size", 32, 64, step=32, default=64)
        rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
        model.compile(optimizer=keras.optimizers.Adam(rate), loss="mse")
        mean = keras.metrics.Mean()
        for callback in callbacks:
            callback.set_model(model)
        best = float("inf")
        for epoch in range(2):
            for i in range(0, len(x), batch):
                model.train_on_batch(x[i : i + batch], y[i : i + batch])
            mean.update_state(model.test_on_batch(*validation_data))
            loss = float(mean.result())
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": loss})
            mean.reset_state()
            best = min(best, loss)
        return best


@CLASSES
def test_a_training_loop_of_ones_own(search):
    tuner = search(
        objective=hg.Objective("my_metric", "min"),
        max_trials=2,
        hypermodel=OwnLoop(),
        directory="results",
        project_name="custom_training",
        overwrite=True,
    )
    tuner.search(x=ROWS, y=TARGETS, validation_data=(ROWS_VAL, TARGETS_VAL))
    best = tuner.get_best_hyperparameters()[0]
    assert set(best.values) == {"units", "batch_size", "learning_rate"}
    model = tuner.get_best_models()[0]
    error = model.predict(ROWS_VAL, verbose=0) - TARGETS_VAL
    score = tuner.oracle.get_best_trials(1)[0].score
    assert np.mean(error**2) == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize("error", [ValueError, hg.FailedTrialError, hg.FatalError])
def test_models_that_are_too_large(error):
    calls = []

    def build(hp):
        units = [hp.Int(f"units_{i}", 10, 20, step=10) for i in (1, 2)]
        model = keras.Sequential([layers.Dense(n) for n in (*units, 1)])
        model.compile(loss="mse")
        calls.append(units)
        if units == [20, 20]:
            raise error("Model too large!")
        return model

    tuner = hg.GridSearch(
        hypermodel=build,
        objective="val_loss",
        overwrite=True,
        max_retries_per_trial=2,
        max_consecutive_failed_trials=8,
    )
    data = {"x": ROWS, "y": TARGETS, "validation_data": (ROWS_VAL, TARGETS_VAL)}
    if error is hg.FatalError:
        with pytest.raises(hg.FatalError, match="too large"):
            tuner.search(**data, verbose=0)
    else:
        tuner.search(**data, verbose=0)
    last = tuner.oracle.get_trial("0003")
    assert last.status == "FAILED" and "Model too large!" in last.message
    assert calls.count([20, 20]) == (3 if error is ValueError else 1)
