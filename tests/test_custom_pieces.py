"""What users write themselves: each piece against finite differences."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg
from hypergrad import backend
from test_layers import check

rng = np.random.default_rng(2)
X = rng.normal(size=(16, 3))
Y = np.tanh(X[:, :1] - X[:, 1:2]) + 0.1 * rng.normal(size=(16, 1))
L2 = 0.05


def sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.1, momentum=0.5)


def penalised(units: int = 3, **options: Any) -> layers.Layer:
    l2 = keras.regularizers.L2(L2)
    return layers.Dense(units, "tanh", kernel_regularizer=l2, name="stem", **options)


def rows(value: Any, start: int, stop: int) -> Any:
    return keras.tree.map_structure(lambda a: a[start:stop], value)


def problem_of(
    model: keras.Model, x: Any = X, y: Any = Y, tuned: Any = (), **options: Any
) -> tuple[hg.Problem, dict[str, float]]:
    values = {
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.5,
        "stem.kernel_regularizer.l2": L2,
        **dict(tuned),
    }
    problem = hg.Problem.from_model(
        model,
        rows(x, 0, 10),
        None if y is None else rows(y, 0, 10),
        validation_data=(rows(x, 10, 16), None if y is None else rows(y, 10, 16)),
        **{"batch_size": 5, "steps": 4, **options},
        hyperparameters={
            k: hg.Float(0.5 * v, 1.5 * v, default=v) for k, v in values.items()
        },
    )
    return problem, values


def sequential(*parts: layers.Layer, loss: Any = "mse", **compiled: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), penalised(), *parts, layers.Dense(1)])
    model.compile(sgd(), loss, jit_compile=False, **compiled)
    return model


# Losses, metrics and overrides


def quartic(y: Any, y_pred: Any) -> Any:
    return ops.mean((y - y_pred) ** 4, axis=-1)


class Spread(keras.metrics.Metric):
    """The largest prediction so far."""

    def __init__(self) -> None:
        super().__init__(name="spread")
        self.largest = self.add_weight(name="largest", initializer="zeros")

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        del y, sample_weight
        self.largest.assign(ops.maximum(self.largest, ops.max(y_pred)))

    def result(self) -> Any:
        return ops.convert_to_tensor(self.largest)


def test_a_loss_and_a_metric_of_ones_own(record_property: Any) -> None:
    model = sequential(loss=quartic, metrics=[Spread()])
    problem, values = problem_of(model)
    record_property("relative_error", check(problem, values))
    h = hg.hypergradient(problem, values)
    end = list(zip(model.trainable_variables, h.info["final_state"].weights))
    with keras.StatelessScope(state_mapping=end):
        y_pred = np.asarray(model(ops.convert_to_tensor(X[10:])))
    assert h.loss == pytest.approx(np.mean((Y[10:] - y_pred) ** 4), rel=1e-10)
    assert h.metrics["spread"] == pytest.approx(max(y_pred.max(), 0.0), rel=1e-6)


class Overridden(keras.Model):
    """Own `call`, `compute_loss` and `compute_metrics`; a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = penalised(3)
        self.head = layers.Dense(1)
        self.seen = keras.metrics.Mean(name="seen")

    def call(self, x: Any, training: bool = False) -> Any:
        del training
        return self.head(self.stem(self.stem(x)))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **more):
        del sample_weight, more
        self.seen.update_state(ops.mean(y_pred))
        return ops.mean(ops.abs(y - y_pred) ** 3) + sum(self.losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {**super().compute_metrics(x, y, y_pred, sample_weight), "two": 2.0}


def test_a_model_with_overrides_and_a_shared_layer(record_property: Any) -> None:
    model = Overridden()
    model.compile(sgd(), jit_compile=False)
    record_property("relative_error", check(*problem_of(model)))


def test_several_inputs_and_outputs_by_name(record_property: Any) -> None:
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    hidden = layers.Concatenate()([penalised()(left), layers.Dense(2)(right)])
    outputs = {
        "size": layers.Dense(1, name="size")(hidden),
        "kind": layers.Dense(3, "softmax", name="kind")(hidden),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    loss = {"size": "mse", "kind": "sparse_categorical_crossentropy"}
    model.compile(
        sgd(), loss, loss_weights={"size": 0.5, "kind": 2.0}, jit_compile=False
    )
    x = {"left": X, "right": X[:, :2] ** 2}
    y = {"size": Y, "kind": (X[:, 0] > 0).astype("int32")}
    record_property("relative_error", check(*problem_of(model, x, y)))


# What is trained


def test_frozen_layers_and_nested_models(record_property: Any) -> None:
    inner = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, "tanh"), layers.BatchNormalization()],
        name="inner",
    )
    frozen = layers.Dense(3, "tanh", trainable=False)
    inner.layers[-1].trainable = False
    model = sequential(frozen, inner)
    before = [np.array(v.value) for v in model.non_trainable_variables]
    problem, values = problem_of(model)
    assert len(problem.init({}, problem.data).weights) == 6
    record_property("relative_error", check(problem, values))
    end = hg.hypergradient(problem, values).info["final_state"].model_state
    for old, new in zip(before, end, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))


def test_a_layer_frozen_after_compile_is_refused_until_compiled_again() -> None:
    model = sequential()
    model.layers[1].trainable = False
    model.optimizer.build(model.layers[0].trainable_variables)
    model.layers[1].trainable = True
    with pytest.raises(ValueError, match="changed after `compile`"):
        problem_of(model)


# Layers


class Pressed(layers.Layer):
    """Adds a loss, counts its calls, averages what it sees, and holds a constant."""

    def build(self, shape: Any) -> None:
        width = shape[-1]
        self.scale = self.add_weight(shape=(width,), initializer="ones")
        self.fixed = self.add_weight(
            shape=(width,), initializer=Halves(), trainable=False
        )
        self.average = self.add_weight(shape=(width,), trainable=False)
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )
        self.pressure = 0.25

    def call(self, x: Any, training: bool = False) -> Any:
        x = x * self.scale + self.fixed
        self.add_loss(self.pressure * ops.mean(ops.square(x)))
        if training:
            self.calls.assign_add(1)
            mean = ops.mean(x, axis=0)
            self.average.assign(0.5 * self.average + 0.5 * mean)
        # The count reaches the loss: an integer on the way carries no derivative.
        return (x - self.average) / (1.0 + ops.cast(self.calls, x.dtype))


class Halves(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return ops.full(shape, 0.5, dtype=dtype)


def test_a_layer_with_a_loss_and_state_of_its_own(record_property: Any) -> None:
    model = sequential(Pressed(name="pressed"))
    problem, values = problem_of(model, tuned={"pressed.pressure": 0.25})
    record_property("relative_error", check(problem, values))
    end = hg.hypergradient(problem, values).info["final_state"].model_state
    assert int(end[-1]) == problem.num_steps


class Entropic(keras.regularizers.Regularizer):
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, w: Any) -> Any:
        return self.factor * ops.sum(ops.log1p(ops.square(w)))


class Ball(keras.constraints.Constraint):
    def __init__(self, radius: float) -> None:
        self.radius = radius

    def __call__(self, w: Any) -> Any:
        norm = ops.sqrt(ops.sum(ops.square(w)))
        return w * self.radius / ops.maximum(norm, self.radius)


def bent(x: Any) -> Any:
    return x + 0.3 * ops.sin(x)


def test_a_regularizer_constraint_initializer_and_activation(
    record_property: Any,
) -> None:
    own = layers.Dense(
        2,
        bent,
        kernel_initializer=Halves(),
        kernel_regularizer=Entropic(0.1),
        kernel_constraint=Ball(0.8),
        name="own",
    )
    model = sequential(own, layers.Lambda(lambda x: x * ops.cos(x)))
    problem, values = problem_of(model, tuned={"own.kernel_regularizer.factor": 0.1})
    record_property("relative_error", check(problem, values))
    start = np.asarray(problem.init({}, problem.data).weights[2])
    assert np.linalg.norm(start) > 0.8, "else the constraint does nothing"


@pytest.mark.parametrize(
    "pool",
    [
        lambda: layers.GlobalAveragePooling1D(),
        pytest.param(lambda: layers.LSTM(2), marks=pytest.mark.slow),
    ],
    ids=["average", "LSTM"],
)
def test_an_embedding_of_rows_that_are_never_looked_up(
    pool: Any, record_property: Any
) -> None:
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 2, mask_zero=True)(tokens)
    x = penalised()(pool()(x))
    model = keras.Model(tokens, layers.Dense(1)(x))
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    words = rng.integers(0, 5, (16, 4))
    problem = hg.Problem.from_model(
        model,
        words[:10],
        Y[:10],
        validation_data=(words[10:], Y[10:]),
        batch_size=5,
        steps=3,
        hyperparameters={
            "optimizer.learning_rate": hg.Float(0.01, 0.5, default=0.1),
            "stem.kernel_regularizer.l2": hg.Float(0.01, 0.5, default=L2),
        },
    )
    values = {"optimizer.learning_rate": 0.1, "stem.kernel_regularizer.l2": L2}
    record_property("relative_error", check(problem, values))


# Precision


def test_a_loss_scale_optimizer_is_unwrapped(record_property: Any) -> None:
    plain, scaled = sequential(), sequential()
    for a, b in zip(plain.variables, scaled.variables, strict=True):
        b.assign(a)
    scaled.compile(keras.optimizers.LossScaleOptimizer(sgd()), "mse", jit_compile=False)
    problem, values = problem_of(scaled)
    record_property("relative_error", check(problem, values))
    other = problem_of(plain)[0]
    expected = hg.Reverse().run(other, other.values(values))
    assert hg.hypergradient(problem, values).loss == expected.loss


@pytest.mark.float32
def test_bfloat16_keeps_states_and_adjoints_in_float32() -> None:
    problems = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        policy_of = keras.DTypePolicy(policy)
        model = keras.Sequential(
            [keras.Input((3,)), penalised(dtype=policy_of), layers.Dense(1)]
        )
        model.compile(sgd(), "mse", jit_compile=False)
        if policy == "float32":
            problems[policy] = problem_of(model)[0]
        else:
            with pytest.warns(UserWarning, match="computes in bfloat16"):
                problems[policy] = problem_of(model)[0]
    single, mixed = (hg.hypergradient(p) for p in problems.values())
    assert single.status.ok and mixed.status.ok
    for leaf in keras.tree.flatten(mixed.info["final_state"]):
        if backend.is_inexact(leaf):
            assert keras.backend.standardize_dtype(leaf.dtype) == "float32"
    assert all(g.dtype == np.float32 for g in mixed.gradient.values())
    assert mixed.loss != single.loss, "else nothing was computed in bfloat16"
    largest = max(abs(g) for g in single.gradient.values())
    for name, expected in single.gradient.items():
        # bfloat16 keeps 8 bits of each number of a step.
        allowed = 0.1 * abs(expected) + 0.02 * largest
        assert abs(mixed.gradient[name] - expected) <= allowed, name
