"""Training data, loss weights, starts and constants as hyperparameters."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg
from data_models import (
    CLASSES,
    INPUTS,
    X_VAL,
    Y_VAL,
    X,
    Y,
    assert_exact,
    classifier,
    loss_of,
    nested,
    problem_of,
    rng,
)

EVERYTHING = {
    "data.sample_weight": None,
    "data.class_weight": None,
    "data.x": hg.Float(),
    "data.y": hg.Float(),
    "loss_weights": None,
    "initial.dense.kernel": None,
    "scale.dense_1.*": hg.PerTarget(hg.Float(0.1, 10.0, sampling="log")),
    "initial.batch_normalization.moving_mean": None,
    "normalization.mean": None,
    "normalization.variance": None,
    "shifted.shift": hg.Float(-5.0, 5.0),
    "loss.label_smoothing": None,
}


@pytest.fixture(scope="module")
def everything() -> hg.Problem:
    return problem_of(EVERYTHING)


def moved(problem: hg.Problem) -> dict[str, np.ndarray]:
    """Values that differ from the defaults."""
    draw = np.random.default_rng(5)
    return {
        name: value * draw.uniform(0.8, 1.2, value.shape)
        for name, value in problem.values().items()
    }


def test_every_kind_equals_central_differences(everything, record_property) -> None:
    values = moved(everything)
    values["scale.dense_1.*"] = np.asarray([1.25, 0.75])
    gradient = assert_exact(everything, values, record_property)
    assert all(np.any(g) for name, g in gradient.items() if name[:6] != "scale.")
    # The bias starts at 0, whatever its scale.
    assert gradient["scale.dense_1.*"][0] != 0.0
    assert gradient["scale.dense_1.*"][1] == 0.0


def test_the_defaults_are_what_fit_was_given(everything) -> None:
    values = everything.values()
    np.testing.assert_array_equal(values["data.sample_weight"], np.ones(10))
    np.testing.assert_array_equal(values["data.class_weight"], np.ones(3))
    np.testing.assert_array_equal(values["data.x"], X)
    np.testing.assert_array_equal(values["data.y"], Y)
    assert values["loss_weights"] == 1.0
    assert everything.space["data.sample_weight"].max_value == 2.0
    assert everything.space["data.x"].min_value is None
    # What `adapt` found on the training rows; validation rows have no part in it.
    np.testing.assert_allclose(values["normalization.mean"], X.mean(0, keepdims=True))
    np.testing.assert_allclose(
        values["normalization.variance"], X.var(0, keepdims=True)
    )


def test_training_equals_fit_with_the_same_values(everything) -> None:
    values = moved(everything)
    problem = problem_of(
        EVERYTHING, shuffle=False, steps=3, validation_data=(X_VAL, Y_VAL)
    )
    tape = hg.Reverse().run(problem, problem.values(values))
    model = classifier(loss_weights=float(values["loss_weights"]))
    normalization, dense, shifted, batch, last = model.layers
    dense.kernel.assign(values["initial.dense.kernel"])
    batch.moving_mean.assign(values["initial.batch_normalization.moving_mean"])
    scale = values["scale.dense_1.*"]
    last.kernel.assign(last.kernel * scale[0])
    shifted.shift.assign(values["shifted.shift"])
    normalization.adapt_mean.assign(values["normalization.mean"][0])
    normalization.adapt_variance.assign(values["normalization.variance"][0])
    normalization.finalize_state()
    model.loss._fn_kwargs["label_smoothing"] = float(values["loss.label_smoothing"])
    # Keras: the sum of the weighted losses divided by the rows of the batch.
    weight = values["data.sample_weight"] * values["data.class_weight"][CLASSES]
    model.fit(
        values["data.x"],
        values["data.y"],
        sample_weight=weight,
        batch_size=4,
        shuffle=False,
        verbose=0,
    )
    for got, expected in zip(tape.final.weights, model.trainable_variables):
        np.testing.assert_allclose(np.asarray(got), expected.numpy(), rtol=2e-6)
    # E: the loss as compiled, of the validation data as they are.
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    expected = float(loss(Y_VAL, model(X_VAL, training=False)))
    assert float(tape.loss) == pytest.approx(expected, rel=2e-6)


def test_class_weights_and_sample_weights_of_fit_are_the_start() -> None:
    problem = problem_of(["data.class_weight"], class_weight={0: 2.0, 2: 0.5})
    np.testing.assert_array_equal(
        problem.values()["data.class_weight"], [2.0, 1.0, 0.5]
    )
    plain = problem_of(["optimizer.learning_rate"], class_weight={0: 2.0, 2: 0.5})
    assert loss_of(problem)(None) == pytest.approx(loss_of(plain)(None), rel=1e-12)
    problem = problem_of(["data.sample_weight"], class_weight={0: 2.0, 2: 0.5})
    weights = np.asarray([2.0, 1.0, 0.5])[CLASSES]
    np.testing.assert_array_equal(problem.values()["data.sample_weight"], weights)


def test_integer_classes_have_weights(record_property) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.2), loss, jit_compile=False)
    problem = problem_of(
        ["data.class_weight", "data.sample_weight"],
        model,
        y=CLASSES,
        validation_data=(X_VAL, Y_VAL.argmax(1)),
        sample_weight=rng.uniform(0.5, 1.5, 10),
    )
    assert_exact(problem, None, record_property)


# Several inputs and outputs.


@pytest.mark.slow
def test_nested_data_and_weights_of_several_losses(record_property) -> None:
    paths = ["data.x.a", "data.y.size", "loss_weights.kind", "loss_weights.size"]
    problem = nested([*paths, "data.sample_weight", "loss.kind.delta"])
    values = problem.values()
    np.testing.assert_array_equal(values["data.x.a"], INPUTS["a"])
    assert (values["loss_weights.kind"], values["loss_weights.size"]) == (0.5, 2.0)
    assert_exact(problem, None, record_property)


@pytest.mark.slow
def test_weights_for_each_output_and_all_loss_weights_at_once(record_property) -> None:
    given = {"kind": rng.uniform(0.5, 1.5, 10), "size": rng.uniform(0.5, 1.5, 10)}
    problem = nested(["data.sample_weight.kind", "loss_weights"], sample_weight=given)
    values = problem.values()
    np.testing.assert_array_equal(values["data.sample_weight.kind"], given["kind"])
    np.testing.assert_array_equal(values["loss_weights"], [0.5, 2.0])
    assert_exact(problem, None, record_property)


def test_automatic_names_of_outputs_do_not_depend_on_what_was_built_before() -> None:
    layers.Dense(1)
    keras.utils.set_random_seed(2)
    inputs = keras.Input((3,))
    outputs = [layers.Dense(1)(inputs), layers.Dense(1)(inputs)]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", [keras.losses.Huber(0.5), "mse"])
    paths = {row.path for row in hg.tunables(model).rows}
    wanted = {"loss_weights.dense", "loss_weights.dense_1", "loss.dense.delta"}
    assert wanted <= paths
    y = [X[:, :1], X[:, 1:2]]
    names = ["loss_weights.dense_1", "loss.dense.delta"]
    problem = problem_of(
        names, model, y=y, validation_data=(X_VAL, [X_VAL[:, :1], X_VAL[:, 1:2]])
    )
    assert set(problem.values()) == set(names)


@pytest.mark.slow
def test_a_bind_may_return_rows_of_examples(record_property) -> None:
    problem = problem_of(
        {
            "noisy": hg.Float(0.0, 1.0, default=0.5),
            "rate": hg.Float(0.0, 1.0, default=0.1),
        },
        bind=lambda hparams: {
            "data.sample_weight": ops.where(X[:, 0] > 0, hparams["noisy"], 1.0),
            "data.x": hg.PerExample(X + hparams["rate"] * X[::-1]),
            "optimizer.learning_rate": hparams["rate"],
        },
    )
    assert_exact(problem, None, record_property)


# Constants and state.


def test_a_frozen_weight_is_a_constant(record_property) -> None:
    model = classifier()
    model.layers[1].trainable = False
    model.compile(
        keras.optimizers.SGD(0.2),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    problem = problem_of({"dense.bias": hg.Float(), "scale.dense.kernel": None}, model)
    assert_exact(problem, None, record_property)


def test_a_constant_feature_has_a_finite_derivative() -> None:
    x = np.concatenate([X[:, :2], np.ones((10, 1))], axis=1)
    normalization = layers.Normalization()
    normalization.adapt(x)
    model = keras.Sequential([keras.Input((3,)), normalization, layers.Dense(3)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    problem = problem_of(["normalization.variance"], model, x=x)
    gradient = hg.hypergradient(problem).gradient["normalization.variance"]
    assert np.isfinite(gradient).all() and gradient[0, 2] == 0.0
