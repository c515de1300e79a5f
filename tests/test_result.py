"""`Result`: the trained copy, writing numbers back, text, picture, files."""

import dataclasses

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad import files

PATHS = {
    "optimizer.learning_rate": hg.Float(1e-3, 1.0, sampling="log"),
    "optimizer.beta_1": hg.Float(0.0, 0.99, sampling="reverse_log"),
    "dense*.kernel_regularizer.l2": hg.PerTarget(hg.Float(1e-6, 1e-1, sampling="log")),
}


def data(rows, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    return x, (x[:, 0] + 0.3 * rng.normal(size=rows) > 0).astype("int32")


def own_loss(y, p):
    """Not registered with Keras: it must survive cloning all the same."""
    return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)


def build(layers=None, optimizer=None):
    keras.utils.set_random_seed(1)
    l2 = keras.regularizers.L2
    model = keras.Sequential(
        [keras.layers.Input((4,))]
        + (
            layers
            or [
                keras.layers.Dense(5, "tanh", kernel_regularizer=l2(1e-4)),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(2, kernel_regularizer=l2(1e-3)),
            ]
        )
    )
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        own_loss,
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


OPTIONS = {"steps": 6, "batch_size": 16, "validation_data": data(30, 1)}


@pytest.fixture(scope="module")
def result():
    return hg.tune(
        build(),
        *data(40),
        hyperparameters=PATHS,
        outer_steps=3,
        test_data=data(25, 2),
        verbose=0,
        **OPTIONS,
    )


def test_the_model_is_the_run_that_was_scored(result):
    model = result.model
    x, y = OPTIONS["validation_data"]
    logits = keras.ops.convert_to_tensor(model.predict(x, verbose=0))
    loss = float(np.mean(np.asarray(own_loss(y, logits))))
    assert loss == pytest.approx(result.loss, rel=1e-6)
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    assert evaluated["accuracy"] == pytest.approx(result.metrics["accuracy"])
    assert evaluated["loss"] == pytest.approx(
        result.metrics["keras_val_loss"], rel=1e-5
    )
    assert int(model.optimizer.iterations.value) == 6
    assert model.name == "sequential" or model.name.startswith("sequential")
    assert result.model is model


def test_the_model_equals_training_a_plain_model_with_the_tuned_numbers(result):
    plain = build()
    result.apply(plain)
    problem = hg.Problem.from_model(plain, *data(40), hyperparameters=PATHS, **OPTIONS)
    x, y = data(40)
    for step in range(6):
        rows = problem.batches(step)
        plain.train_on_batch(x[rows], y[rows])
    for ours, theirs in zip(result.model.variables, plain.variables):
        np.testing.assert_allclose(
            np.asarray(ours.value), np.asarray(theirs.value), atol=2e-5
        )
    for ours, theirs in zip(
        result.model.optimizer.variables, plain.optimizer.variables
    ):
        np.testing.assert_allclose(
            np.asarray(ours.value), np.asarray(theirs.value), atol=2e-5
        )


def numbers(model):
    return [
        float(model.optimizer.learning_rate),
        model.optimizer.beta_1,
        *(float(model.layers[i].kernel_regularizer.l2) for i in (0, 2)),
    ]


def test_tuned_numbers_stand_in_the_copy_and_in_what_apply_writes(result):
    values = result.values
    expected = [
        values["optimizer.learning_rate"],
        values["optimizer.beta_1"],
        *values["dense*.kernel_regularizer.l2"],
    ]
    plain = build()
    assert numbers(plain) == pytest.approx([0.01, 0.9, 1e-4, 1e-3])
    weights = [np.asarray(v.value) for v in plain.variables]
    result.apply(plain)
    for model in (result.model, plain):
        assert numbers(model) == pytest.approx(expected, rel=1e-6)
    for variable, before in zip(plain.variables, weights):
        np.testing.assert_array_equal(np.asarray(variable.value), before)


def test_apply_reaches_functions_that_keras_compiled_before(result):
    plain = build()
    x, y = data(40)
    plain.train_on_batch(x, y)
    result.apply(plain)
    weights = [np.asarray(v.value) for v in plain.variables]
    again = build()
    again.train_on_batch(x, y)
    for variable, value in zip(again.variables, weights):
        variable.assign(value)
    again.optimizer.learning_rate = float(result.values["optimizer.learning_rate"])
    again.optimizer.beta_1 = result.values["optimizer.beta_1"]
    for layer, l2 in zip((0, 2), result.values["dense*.kernel_regularizer.l2"]):
        again.layers[layer].kernel_regularizer.l2 = l2
    again.compile(again.optimizer, own_loss, jit_compile=False)
    plain.train_on_batch(x, y)
    again.train_on_batch(x, y)
    np.testing.assert_allclose(
        np.asarray(plain.variables[0].value), np.asarray(again.variables[0].value)
    )


def test_apply_refuses_what_the_model_does_not_have(result):
    with pytest.raises(ValueError, match="names no number of the model"):
        result.apply(build([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="`apply` writes into a compiled keras.Model"):
        result.apply(keras.Sequential([keras.layers.Dense(2)]))


def test_a_momentum_tuned_away_from_zero_gets_its_slots():
    sgd = keras.optimizers.SGD(0.1)
    model = build(optimizer=sgd)
    result = hg.search(
        model,
        *data(40),
        hyperparameters=["optimizer.momentum"],
        budget=1,
        include_start=False,
        verbose=0,
        **OPTIONS,
    )
    assert result.values["optimizer.momentum"] > 0.0
    copied = result.model.optimizer
    assert copied.momentum == result.values["optimizer.momentum"]
    assert len(copied.variables) > len(sgd.variables)
    result.apply(model)
    model.train_on_batch(*data(40))
    assert len(model.optimizer.variables) == len(copied.variables)


def test_the_text(result):
    text = result.summary()
    for part in (
        "start → tuned",
        "optimizer.learning_rate",
        "0.01",
        "[0.0001, 0.001]",
        "validation loss (E)",
        "validation accuracy",
        "test loss",
        "runs (",
        "status: ok",
    ):
        assert part in text, part


def test_test_data_are_scored_as_the_validation_data_are(result):
    x, y = data(25, 2)
    logits = keras.ops.convert_to_tensor(result.model.predict(x, verbose=0))
    loss = float(np.mean(np.asarray(own_loss(y, logits))))
    assert result.test["tuned"]["loss"] == pytest.approx(loss, rel=1e-6)
    assert set(result.test["start"]) == {"loss", "accuracy", "keras_val_loss"}


def test_values_are_plain(result):
    assert isinstance(result.values["optimizer.beta_1"], float)
    assert isinstance(result.values["dense*.kernel_regularizer.l2"], np.ndarray)
    assert isinstance(result.loss, float)
    assert all(isinstance(v, float) for v in result.metrics.values())


def test_a_saved_result_comes_back(result, tmp_path):
    result.save(tmp_path / "deep" / "study")
    loaded = hg.Result.load(tmp_path / "deep" / "study")
    assert loaded.loss == result.loss and loaded.metrics == result.metrics
    assert loaded.status == result.status and loaded.summary() == result.summary()
    for name, value in result.values.items():
        np.testing.assert_array_equal(loaded.values[name], value)
    assert list(loaded.history) == list(result.history)
    for name, column in result.history.items():
        np.testing.assert_array_equal(loaded.history[name], column)
    with keras.saving.custom_object_scope({"own_loss": own_loss}):
        model = loaded.model
    for ours, theirs in zip(model.variables, result.model.variables):
        np.testing.assert_array_equal(np.asarray(ours.value), np.asarray(theirs.value))
    assert numbers(model) == pytest.approx(numbers(result.model))
    plain = build()
    loaded.apply(plain)
    assert numbers(plain) == pytest.approx(numbers(result.model))
    loaded.save(tmp_path / "copy")
    copied, old = (tmp_path / "copy" / "model.keras", loaded.directory / "model.keras")
    assert copied.read_bytes() == old.read_bytes()
    result.save(tmp_path / "deep" / "study")  # replaced, nothing left over
    names = sorted(p.name for p in (tmp_path / "deep" / "study").iterdir())
    assert len(names) == 3 and {"model.keras", "result.json"} < set(names)


def test_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no result in"):
        hg.Result.load(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        hg.Result.load(tmp_path)
    (tmp_path / "result.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="newer hypergrad"):
        hg.Result.load(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    files.write(tmp_path, "a", {"x": np.arange(3.0), "y": [1.5, float("nan"), None]})
    with pytest.raises(TypeError):
        files.write(tmp_path, "a", {"x": np.arange(9.0), "y": object()})
    content = files.read(tmp_path, "a")
    np.testing.assert_array_equal(content["x"], [0.0, 1.0, 2.0])
    assert np.isnan(content["y"][1]) and content["y"][2] is None


@keras.saving.register_keras_serializable("test_result")
class Opaque(keras.Model):
    """Takes an argument that its configuration does not hold."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)

    def get_config(self):
        raise NotImplementedError


def opaque():
    keras.utils.set_random_seed(1)
    model = Opaque(keras.layers.Dense(2))
    model.compile("sgd", own_loss, jit_compile=False)
    return model


def test_a_model_that_cannot_be_copied_costs_a_note_and_not_the_result(tmp_path):
    options = {
        **OPTIONS,
        "hyperparameters": ["optimizer.learning_rate"],
        "budget": 1,
        "verbose": 0,
    }

    def broken():
        raise RuntimeError("no model today")

    problem = hg.Problem.from_model(
        opaque(),
        *data(40),
        hyperparameters=["optimizer.learning_rate"],
        build_fn=opaque,
        **OPTIONS,
    )
    for build_fn, error, text in (
        (None, ValueError, "cannot be cloned.*`build_fn=`"),
        (lambda: None, TypeError, "`build_fn` must return a new, compiled"),
        (broken, RuntimeError, "no model today"),
    ):
        problem.keras = dataclasses.replace(problem.keras, build_fn=build_fn)
        result = hg.tune(problem, directory=tmp_path, budget=1, verbose=0)
        with pytest.raises(error, match=text):
            result.model
        assert "The model was not saved" in result.summary()
        loaded = hg.Result.load(tmp_path)
        assert loaded.summary() == result.summary() and not loaded.has_model_file
    result = hg.search(opaque(), *data(40), build_fn=opaque, **options)
    x, y = OPTIONS["validation_data"]
    logits = keras.ops.convert_to_tensor(result.model.predict(x, verbose=0))
    loss = float(np.mean(np.asarray(own_loss(y, logits))))
    assert loss == pytest.approx(result.loss, rel=1e-6)


def test_a_finished_directory_has_its_model(tmp_path):
    options = {
        **OPTIONS,
        "hyperparameters": ["optimizer.learning_rate"],
        "budget": 1,
        "verbose": 0,
        "directory": tmp_path,
    }
    first = hg.tune(build(), *data(40), **options)
    again = hg.tune(build(), *data(40), **options)
    np.testing.assert_equal(again.history, first.history)
    with keras.saving.custom_object_scope({"own_loss": own_loss}):
        model = again.model
    for ours, theirs in zip(model.variables, first.model.variables):
        np.testing.assert_array_equal(np.asarray(ours.value), np.asarray(theirs.value))


def test_the_picture(result, tmp_path):
    pytest.importorskip("matplotlib")
    figure = result.plot(tmp_path / "tune.png")
    assert (tmp_path / "tune.png").stat().st_size > 10_000
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[1:] == [*result.values, "norm of dE/du, the hypergradient"]
    assert figure.axes[1].get_yscale() == "log"
    assert figure.axes[0].get_xlabel() == "runs (plain trainings)"
    # Drawing starts no interactive backend and leaves no figure open.
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_result_without_a_model():
    problem = hg.Problem(
        init=dict,
        step=lambda state, hparams, t: (state, {}),
        val_loss=lambda state, hparams: state["w"] ** 2,
        num_steps=1,
        space={"w": hg.Float(-1.0, 1.0, default=0.5)},
    )
    result = hg.search(problem, budget=3, verbose=0)
    with pytest.raises(ValueError, match="This result has no model"):
        result.model
    assert "w" in result.summary() and result.metrics == {}
