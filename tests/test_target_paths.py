"""Paths of the numbers inside compiled models, and the table of them."""

import keras
import pytest
from keras import layers, regularizers

from hypergrad.targets import discover, resolve, tunables
from hypergrad.targets.names import matches, quote, split
from target_models import (
    MyModel,
    Scaled,
    X,
    assert_right,
    compiled,
    forward,
    one,
)

# Names.


def zoo():
    inner = keras.Sequential([layers.Dense(4), layers.GaussianNoise(0.25)])
    return compiled(
        layers.Dense(4, kernel_regularizer="l2"),
        layers.Dense(4, kernel_regularizer="l2"),
        layers.Dense(4, kernel_regularizer="l1", name="head"),
        Scaled(),
        inner,
        layers.Dense(1),
    )


def paths(model):
    return [path for t in discover(model) for path in t.paths]


def test_the_same_model_built_twice_has_the_same_paths():
    first, second = zoo(), zoo()
    assert first.layers[0].name != second.layers[0].name
    assert paths(first) == paths(second)
    assert {
        "dense.kernel_regularizer.l2",
        "dense_1.kernel_regularizer.l2",
        "head.kernel_regularizer.l1",
        "scaled.alpha",
        "sequential/gaussian_noise.stddev",
        "dense_2.units",
    } <= set(paths(first))


def test_a_subclassed_model_has_paths_and_numbers_of_its_own():
    model = MyModel()
    model.compile("sgd", "mse")
    model(X)
    assert {"model.temperature", "dense.kernel_regularizer.l2"} <= set(paths(model))
    target = one(model, "model.temperature")
    assert_right(target, (0.5, 2.0), 0.0, 4.0, lambda: forward(model))


def test_a_name_that_is_taken_is_skipped():
    model = compiled(layers.Dense(2, name="scaled"), Scaled(), Scaled())
    assert {"scaled.units", "scaled_1.alpha", "scaled_2.alpha"} <= set(paths(model))


def test_odd_names_are_quoted():
    model = compiled(
        layers.Dense(2, name="conv1.a*", kernel_regularizer="l2"),
        layers.Dense(2, name="loss", kernel_regularizer="l2"),
        layers.Dense(2, name="a]b", kernel_regularizer="l2"),
    )
    for path, layer in zip(
        ("[conv1.a*]", "[loss]", "[a]]b]"), model.layers, strict=True
    ):
        target = one(model, f"{path}.kernel_regularizer.l2")
        assert target.owner is layer.kernel_regularizer
    assert len(resolve(discover(model), "*.kernel_regularizer.l2")) == 3


@pytest.mark.parametrize("name", ["a.b", "a]b", "]]", "[", "x*", "dense 1", "loss"])
def test_quoting_is_undone_by_splitting(name):
    (part, *_) = split(quote(name, first=True) + ".l2")
    assert part.text == name and part.quoted


@pytest.mark.parametrize(
    "pattern, path, expected",
    [
        ("dense*.l2", "dense_1.l2", True),
        ("dense*.l2", "dense.kernel_regularizer.l2", False),
        ("dense?1.l2", "dense_1.l2", True),
        ("*.l2", "outer/inner.l2", True),
        ("*.epsilon", "optimizer.epsilon", False),
        ("optimizer.*", "optimizer.epsilon", True),
        ("*.l2", "[a.b].l2", True),
        ("[a*].l2", "ab.l2", False),
        ("loss.delta", "[loss].delta", False),
        ("Dense.l2", "dense.l2", False),
    ],
)
def test_patterns(pattern, path, expected):
    assert matches(pattern, path) is expected


@pytest.mark.parametrize("path", ["", "a..b", "a.", "[a.b", ".a", "a]b.c", "a[b].c"])
def test_a_path_that_cannot_be_read(path):
    with pytest.raises(ValueError, match="cannot be read, expected names joined"):
        resolve(discover(zoo()), path)


def test_a_shared_regularizer_is_one_target_with_two_paths():
    shared = regularizers.L2(0.25)
    model = compiled(
        layers.Dense(3, kernel_regularizer=shared),
        layers.Dense(3, kernel_regularizer=shared),
    )
    targets = discover(model)
    (target,) = resolve(targets, "dense*.kernel_regularizer.l2")
    assert target is resolve(targets, "dense_1.kernel_regularizer.l2")[0]
    assert target.path == "dense.kernel_regularizer.l2"
    assert_right(target, (0.25, 0.5), 0, 1, lambda: forward(model))


def test_a_wildcard_names_one_target_for_each_match():
    found = resolve(discover(zoo()), "dense*.kernel_regularizer.l2")
    assert [t.path for t in found] == [
        "dense.kernel_regularizer.l2",
        "dense_1.kernel_regularizer.l2",
    ]


# What cannot be tuned.


@pytest.mark.parametrize(
    "stack, path, reason",
    [
        ([layers.Dropout(0.5)], "dropout.rate", "Use GaussianDropout or the tuner"),
        (
            [layers.AlphaDropout(0.5)],
            "alpha_dropout.rate",
            "Use GaussianDropout or the tuner",
        ),
        (
            [layers.Reshape((2, 2)), layers.LSTM(2, dropout=0.5)],
            "lstm.recurrent_dropout",
            "Use GaussianDropout or the tuner",
        ),
        (
            [layers.Reshape((2, 2, 1)), layers.RandomRotation(0.25)],
            "random_rotation.factor",
            "random transformation .* belongs to the tuner",
        ),
        ([layers.Dense(2)], "dense.units", "integer .* belongs to the tuner"),
        ([layers.Dense(2)], "dense.activation", "choice .* belongs to the tuner"),
        ([layers.Dense(2)], "dense.use_bias", "choice .* belongs to the tuner"),
        (
            [layers.Reshape((2, 2)), layers.Conv1D(2, 2)],
            "conv1d.kernel_size",
            "integer .* belongs to the tuner",
        ),
        ([layers.Dense(2)], "batch_size", "integer .* belongs to the tuner"),
        ([layers.Dense(2)], "fit.epochs", "integer .* belongs to the tuner"),
        ([layers.GaussianNoise(0.0)], "gaussian_noise.stddev", "Rebuild the model"),
        ([layers.GaussianDropout(0.0)], "gaussian_dropout.rate", "Rebuild the model"),
        ([layers.ReLU(threshold=0.5)], "re_lu.threshold", "output jumps"),
        (
            [layers.ActivityRegularization(0.5)],
            "activity_regularization.l1",
            "no effect .* Use `activity_regularizer.l1`",
        ),
        (
            [layers.Dense(2, use_bias=False, bias_regularizer="l2")],
            "dense.bias_regularizer.l2",
            "regularizes no variable",
        ),
        (
            [layers.Dense(2, kernel_regularizer="l2", trainable=False)],
            "dense.kernel_regularizer.l2",
            "the layer is frozen",
        ),
        (
            [layers.BatchNormalization(trainable=False)],
            "batch_normalization.momentum",
            "moving averages do not move",
        ),
        (
            [layers.Dense(2, kernel_constraint="max_norm")],
            "dense.kernel_constraint.max_value",
            "a constraint acts inside the optimizer's update",
        ),
        ([Scaled()], "scaled.count", "integer .* belongs to the tuner"),
        ([Scaled()], "scaled.drop_rate", "sets a random threshold"),
        ([layers.Dense(2)], "optimizer.ema_momentum", "use_ema=False"),
        (
            [layers.Dense(2)],
            "optimizer.clipnorm",
            "Compile the optimizer with a number",
        ),
        ([layers.Dense(2)], "optimizer.amsgrad", "choice .* belongs to the tuner"),
    ],
)
def test_what_has_no_derivative_is_refused_with_the_reason(stack, path, reason):
    model = compiled(*[type(s).from_config(s.get_config()) for s in stack])
    with pytest.raises(ValueError, match=f"cannot be tuned by gradient.*{reason}"):
        resolve(discover(model), path)


def test_a_wildcard_passes_over_what_has_no_effect():
    model = compiled(
        layers.Dense(2, kernel_regularizer="l2", trainable=False),
        layers.Dense(2, kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.Rescaling(0.5),
    )
    targets = discover(model)
    (found,) = resolve(targets, "*.kernel_regularizer.l2")
    assert found.path == "dense_1.kernel_regularizer.l2"
    (found,) = resolve(targets, "*.scale")  # BatchNormalization.scale is a choice
    assert found.path == "rescaling.scale"


def test_a_wildcard_does_not_hide_a_refusal():
    model = compiled(layers.Dropout(0.5), layers.GaussianDropout(0.5))
    with pytest.raises(ValueError, match="matches: gaussian_dropout.rate") as caught:
        resolve(discover(model), "*.rate")
    assert "`dropout.rate` = 0.5" in str(caught.value)


def test_an_unknown_path_names_the_nearest():
    targets = discover(zoo())
    with pytest.raises(ValueError, match="names nothing.*Nearest: optimizer.learning"):
        resolve(targets, "optimizer.learning_rat")
    with pytest.raises(ValueError, match=r"Nearest: .*dense_1\.kernel_regularizer\.l2"):
        resolve(targets, "dense_7.kernel_regularizer.l2")
    with pytest.raises(ValueError, match="Nearest: ."):
        resolve(targets, "something")


def test_an_uncompiled_model_is_refused():
    model = keras.Sequential([layers.Dense(1)])
    with pytest.raises(ValueError, match="expected a model after `compile"):
        tunables(model)


# The optimizer.


@pytest.mark.parametrize(
    "optimizer, expected",
    [
        (
            keras.optimizers.SGD(0.5, momentum=0.0),
            {"learning_rate": 0.5, "momentum": 0.0, "weight_decay": 0.0},
        ),
        (
            keras.optimizers.RMSprop(0.5, rho=0.75, momentum=0.25, epsilon=0.125),
            {"rho": 0.75, "momentum": 0.25, "epsilon": 0.125, "weight_decay": 0.0},
        ),
        (
            keras.optimizers.AdamW(0.5, 0.25, 0.5, 0.75, 0.125, clipnorm=2),
            {
                "weight_decay": 0.25,
                "beta_1": 0.5,
                "beta_2": 0.75,
                "epsilon": 0.125,
                "clipnorm": 2.0,
            },
        ),
    ],
)
def test_numbers_of_the_optimizer(optimizer, expected):
    model = compiled(layers.Dense(1), optimizer=optimizer)
    targets = discover(model)
    for attribute, value in expected.items():
        (target,) = resolve(targets, f"optimizer.{attribute}")
        assert (target.kind, target.form) == ("optimizer", "rule")
        assert (target.attribute, target.value) == (attribute, value)


def test_a_schedule_is_listed_with_what_to_do():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.75)
    model = compiled(layers.Dense(1), optimizer=keras.optimizers.SGD(schedule))
    with pytest.raises(ValueError, match=r"schedule \(ExponentialDecay\): tune its"):
        resolve(discover(model), "optimizer.learning_rate")
    assert one(model, "optimizer.learning_rate.decay_rate").value == 0.75


def test_the_scaled_optimizer_of_mixed_precision_is_unwrapped():
    inner = keras.optimizers.Adam(0.5)
    model = compiled(
        layers.Dense(1), optimizer=keras.optimizers.LossScaleOptimizer(inner)
    )
    assert one(model, "optimizer.beta_1").owner is inner


# The table.


def test_tunables_lists_numbers_and_reasons():
    table = tunables(
        compiled(layers.Dense(2, kernel_regularizer="l2"), layers.Dropout(0.5))
    )
    rows = {row.path: row for row in table.rows}
    l2 = rows["dense.kernel_regularizer.l2"]
    assert (l2.value, l2.kind, l2.tunable, l2.reason) == (0.01, "regularizer", True, "")
    assert not rows["dropout.rate"].tunable
    assert "dense.use_bias" not in rows
    tunable = [row.tunable for row in table.rows]
    assert tunable == sorted(tunable, reverse=True)
    lines = str(table).splitlines()
    assert lines[0].split() == ["path", "value", "kind", "tunable", "reason"]
    column = lines[0].index("kind")
    below = lines.index("")  # how data and initial weights are called
    assert all(line[column - 2 : column] in ("  ", "--") for line in lines[2:below])
    assert any(
        line.startswith("dropout.rate") and "GaussianDropout" in line for line in lines
    )
