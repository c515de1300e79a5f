"""What is refused of data, starts and constants, and what becomes of them."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg
from data_models import (
    CLASSES,
    X_VAL,
    Y_VAL,
    Shifted,
    X,
    Y,
    classifier,
    nested,
    problem_of,
)

# What is refused.


@pytest.mark.parametrize(
    "hyperparameters, text",
    [
        (["initial.dense.kernel", "scale.dense.kernel"], "both set the same numbers"),
        (["data.z"], "names nothing"),
        (["initial.dense.kernal"], "Nearest: initial.dense.kernel"),
        (
            {"data.x": hg.Float(shape=(10, 4))},
            r"an array \(10, 3\) in the training dat",
        ),
        (["initial.normalization.mean"], "tune `normalization.mean` instead"),
        (
            ["batch_normalization.moving_mean"],
            "Use `initial.batch_normalization.moving_mean`",
        ),
        ({"initial.*.kernel": hg.Float()}, "one value for 2 targets"),
        ({"initial.dense.*": hg.PerTarget(hg.Float())}, "different shapes"),
        (["shifted.shift"], "has no default range"),
    ],
)
def test_bad_declarations(hyperparameters, text) -> None:
    with pytest.raises(ValueError, match=text):
        problem_of(hyperparameters)


def test_a_variable_that_training_assigns_is_no_constant() -> None:
    with pytest.raises(ValueError, match="a step of training assigns it"):
        problem_of({"shifted.shift": hg.Float()}, classifier(counts=True))


def test_integers_are_refused_with_what_to_do() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    val = (X_VAL, Y_VAL.argmax(1))
    with pytest.raises(ValueError, match="one-hot labels.*CategoricalCrossentropy"):
        problem_of(["data.y"], model, y=CLASSES, validation_data=val)
    with pytest.raises(ValueError, match="one-hot labels.*CategoricalCrossentropy"):
        y = CLASSES.astype("float32")
        problem_of(
            ["data.y"], model, y=y, validation_data=(X_VAL, Y_VAL.argmax(1) * 1.0)
        )
    whole = np.round(X * 3).astype("int32")
    with pytest.raises(ValueError, match="integers have no derivative.*embeddings"):
        problem_of(["data.x"], x=whole, validation_data=(whole[:5], Y[:5]))


def test_nested_data_are_named_one_by_one() -> None:
    with pytest.raises(ValueError, match="several arrays.*`data.x.a`, `data.x.b`"):
        nested(["data.x"])
    with pytest.raises(ValueError, match="array `y` of classes"):
        nested(["data.class_weight"])
    with pytest.raises(ValueError, match="both set the same numbers"):
        nested(["loss_weights", "loss_weights.kind"])


def test_data_that_a_models_own_loss_does_not_read() -> None:
    class Own(keras.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return ops.mean(ops.square(y - y_pred))

    model = Own([keras.Input((3,)), layers.Dense(3)])
    model.compile("sgd")
    with pytest.warns(UserWarning, match="`data.sample_weight` has no influence"):
        problem_of(["data.sample_weight"], model)


# What becomes of them.


def test_results_keep_data_apart_from_the_numbers_of_the_model(tmp_path) -> None:
    names = [
        "data.sample_weight",
        "initial.dense.kernel",
        "scale.dense_1.kernel",
        "normalization.mean",
        "loss_weights",
        "optimizer.learning_rate",
    ]
    problem = problem_of(names)
    result = hg.tune(problem, outer_steps=2, verbose=0)
    assert result.loss < result.start["loss"]
    assert set(result.numbers) == set(names) - {"data.sample_weight"}
    model = result.model
    x, y = X_VAL, Y_VAL
    # E is measured without the tuned loss weight, which the copy is compiled with.
    copied = model.evaluate(x, y, verbose=0) - float(sum(model.losses))
    weight = result.values["loss_weights"]
    assert copied == pytest.approx(weight * result.loss, rel=1e-5)
    assert model.optimizer.learning_rate.numpy() == pytest.approx(
        result.values["optimizer.learning_rate"]
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"Shifted": Shifted}
    )
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0))
    # A fresh model starts from what was tuned, a trained one is left alone.
    fresh = classifier()
    kernel = fresh.layers[4].kernel.numpy()
    with pytest.raises(
        ValueError, match="'data.sample_weight' is of the training data"
    ):
        result.apply(fresh)
    assert result.apply(fresh, partial=True) == ["data.sample_weight"]
    np.testing.assert_array_equal(
        fresh.layers[1].kernel.numpy(), result.values["initial.dense.kernel"]
    )
    np.testing.assert_allclose(
        fresh.layers[4].kernel.numpy(), kernel * result.values["scale.dense_1.kernel"]
    )
    fresh.fit(X, Y, sample_weight=result.values["data.sample_weight"], verbose=0)
    trained = fresh.get_weights()
    with pytest.raises(ValueError, match="expected a model that was not trained yet"):
        result.apply(fresh, partial=True)
    for before, after in zip(trained, fresh.get_weights()):
        np.testing.assert_array_equal(before, after)


def test_large_arrays_are_not_printed(tmp_path) -> None:
    problem = problem_of(["data.x"], x=np.tile(X, (200, 1)), y=np.tile(Y, (200, 1)))
    result = hg.tune(problem, outer_steps=1, verbose=0)
    for text in (result.summary(), repr(result)):
        assert "(2000, 3)" in text and len(text) < 1500
    result.plot(tmp_path / "plot.png")
    result.save(tmp_path)
    assert (tmp_path / "result.json").stat().st_size < 20_000
    loaded = hg.Result.load(tmp_path)
    np.testing.assert_array_equal(loaded.values["data.x"], result.values["data.x"])


def test_the_table_says_how_data_and_starts_are_called() -> None:
    table = hg.tunables(classifier())
    paths = {row.path for row in table.rows}
    assert {"normalization.mean", "shifted.shift", "loss_weights"} <= paths
    assert not any(path.startswith(("initial.", "scale.")) for path in paths)
    text = str(table)
    assert "initial.<layer>.<variable>" in text and "data.sample_weight" in text
