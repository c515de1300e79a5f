"""Paths of numbers inside compiled models, and traced values written into them."""

import keras
import numpy as np
import pytest
from keras import layers, losses, ops, regularizers

from hypergrad import backend
from hypergrad.targets import discover, inject, resolve, settle, tunables
from hypergrad.targets.names import matches, quote, split
from hypergrad.targets.verdicts import TABLE

X = np.random.default_rng(0).normal(size=(5, 4)).round(2)


class Scaled(layers.Layer):
    """A user's layer: arithmetic, a branch, and a call that takes tensors only."""

    def __init__(self, how="product", **kwargs):
        super().__init__(**kwargs)
        self.how = how
        self.alpha = 0.5
        self.count = 3
        self.drop_rate = 0.25
        self.table = np.asarray([0.5, 1.0, 1.5, 2.0])

    def call(self, x):
        if self.how == "branch":
            return x * self.alpha if self.alpha > 0 else x
        if self.how == "undecided":
            return x * self.alpha if self.alpha > 0.5 else x
        if self.how == "table":
            return x * ops.cast(self.table, x.dtype)
        if self.how == "clip":
            return ops.clip(x, -1.0, self.alpha)
        return x * self.alpha


class Ridge(regularizers.Regularizer):
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, x):
        return self.strength * ops.sum(x**4)


class MyModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.temperature = 0.5
        self.hidden = layers.Dense(3, kernel_regularizer="l2")
        self.out = layers.Dense(1)

    def call(self, x):
        return self.out(ops.tanh(self.hidden(x) / self.temperature))


def compiled(*stack, optimizer="adam", loss="mse"):
    model = keras.Sequential([keras.Input((4,)), *stack])
    model.compile(optimizer, loss)
    return model


def forward(model):
    """A scalar of the outputs, penalties and moving statistics; mutates nothing."""
    mapping = [(v, v.value) for v in model.variables]
    with keras.StatelessScope(mapping, collect_losses=True):
        trained = model(X, training=True)
        penalties = sum(model.losses) if model.losses else 0.0
        tested = model(X, training=False)
    weights = ops.reshape(ops.linspace(0.5, 1.5, int(np.prod(tested.shape))), (5, -1))
    weights = ops.cast(weights, keras.config.floatx())
    shape = ops.shape(weights)
    trained, tested = (ops.cast(t, weights.dtype) for t in (trained, tested))
    return (
        penalties
        + ops.sum(weights * ops.reshape(trained, shape) ** 2)
        + ops.sum(weights * ops.sin(ops.reshape(tested, shape)))
    )


def one(model, path):
    (target,) = resolve(discover(model), path)
    return target


def as_compiled(target, value, run):
    """What Keras itself computes with the number in place."""
    place = vars(target.owner)
    old = place[target.attribute]
    place[target.attribute] = value
    try:
        return float(backend.to_numpy(backend.jit(run)()))
    finally:
        place[target.attribute] = old


def injected(target, low, high, run):
    """The function of the value, and its value and derivative, both compiled."""

    def loss(value):
        with inject([(target, value, low, high)]):
            return run()

    return backend.jit(loss), backend.jit(backend.value_and_grad(loss))


def assert_right(target, values, low, high, run):
    """Value as Keras computes it; derivative as central differences say."""
    function, derivative = injected(target, low, high, run)
    for value in values:
        point = backend.convert(np.float64(value))
        got, slope = (float(backend.to_numpy(t)) for t in derivative(point))
        assert got == pytest.approx(as_compiled(target, value, run), rel=1e-12)
        differences = []
        for step in (2e-5, 1e-5):
            up = float(function(backend.convert(np.float64(value + step))))
            down = float(function(backend.convert(np.float64(value - step))))
            differences.append((up - down) / (2 * step))
        best = (4 * differences[1] - differences[0]) / 3
        assert slope == pytest.approx(best, rel=1e-6)
        assert slope != 0.0


def dense(regularizer):
    return lambda: [layers.Dense(3, kernel_regularizer=regularizer)]


# name: (layers, path, values that float32 holds, low, high)
CASES = {
    "L1": (dense("l1"), "dense.kernel_regularizer.l1", (0.25, 0.5), 0, 1),
    "L2": (dense("l2"), "dense.kernel_regularizer.l2", (0.25, 0.5), 0, 1),
    "L1L2.l1": (
        dense(regularizers.L1L2(0.0, 0.25)),
        "dense.kernel_regularizer.l1",
        (0.25, 0.5),
        0,
        1,
    ),
    "L1L2.l2": (
        dense(regularizers.L1L2(0.25, 0.0)),
        "dense.kernel_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
    "OrthogonalRegularizer": (
        dense(regularizers.OrthogonalRegularizer(0.5)),
        "dense.kernel_regularizer.factor",
        (0.25, 0.5),
        0,
        1,
    ),
    "a user's regularizer": (
        lambda: [layers.Dense(3, bias_initializer="ones", bias_regularizer=Ridge(0.5))],
        "dense.bias_regularizer.strength",
        (0.25, 2.0),
        0,
        4,
    ),
    "activity_regularizer": (
        lambda: [layers.Dense(3, activity_regularizer="l2")],
        "dense.activity_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
    "ActivityRegularization": (
        lambda: [layers.ActivityRegularization(0.5, 0.0)],
        "activity_regularization.activity_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
    "GaussianNoise": (
        lambda: [layers.GaussianNoise(0.5, seed=1)],
        "gaussian_noise.stddev",
        (0.25, 0.75),
        0,
        1,
    ),
    "GaussianDropout": (
        lambda: [layers.GaussianDropout(0.5, seed=1)],
        "gaussian_dropout.rate",
        (0.25, 0.75),
        0,
        1,
    ),
    "LeakyReLU": (
        lambda: [layers.LeakyReLU(0.25)],
        "leaky_re_lu.negative_slope",
        (0.25, 0.5),
        0,
        1,
    ),
    "ELU": (lambda: [layers.ELU()], "elu.alpha", (0.25, 1.0, 1.5), 0, 2),
    "ReLU.negative_slope": (
        lambda: [layers.ReLU(negative_slope=0.25)],
        "re_lu.negative_slope",
        (0.25, 0.5),
        0,
        1,
    ),
    "ReLU.negative_slope beside the others": (
        lambda: [layers.ReLU(1.0, 0.25, 0.375)],
        "re_lu.negative_slope",
        (0.25, 0.5),
        0,
        1,
    ),
    "ReLU.max_value": (
        lambda: [layers.ReLU(max_value=0.5)],
        "re_lu.max_value",
        (0.25, 0.75),
        0,
        1,
    ),
    "BatchNormalization.momentum": (
        lambda: [layers.BatchNormalization()],
        "batch_normalization.momentum",
        (0.25, 0.75),
        0,
        1,
    ),
    "BatchNormalization.epsilon": (
        lambda: [layers.BatchNormalization()],
        "batch_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "LayerNormalization": (
        lambda: [layers.LayerNormalization()],
        "layer_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "GroupNormalization": (
        lambda: [layers.GroupNormalization(2)],
        "group_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "RMSNormalization": (
        lambda: [layers.RMSNormalization()],
        "rms_normalization.epsilon",
        (0.0625, 0.25),
        0,
        1,
    ),
    "Rescaling.scale": (
        lambda: [layers.Rescaling(0.5)],
        "rescaling.scale",
        (0.25, 2.0),
        None,
        None,
    ),
    "Rescaling.offset": (
        lambda: [layers.Rescaling(2, 0.5)],
        "rescaling.offset",
        (0.0, 2.0),
        None,
        None,
    ),
    "a user's layer": (lambda: [Scaled()], "scaled.alpha", (0.25, 2.0), None, None),
    "nested model": (
        lambda: [keras.Sequential([layers.Dense(3), Scaled()])],
        "sequential/scaled.alpha",
        (0.25, 2.0),
        0,
        4,
    ),
    "Bidirectional LSTM": (
        lambda: [
            layers.Reshape((2, 2)),
            layers.Bidirectional(
                layers.LSTM(2, recurrent_regularizer=regularizers.L1L2(0.5, 0.5)),
            ),
        ],
        "bidirectional/backward_lstm.recurrent_regularizer.l1",
        (0.25, 0.5),
        0,
        1,
    ),
    "TimeDistributed": (
        lambda: [
            layers.Reshape((2, 2)),
            layers.TimeDistributed(layers.Dense(2, kernel_regularizer="l2")),
        ],
        "time_distributed/dense.kernel_regularizer.l2",
        (0.25, 0.5),
        0,
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_derivative(name):
    build, path, values, low, high = CASES[name]
    model = compiled(*build())
    assert_right(one(model, path), values, low, high, lambda: forward(model))


def test_the_table_of_verdicts_is_covered():
    covered = set()
    for build, path, *_ in CASES.values():
        target = one(compiled(*build()), path)
        covered.add((type(target.owner), target.attribute))
    assert {key for key, how in TABLE.items() if how.reason is None} <= covered


def test_the_derivative_is_right_at_a_hard_bound():
    model = compiled(*dense(regularizers.L1L2(0.0, 0.0))())
    target = one(model, "dense.kernel_regularizer.l2")
    _, derivative = injected(target, 0.0, 1.0, lambda: forward(model))
    value, slope = derivative(backend.convert(0.0))
    assert float(value) == pytest.approx(
        as_compiled(target, 0.0, lambda: forward(model))
    )
    kernel = backend.to_numpy(model.layers[0].kernel.value)
    assert float(slope) == pytest.approx((kernel**2).sum())


def test_an_array_is_a_target():
    model = compiled(Scaled("table"))
    target = one(model, "scaled.table")
    np.testing.assert_array_equal(target.value, [0.5, 1.0, 1.5, 2.0])
    function, derivative = injected(target, 0.0, 4.0, lambda: forward(model))
    point = np.asarray([0.25, 0.5, 1.0, 2.0])
    _, slope = derivative(backend.convert(point))
    for i, step in enumerate(1e-5 * np.eye(4)):
        up, down = (
            float(function(backend.convert(p))) for p in (point + step, point - step)
        )
        assert float(slope[i]) == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_a_list_of_keras_is_a_target_as_an_array():
    model = compiled(layers.Rescaling([0.5, 1.0, 1.5, 2.0]))
    np.testing.assert_array_equal(
        one(model, "rescaling.scale").value, [0.5, 1.0, 1.5, 2.0]
    )


Y = np.asarray([[0.0], [1.0], [1.0], [0.0], [1.0]])
LOSSES = {
    "Huber": (losses.Huber(0.5), "loss.delta", (0.25, 0.5)),
    "BinaryCrossentropy": (
        losses.BinaryCrossentropy(True),
        "loss.label_smoothing",
        (0.25, 0.5),
    ),
    "BinaryFocalCrossentropy": (
        losses.BinaryFocalCrossentropy(from_logits=True),
        "loss.gamma",
        (1.5, 2.0),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_numbers_of_losses(name):
    loss, path, values = LOSSES[name]
    model = compiled(layers.Dense(1), loss=loss)
    target = one(model, path)
    assert target.kind == "loss"
    predictions = backend.convert(np.linspace(-2.0, 2.0, 5)[:, None])
    run = lambda: loss(ops.convert_to_tensor(Y), predictions)  # noqa: E731
    function, derivative = injected(target, 0.0, 5.0, run)
    for value in values:
        got, slope = (float(t) for t in derivative(backend.convert(np.float64(value))))
        target.owner[target.attribute] = value
        assert got == pytest.approx(float(backend.jit(run)()), rel=1e-7)
        up, down = (
            float(function(backend.convert(np.float64(value + h))))
            for h in (1e-5, -1e-5)
        )
        assert slope == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_losses_of_several_outputs_are_named_by_output():
    inputs = keras.Input((4,))
    a, b = (layers.Dense(1, name=name)(inputs) for name in "ab")
    model = keras.Model(inputs, {"a": a, "b": b})
    model.compile("sgd", {"a": losses.Huber(0.5), "b": "mse"})
    assert one(model, "loss.a.delta").value == 0.5


# Writing and taking back.


def state(model):
    """Everything that an injection could leave behind."""
    owners = [t.owner for t in discover(model)]
    return [
        {
            key: id(value)
            for key, value in (o if isinstance(o, dict) else vars(o)).items()
        }
        for o in owners
    ]


def test_everything_is_taken_back_after_an_exception():
    model = compiled(layers.ReLU(1.0, 0.25), layers.Dense(2, kernel_regularizer="l2"))
    paths = ("re_lu.negative_slope", "re_lu.max_value", "dense.kernel_regularizer.l2")
    targets = [one(model, path) for path in paths]
    before = state(model)
    with pytest.raises(KeyError, match="user code"):
        with inject([(target, ops.ones(()), 0.0, 1.0) for target in targets]):
            assert "call" in vars(model.layers[0])
            raise KeyError("user code")
    assert state(model) == before
    assert "call" not in vars(model.layers[0])


def test_everything_is_taken_back_when_writing_fails():
    model = compiled(
        layers.GaussianNoise(0.5), layers.Dense(2, kernel_regularizer="l2")
    )
    target = one(model, "dense.kernel_regularizer.l2")
    before = state(model)
    with pytest.raises(ValueError, match="to unpack"):
        with inject([(target, 1.0, 0, 1), (target, 1.0)]):
            pass
    assert state(model) == before


def test_numbers_of_the_optimizer_and_refused_ones_are_not_written():
    model = compiled(layers.Dropout(0.5))
    targets = {t.path: t for t in discover(model)}
    with pytest.raises(ValueError, match="Pass it to the rule's `update`"):
        with inject([(targets["optimizer.beta_1"], 0.5, 0, 1)]):
            pass
    with pytest.raises(ValueError, match="`dropout.rate` cannot be written to"):
        with inject([(targets["dropout.rate"], 0.5, 0, 1)]):
            pass


# A user's own code.


@pytest.mark.parametrize(
    "how, form", [("product", "tensor"), ("clip", "tensor"), ("branch", "traced")]
)
def test_a_users_code_settles_the_form(how, form):
    model = compiled(Scaled(how))
    target = one(model, "scaled.alpha")
    assert target.form == "unknown"
    (settled,) = settle([(target, 0.25, 0.0, 1.0)], lambda: forward(model))
    assert settled.form == form
    assert_right(settled, (0.25, 0.5), 0.0, 1.0, lambda: forward(model))


def test_code_that_accepts_no_form_is_refused_with_its_own_line():
    model = compiled(Scaled("undecided"))
    target = one(model, "scaled.alpha")
    with pytest.raises(ValueError, match=r"asks whether `scaled.alpha` > 0\.5") as e:
        settle([(target, 0.25, 0.0, 1.0)], lambda: forward(model))
    assert "test_targets.py" in str(e.value)
    assert model.layers[0].alpha == 0.5


def test_a_subclass_with_its_own_call_has_no_twin():
    class Mine(layers.LeakyReLU):
        def call(self, x):
            return ops.where(x > 0, x, self.negative_slope * x)

    model = compiled(Mine(0.25, name="mine"))
    target = one(model, "mine.negative_slope")
    assert target.form == "unknown"
    assert_right(target, (0.25, 0.5), 0, 1, lambda: forward(model))


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
    with pytest.raises(ValueError, match=r"schedule \(ExponentialDecay\).*Compile the"):
        resolve(discover(model), "optimizer.learning_rate")
    with pytest.raises(ValueError, match="schedule are not differentiated yet"):
        resolve(discover(model), "optimizer.learning_rate.decay_rate")


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
    assert all(line[column - 2 : column] in ("  ", "--") for line in lines[2:])
    assert any(
        line.startswith("dropout.rate") and "GaussianDropout" in line for line in lines
    )


# Other precisions.


@pytest.mark.float32
@pytest.mark.parametrize("how, form", [("product", "tensor"), ("branch", "traced")])
def test_a_users_code_settles_the_form_in_float32(how, form):
    model = compiled(Scaled(how))
    target = one(model, "scaled.alpha")
    # NumPy's float64, as a caller would pass it.
    (settled,) = settle([(target, np.float64(0.25), 0.0, 1.0)], lambda: forward(model))
    assert settled.form == form


MIXED = ["L2", "L1L2.l1", "GaussianNoise", "GaussianDropout", "LeakyReLU"]
MIXED += ["BatchNormalization.epsilon", "LayerNormalization", "Rescaling.scale"]
MIXED += ["ReLU.max_value", "ELU", "a user's layer"]


@pytest.mark.float32
@pytest.mark.parametrize("name", MIXED)
def test_a_float32_value_in_a_bfloat16_layer(name):
    build, path, (value, *_), low, high = CASES[name]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(*build())
    finally:
        keras.config.set_dtype_policy("float32")
    run = lambda: forward(model)  # noqa: E731
    (target,) = settle([(one(model, path), value, low, high)], run)
    _, derivative = injected(target, low, high, run)
    got, slope = derivative(backend.convert(value, "float32"))
    assert float(got) == pytest.approx(as_compiled(target, value, run), rel=2e-2)
    assert np.isfinite(float(slope)) and float(slope) != 0.0
