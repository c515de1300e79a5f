"""Bad input gets one clear error before any training: what, expected, received, fix."""

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops, regularizers

import hypergrad as hg

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 3)).astype("float32")
Y = X[:, :1]
RATE = ["optimizer.learning_rate"]


def model_of(
    *more: keras.layers.Layer, optimizer: Any = None, loss: Any = "mse", **compiled: Any
) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, activation="tanh", kernel_regularizer=regularizers.L2(0.1)),
            *more,
            layers.Dense(1),
        ]
    )
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(optimizer, loss=loss, jit_compile=False, **compiled)
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return model_of(layers.Dropout(0.25))


def problem_of(model: Any, x: Any = X, y: Any = Y, **arguments: Any) -> hg.Problem:
    arguments = {
        "hyperparameters": RATE,
        "validation_data": (X, Y),
        "steps": 1,
        **arguments,
    }
    return hg.Problem.from_model(model, x, y, **arguments)


def says(error: Any, *words: str) -> None:
    text = re.sub(r"\s+", " ", str(error.value))
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"


def refused(kind: type[Exception], *words: str, model: Any, **arguments: Any) -> None:
    with pytest.raises(kind) as error:
        problem_of(model, **arguments)
    says(error, *words)


# The model


def test_what_is_no_compiled_model() -> None:
    refused(TypeError, "`model`", "keras.Model", "Received: str", model="mlp")
    plain = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    refused(ValueError, "is not compiled", "Call `model.compile(", model=plain)


def test_an_overridden_train_step() -> None:
    class Own(keras.Sequential):
        def train_step(self, *args: Any) -> Any:
            return {}

    model = Own([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    refused(
        ValueError,
        "Own overrides `train_step`",
        "`call` and `compute_loss` are honoured",
        "hg.Problem",
        model=model,
    )


def test_nothing_to_measure_without_a_loss() -> None:
    refused(ValueError, "without a loss", "`objective=`", model=model_of(loss=None))
    refused(
        TypeError,
        "`objective` must be a function",
        "Received: 'mse'",
        "keras.losses.get",
        model=model_of(),
        objective="mse",
    )


def test_a_frozen_model_and_one_frozen_after_compile() -> None:
    frozen = keras.Sequential([keras.Input((3,)), layers.Dense(1, trainable=False)])
    frozen.compile("sgd", "mse")
    refused(ValueError, "no trainable variables", "`trainable = True`", model=frozen)
    changed = model_of()
    changed.optimizer.build(changed.trainable_variables)
    changed.layers[0].trainable = False
    refused(
        ValueError,
        "The optimizer must be built on the trainable variables",
        "4 variables of the optimizer and 2 of the model",
        "model.compile",
        model=changed,
    )


def test_weights_that_are_not_finite() -> None:
    broken = model_of()
    broken.layers[0].bias.assign(np.full(2, np.nan))
    refused(ValueError, "/bias", "must be finite", "NaN", "afresh", model=broken)


def test_half_precision_is_refused_or_said() -> None:
    for policy, words in (
        ("mixed_float16", ("computes in float16", "'mixed_bfloat16'")),
        ("bfloat16", ("must be float32 or float64", "Received: bfloat16")),
    ):
        half = keras.Sequential([keras.Input((3,)), layers.Dense(1, dtype=policy)])
        half.compile(keras.optimizers.SGD(0.1), "mse")
        refused(ValueError, *words, model=half)
    mixed = keras.Sequential([keras.Input((3,))])
    mixed.add(layers.Dense(1, dtype=keras.DTypePolicy("mixed_bfloat16")))
    mixed.compile(keras.optimizers.SGD(0.1), "mse")
    with pytest.warns(UserWarning, match="computes in bfloat16"):
        problem_of(mixed)


# What is traced


def numpy_loss(y: Any, y_pred: Any) -> Any:
    return np.mean(np.abs(np.asarray(y_pred) - np.asarray(y)))


def asking_loss(y: Any, y_pred: Any) -> Any:
    loss = ops.mean(ops.abs(y_pred - y))
    return loss * 2.0 if loss > 1.0 else loss


def test_a_loss_that_calls_numpy() -> None:
    words = ("test_bad_input.py:", "calls NumPy on a traced value", "`keras.ops`")
    refused(TypeError, *words, model=model_of(loss=numpy_loss))


def test_a_loss_that_asks_for_a_value() -> None:
    words = ("test_bad_input.py:", "the value of a traced tensor", "keras.ops.where")
    refused(TypeError, *words, model=model_of(loss=asking_loss))


def test_an_objective_that_calls_numpy_stops_before_training() -> None:
    refused(
        TypeError,
        "calls NumPy on a traced value",
        model=model_of(),
        objective=numpy_loss,
    )


class Jumping(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.threshold = 0.5
        self.unused = 2.0

    def call(self, x: Any) -> Any:
        return x if self.threshold > 0.25 else -x


def test_a_number_that_decides_a_branch_inside_its_range() -> None:
    refused(
        ValueError,
        "`jumping.threshold` cannot be tuned",
        "Received from `Jumping`",
        "belongs to the tuner",
        model=model_of(Jumping()),
        hyperparameters={"jumping.threshold": hg.Float(0.0, 1.0)},
    )


class Unseeded(layers.Layer):
    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal(ops.shape(x)) if training else x


def test_random_numbers_without_a_seed_of_their_own() -> None:
    with pytest.raises(ValueError, match="SeedGenerator"):
        hg.hypergradient(problem_of(model_of(Unseeded())))


def test_data_that_the_model_refuses() -> None:
    refused(
        ValueError,
        "must accept the data",
        "'x': ('rows', 2)",
        "`model.input_shape`",
        model=model_of(),
        x=X[:, :2],
        validation_data=(X[:, :2], Y),
    )
    wide = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    wide.compile("sgd", "mse")
    y = np.ones((20, 2))
    words = ("must accept the data", "'y': ('rows', 2)", "`model.output_shape`")
    refused(ValueError, *words, model=wide, y=y, validation_data=(X, y))


# Paths and ranges


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("optimizer.lerning_rate", ("names nothing", "optimizer.learning_rate")),
        ("dens.kernel_regularizer.l2", ("Nearest: dense.kernel_regularizer.l2",)),
        ("dropout.rate", ("random threshold", "GaussianDropout", "tuner")),
        ("dense.units", ("integer", "belongs to the tuner")),
        ("dense.activation", ("choice", "belongs to the tuner")),
        ("batch_size", ("integer", "belongs to the tuner")),
        ("optimizer.clipnorm", ("it is None", "Compile the optimizer")),
    ],
)
def test_paths_that_cannot_be_tuned(
    model: keras.Model, path: str, words: tuple[str, ...]
) -> None:
    refused(ValueError, path, *words, model=model, hyperparameters=[path])


def test_hyperparameters_that_are_no_ranges(model: keras.Model) -> None:
    rate = RATE[0]
    refused(ValueError, "is empty", "hg.tunables", model=model, hyperparameters=[])
    for given in (3, True, (1e-5, 1.0)):
        refused(
            TypeError,
            f"`hyperparameters['{rate}']` must be a hypergrad.Float",
            f"Received: {given!r}",
            "hg.Float(",
            model=model,
            hyperparameters={rate: given},
        )
    for given in (3, (path for path in RATE)):
        refused(
            TypeError,
            "`hyperparameters` must be a dict",
            "Received: ",
            "hg.tunables(model)",
            model=model,
            hyperparameters=given,
        )
    refused(
        ValueError,
        f"'{rate}' is one number in the model",
        "Received: shape (3,)",
        "hg.Schedule",
        model=model,
        hyperparameters={rate: hg.Float(1e-5, 1.0, shape=(3,))},
    )
    with pytest.raises(TypeError) as error:
        hg.Float(1e-5, 1.0, default=1)
    says(error, "default", "Received: integer 1", "1.0")


def test_starts_outside_the_range(model: keras.Model) -> None:
    with pytest.raises(ValueError) as error:
        hg.Float(1e-5, 1e-2, sampling="log", default=0.5)
    says(error, "default", "Received: 0.5", "1e-05")
    refused(
        ValueError,
        "holds optimizer.learning_rate = 0.01",
        "Pass `default=`, or widen it",
        model=model,
        hyperparameters={RATE[0]: hg.Float(0.1, 1.0)},
    )


def test_one_number_under_two_names(model: keras.Model) -> None:
    penalty = hg.Float(1e-6, 1.0, sampling="log")
    path = "dense.kernel_regularizer.l2"
    refused(
        ValueError,
        f"{path!r} is named twice",
        "dense*.kernel_regularizer.l2",
        model=model,
        hyperparameters={path: penalty, "dense*.kernel_regularizer.l2": penalty},
    )
    refused(
        ValueError,
        "is named twice by what `bind` returns",
        model=model,
        hyperparameters={"a": hg.Float(0.0, 1.0, default=0.5)},
        bind=lambda h: {path: h["a"], "dense*.kernel_regularizer.l2": h["a"]},
    )


def test_own_names_need_a_bind_and_a_default(model: keras.Model) -> None:
    refused(
        ValueError,
        "With `bind=`, 'a' is a name of your own",
        "`default`",
        model=model,
        hyperparameters={"a": hg.Float(0.0, 1.0)},
        bind=lambda h: {RATE[0]: h["a"]},
    )
    refused(
        TypeError,
        "`bind` must return a dict",
        "Received: None",
        model=model,
        hyperparameters={"a": hg.Float(0.0, 1.0, default=0.5)},
        bind=lambda h: None,
    )


def test_a_bind_that_calls_numpy_or_drops_a_path(model: keras.Model) -> None:
    own = {"a": hg.Float(0.0, 1.0, default=0.5)}
    refused(
        TypeError,
        "test_bad_input.py:",
        "part of `bind`",
        "`keras.ops`",
        model=model,
        hyperparameters=own,
        bind=lambda h: {RATE[0]: np.sqrt(np.asarray(h["a"]))},
    )
    seen: list[Any] = []

    def forgetful(h: Any) -> dict:
        seen.append(h)
        return {RATE[0]: h["a"], **({"optimizer.beta_1": h["a"]} if seen[3:] else {})}

    problem = problem_of(model, hyperparameters=own, bind=forgetful)
    seen += [None] * 3
    with pytest.raises(ValueError) as error:
        hg.hypergradient(problem)
    says(error, "must return the same paths", "optimizer.beta_1")


@pytest.mark.float32
def test_a_bind_of_an_array_is_given_floatx(model: keras.Model) -> None:
    problem_of(
        model,
        hyperparameters={"a": hg.Float(0.0, 1.0, shape=(2,), default=[0.25, 0.5])},
        bind=lambda h: {RATE[0]: keras.ops.ones((2,))[0] * h["a"][0]},
    )


def test_values_that_do_not_fit(model: keras.Model) -> None:
    problem = problem_of(model)
    for kind, values, words in (
        (ValueError, {RATE[0]: 5.0}, (RATE[0], "5")),
        (TypeError, {RATE[0]: 1}, (RATE[0], "Received: integer 1", "tuner")),
        (ValueError, {"optimizer.beta": 0.5}, ("Unknown", "optimizer.beta")),
        (ValueError, {RATE[0]: np.nan}, (RATE[0], "nan")),
    ):
        with pytest.raises(kind) as error:
            hg.hypergradient(problem, values)
        says(error, *words)


# Data


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (ValueError, {"validation_data": None}, ("neither", "validation_data=(x_val")),
        (TypeError, {"validation_data": X}, ("tuple (x, y)", "ndarray")),
        (ValueError, {"validation_data": (X,)}, ("both be given",)),
        (
            ValueError,
            {"validation_data": (X[:, :2], Y)},
            ("`x` must have the same form", "(20, 3)", "(20, 2)"),
        ),
        (ValueError, {"validation_data": None, "validation_split": 1.5}, ("1.5",)),
        (ValueError, {"validation_data": None, "validation_split": 0.99}, ("leaves",)),
        (ValueError, {"x": X[:0], "y": Y[:0]}, ("`x`", "at least one example")),
        (ValueError, {"y": Y[:7]}, ("`x` has 20 rows and `y` has 7",)),
        (ValueError, {"y": None, "validation_data": (X, None)}, ("`y` must be given",)),
        (ValueError, {"x": np.full_like(X, np.nan)}, ("`x`", "60 NaN")),
        (
            ValueError,
            {"validation_data": (X, np.full_like(Y, np.nan))},
            ("`validation y`", "NaN"),
        ),
        (TypeError, {"y": np.array(["a"] * 20)}, ("`y`", "numbers", "Encode")),
        (TypeError, {"y": (row for row in Y)}, ("`y`", "arrays", "generator")),
        (ValueError, {"sample_weight": np.ones(3)}, ("sample_weight` has 3",)),
        (
            ValueError,
            {"sample_weight": np.ones(20), "class_weight": {0: 1.0}},
            ("cannot both", "Multiply"),
        ),
        (TypeError, {"class_weight": [1.0, 2.0]}, ("class → weight", "[1.0, 2.0]")),
        (ValueError, {"batch_size": 0}, ("`batch_size`", "positive", "0")),
        (ValueError, {"batch_size": 2.5}, ("`batch_size`", "2.5")),
        (ValueError, {"steps": 2, "epochs": 1}, ("`steps` or `epochs`", "not both")),
        (ValueError, {"steps": 0}, ("`steps`", "positive integer", "0")),
        (
            ValueError,
            {"drop_remainder": True, "batch_size": 64},
            ("`drop_remainder=True`", "smaller `batch_size`"),
        ),
    ],
)
def test_data(
    model: keras.Model,
    kind: type[Exception],
    arguments: dict,
    words: tuple[str, ...],
) -> None:
    refused(kind, *words, model=model, **arguments)


# Numbers without influence


class Silent(keras.Sequential):
    """An own loss that forgets the penalties of the layers."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_: Any):
        return ops.mean(ops.square(y - y_pred))


def test_numbers_that_reach_nothing_are_named_before_training() -> None:
    model = Silent(
        [
            keras.Input((3,)),
            layers.Dense(1, kernel_regularizer=regularizers.L2(0.1)),
            Jumping(),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1))
    with pytest.warns(UserWarning) as warned:
        problem_of(
            model,
            hyperparameters={
                "dense.kernel_regularizer.l2": hg.Float(1e-6, 1.0, sampling="log"),
                "jumping.unused": hg.Float(0.0, 4.0),
                "optimizer.learning_rate": hg.Float(0.0, 1.0),
            },
        )
    ours = [w for w in warned if w.category is UserWarning]
    texts = [str(w.message) for w in ours]
    assert len(texts) == 2
    for text, path in zip(texts, ("dense.kernel_regularizer.l2", "jumping.unused")):
        assert text.startswith(f"`{path}` has no influence on the validation loss")
        assert "Leave it out" in text
    assert {w.filename for w in ours} == {__file__}


def test_a_penalty_on_zeros_is_not_taken_for_unused() -> None:
    model = keras.Sequential([keras.Input((3,))])
    model.add(layers.Dense(1, bias_regularizer=regularizers.L2(0.1)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    problem_of(
        model,
        hyperparameters={"dense.bias_regularizer.l2": hg.Float(0.0, 1.0)},
    )


def test_a_hypergradient_of_exactly_zero_is_named_once() -> None:
    model = model_of(optimizer=keras.optimizers.SGD(0.1, clipvalue=1e3, momentum=0.5))
    problem = problem_of(
        model,
        hyperparameters={
            "optimizer.learning_rate": hg.Float(0.0, 1.0),
            "optimizer.clipvalue": hg.Float(1.0, 1e4, sampling="log"),
        },
    )
    with pytest.warns(UserWarning) as warned:
        h = hg.hypergradient(problem)
    assert h.gradient["optimizer.clipvalue"] == 0
    assert len(warned) == 1
    text = str(warned[0].message)
    assert text.startswith("`optimizer.clipvalue` had no influence")
    assert "exactly zero at 1000" in text and "Leave it out" in text
    assert warned[0].filename == __file__
    hg.hypergradient(problem)  # warnings are errors here


@pytest.mark.parametrize(
    ("layer", "fix"),
    [
        (lambda: layers.BatchNormalization(renorm=True), "`renorm=False`"),
        (lambda: layers.SpectralNormalization(layers.Dense(2)), "weight decay"),
    ],
)
def test_a_layer_that_cuts_its_gradient_is_refused(layer, fix) -> None:
    model = keras.Sequential([keras.Input((3,)), layer(), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=f"stops gradients inside.*{fix}"):
        problem_of(model)
