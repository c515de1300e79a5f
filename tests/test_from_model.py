"""Every kind of model becomes a Problem that trains as `fit` does; E does not move."""

import copy
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops, regularizers

import hypergrad as hg
from against_fit import agrees_with_fit

rng = np.random.default_rng(1)
X = rng.normal(size=(100, 4)).astype("float32")
Y = np.sin(X.sum(axis=1, keepdims=True))
CLASSES = (X[:, 0] > 0).astype("int32") + (X[:, 1] > 0)
ITEMS = rng.integers(0, 5, size=(100, 3))
WEIGHT = rng.uniform(0.25, 2.0, size=100).astype("float32")
LOG = hg.Float(1e-6, 1.0, sampling="log")


def rows(value: Any, number: int = 30) -> Any:
    return keras.tree.map_structure(lambda a: a[-number:], value)


def sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.125, momentum=0.5)


def small_model(loss: Any = "mse", width: int = 1, **compiled: Any) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, activation="tanh", kernel_regularizer=regularizers.L2(0.1)),
            layers.Dense(width),
        ]
    )
    model.compile(sgd(), loss=loss, jit_compile=False, **compiled)
    return model


# Kinds of models, against `fit`


def test_dict_inputs_with_integers_and_several_outputs() -> None:
    def build() -> keras.Model:
        numbers = keras.Input((4,), name="numbers")
        items = keras.Input((3,), dtype="int32", name="items")
        embedded = layers.Flatten()(layers.Embedding(5, 2)(items))
        joined = layers.Concatenate()([numbers, embedded])
        hidden = layers.Dense(3, activation="tanh", activity_regularizer="l2")(joined)
        outputs = {
            "kind": layers.Dense(3, name="kind")(hidden),
            "size": layers.Dense(1, name="size")(hidden),
        }
        model = keras.Model({"numbers": numbers, "items": items}, outputs)
        model.compile(
            sgd(),
            loss={
                "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "size": "mse",
            },
            loss_weights={"kind": 0.5, "size": 2.0},
            metrics={"kind": ["accuracy"]},
            weighted_metrics={"size": ["mae"]},
            jit_compile=False,
        )
        return model

    x = {"numbers": X, "items": ITEMS}
    y = {"kind": CLASSES, "size": Y}
    weight = {"kind": WEIGHT, "size": WEIGHT[::-1].copy()}
    problem = agrees_with_fit(
        build,
        x,
        y,
        sample_weight=weight,
        validation_data=(rows(x), rows(y), rows(weight)),
    )
    # E is the compiled loss with its loss weights, without sample weights.
    tape = hg.Reverse().run(problem, problem.values())
    model = with_weights(problem, tape)
    kind, size = map(np.asarray, model(rows(x)).values())
    cross = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = 0.5 * float(cross(rows(CLASSES), kind))
    expected += 2.0 * float(np.mean((rows(Y) - size) ** 2))
    assert tape.loss == pytest.approx(expected, rel=1e-6)


class Reconstruction(keras.Model):
    """Unbuilt, with an own layer that adds a loss, and an own `compute_loss`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Penalised(2, activation="tanh")
        self.decoder = layers.Dense(4)
        self.share = 0.75

    def call(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        del y, sample_weight, training
        return self.share * ops.mean(ops.square(x - y_pred)) + sum(self.losses)


class Penalised(layers.Dense):
    factor = 0.25

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pressure = 0.25

    def call(self, x: Any) -> Any:
        y = super().call(x)
        self.add_loss(self.pressure * ops.mean(ops.square(y)))
        return y


def reconstruction() -> keras.Model:
    model = Reconstruction()
    model.compile(sgd(), jit_compile=False)
    return model


def test_an_unbuilt_subclass_with_an_own_compute_loss_and_added_losses() -> None:
    assert not reconstruction().built
    agrees_with_fit(reconstruction, X, validation_data=(rows(X), None))


def test_nested_tuples_a_constraint_and_class_weights() -> None:
    def build() -> keras.Model:
        a, b, c = keras.Input((2,)), keras.Input((1,)), keras.Input((1,))
        hidden = layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(0.5))(
            layers.Concatenate()([a, b, c])
        )
        model = keras.Model((a, (b, c)), layers.Dense(3)(hidden))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(sgd(), loss=loss, jit_compile=False)
        return model

    x = (X[:, :2], (X[:, 2:3], X[:, 3:]))
    agrees_with_fit(
        build,
        x,
        CLASSES,
        validation_data=(rows(x), rows(CLASSES)),
        class_weight={0: 3.0, 2: 0.5},
    )


@pytest.mark.slow
def test_masks_through_an_lstm() -> None:
    def build() -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((3,), dtype="int32"),
                layers.Embedding(5, 2, mask_zero=True),
                layers.LSTM(2, return_sequences=True),
                layers.Dense(1),
            ]
        )
        model.compile(sgd(), loss="mse", jit_compile=False)
        return model

    y = np.repeat(Y[:, None], 3, axis=1)
    agrees_with_fit(build, ITEMS, y, validation_data=(rows(ITEMS), rows(y)), epochs=1)


def test_a_plain_function_as_loss_under_a_loss_scale_optimizer() -> None:
    def build() -> keras.Model:
        model = small_model()
        optimizer = keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=8.0)
        loss = lambda y, y_pred: ops.mean(ops.abs(y - y_pred) ** 3, axis=-1)  # noqa: E731
        model.compile(optimizer, loss=loss, jit_compile=False)
        return model

    agrees_with_fit(build, X, Y, validation_data=(rows(X), rows(Y)), epochs=1)


def test_an_added_loss_alone_with_an_objective() -> None:
    def build() -> keras.Model:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(2), Penalised(1)])
        model.compile(sgd(), loss=None, jit_compile=False)
        return model

    def objective(y: Any, y_pred: Any) -> Any:
        return ops.abs(y - y_pred)

    problem = agrees_with_fit(
        build,
        X,
        Y,
        validation_data=(rows(X), rows(Y)),
        objective=objective,
        epochs=1,
    )
    tape = hg.Reverse().run(problem, problem.values())
    predicted = np.asarray(with_weights(problem, tape)(rows(X)))
    assert tape.loss == pytest.approx(np.mean(np.abs(rows(Y) - predicted)), rel=1e-6)


def with_weights(problem: hg.Problem, tape: Any) -> keras.Model:
    model = problem.keras.model
    for variable, value in zip(model.trainable_variables, tape.final.weights):
        variable.assign(value)
    return model


# Batches and splits


def test_validation_split_steps_and_remainders() -> None:
    model = small_model()
    arguments = {"hyperparameters": ["optimizer.learning_rate"], "batch_size": 32}
    split = hg.Problem.from_model(
        model, X, Y, validation_split=0.25, epochs=3, sample_weight=WEIGHT, **arguments
    )
    assert split.num_steps == 9
    assert len(split.data["train"]["x"]) == 75
    np.testing.assert_array_equal(split.data["validation"]["x"], X[75:])
    np.testing.assert_array_equal(
        split.data["validation"]["sample_weight"], WEIGHT[75:]
    )
    whole = hg.Problem.from_model(
        model, X, Y, validation_split=0.25, steps=5, drop_remainder=True, **arguments
    )
    assert whole.num_steps == 5
    assert [len(whole.batch(t)) for t in range(5)] == [32] * 5
    assert sorted(np.concatenate([split.batch(t) for t in range(3)])) == list(range(75))
    again = hg.Problem.from_model(model, X, Y, validation_split=0.25, **arguments)
    other = hg.Problem.from_model(
        model, X, Y, validation_split=0.25, seed=1, **arguments
    )
    np.testing.assert_array_equal(again.batch(1), split.batch(1))
    assert (other.batch(1) != split.batch(1)).any()


# How hyperparameters reach the model


def problem_of(model: keras.Model, hyperparameters: Any, **more: Any) -> hg.Problem:
    arguments: dict[str, Any] = {"steps": 2, "batch_size": 50, "shuffle": False}
    return hg.Problem.from_model(
        model,
        X,
        Y,
        validation_data=(rows(X), rows(Y)),
        hyperparameters=hyperparameters,
        **{**arguments, **more},
    )


def two_penalties() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, kernel_regularizer=regularizers.L2(0.25)),
            layers.Dense(1, kernel_regularizer=regularizers.L2(0.5)),
        ]
    )
    model.compile(sgd(), loss="mse", jit_compile=False)
    return model


def test_patterns_one_value_each_and_own_names_agree() -> None:
    model = two_penalties()
    pattern = "dense*.kernel_regularizer.l2"
    shared = hg.Float(1e-6, 1.0, sampling="log", default=0.25)
    together = problem_of(model, {pattern: shared})
    each = problem_of(model, {pattern: hg.PerTarget(LOG)})
    np.testing.assert_array_equal(each.values()[pattern], [0.25, 0.5])
    own = problem_of(
        model,
        {"strength": hg.Float(0.0, 1.0, default=0.5)},
        bind=lambda hparams: {
            "dense.kernel_regularizer.l2": hparams["strength"] ** 2,
            "dense_1.kernel_regularizer.l2": hparams["strength"] ** 2,
        },
    )
    tape = hg.Reverse().run(together, together.values())
    first = hg.hypergradient(each, {pattern: [0.25, 0.25]})
    second = hg.hypergradient(own)
    assert first.loss == pytest.approx(tape.loss, rel=1e-12)
    assert second.loss == pytest.approx(tape.loss, rel=1e-12)
    assert first.gradient[pattern].all()
    # d(s²)/ds = 2 s = 1 at s = 0.5
    total = float(first.gradient[pattern].sum())
    assert second.gradient["strength"] == pytest.approx(total, rel=1e-9)


def test_a_penalty_of_exactly_zero_is_a_start() -> None:
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1, kernel_regularizer=regularizers.L2(0.0))]
    )
    model.compile(sgd(), loss="mse", jit_compile=False)
    problem = problem_of(model, {"dense.kernel_regularizer.l2": LOG})
    assert problem.values()["dense.kernel_regularizer.l2"] == 0.0


class Scaled(layers.Layer):
    """A user's layer: one number that branches, one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.5
        self.offset = 0.25

    def call(self, x: Any) -> Any:
        return self.factor * x + self.offset if self.factor > 0 else x


def test_numbers_of_a_users_layer_are_settled() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2), Scaled()])
    model.add(layers.Dense(1))
    model.compile(sgd(), loss="mse", jit_compile=False)
    problem = problem_of(
        model, {"scaled.factor": hg.Float(0.5, 2.0), "scaled.offset": hg.Float(-1, 1)}
    )
    forms = {path: t.form for path, t in problem.keras.tuned.targets.items()}
    assert forms == {"scaled.factor": "traced", "scaled.offset": "tensor"}
    assert problem.values()["scaled.factor"] == 1.5


# E, the measuring stick


def run_loss(problem: hg.Problem, values: dict) -> tuple[float, float]:
    """(E, Keras' val_loss) where training itself stands still: a step of 1e-12."""
    tape = hg.Reverse().run(problem, problem.values(values))
    return float(tape.loss), tape.metrics["keras_val_loss"]


def still(model: keras.Model) -> keras.Model:
    model.optimizer.learning_rate.assign(1e-12)
    return model


def test_numbers_inside_the_loss_and_penalties_do_not_move_e() -> None:
    model = still(small_model(keras.losses.Huber(delta=0.5)))
    problem = problem_of(
        model,
        {
            "loss.delta": hg.Float(1e-3, 10.0, sampling="log"),
            "dense.kernel_regularizer.l2": LOG,
        },
        steps=1,
    )
    loss, keras_loss = run_loss(problem, {})
    moved, keras_moved = run_loss(
        problem, {"loss.delta": 0.1, "dense.kernel_regularizer.l2": 0.5}
    )
    assert moved == pytest.approx(loss, rel=1e-9)
    assert abs(keras_moved - keras_loss) > 1e-3
    evaluated = model.evaluate(rows(X), rows(Y), verbose=0)
    assert keras_loss == pytest.approx(evaluated, rel=1e-6)


def test_numbers_of_layers_move_e() -> None:
    model = keras.Sequential(
        [keras.Input((4,)), layers.Rescaling(2.0), layers.Dense(1)]
    )
    model.compile(sgd(), loss="mse", jit_compile=False)
    problem = problem_of(still(model), {"rescaling.scale": LOG.__class__(0.1, 10.0)})
    first, _ = run_loss(problem, {})
    second, _ = run_loss(problem, {"rescaling.scale": 1.0})
    assert abs(first - second) > 1e-3


def test_an_own_loss_is_measured_at_its_compiled_numbers() -> None:
    model = still(reconstruction())
    problem = hg.Problem.from_model(
        model,
        X,
        validation_data=(rows(X),),
        steps=1,
        batch_size=50,
        hyperparameters={
            "model.share": hg.Float(0.1, 1.0),
            "penalised.pressure": hg.Float(0.0, 1.0),
        },
    )
    loss, keras_loss = run_loss(problem, {})
    assert loss == pytest.approx(keras_loss, rel=1e-9)
    moved, keras_moved = run_loss(problem, {"model.share": 0.5})
    assert moved == pytest.approx(loss, rel=1e-9)
    assert abs(keras_moved - keras_loss) > 1e-3


def test_validation_in_chunks_is_the_mean_over_all_rows(monkeypatch: Any) -> None:
    import hypergrad.parts as room

    model = small_model(metrics=["mae"])
    whole = problem_of(model, ["optimizer.learning_rate"])
    monkeypatch.setattr(room, "VALIDATION_ROWS", 13)
    parts = problem_of(model, ["optimizer.learning_rate"])
    assert [len(chunk) for _, chunk in parts.validation_chunks] == [10, 10, 10]
    a, b = (hg.Reverse().run(p, p.values()) for p in (whole, parts))
    assert a.loss == pytest.approx(b.loss, rel=1e-12)
    assert a.metrics == pytest.approx(b.metrics, rel=1e-6)


def test_a_sum_over_rows_is_measured_in_one_piece(monkeypatch: Any) -> None:
    import hypergrad.parts as room

    monkeypatch.setattr(room, "VALIDATION_ROWS", 13)
    model = small_model(keras.losses.MeanSquaredError(reduction="sum"))
    problem = problem_of(model, ["optimizer.learning_rate"])
    assert [len(chunk) for _, chunk in problem.validation_chunks] == [30]


def masked(loss: Any = "mse") -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            layers.Embedding(5, 2, mask_zero=True),
            layers.Dense(1),
        ]
    )
    model.compile(sgd(), loss=loss, jit_compile=False)
    return model


@pytest.mark.parametrize("kind", ["objective", "dice", "own function", "mask"])
def test_e_does_not_depend_on_the_rows_of_a_chunk(kind: str, monkeypatch: Any) -> None:
    """What is no mean over rows is measured over all rows at once."""
    import hypergrad.parts as room

    x: Any = X
    y, more = np.abs(Y) + np.arange(100)[:, None], {}
    if kind == "mask":
        x, y, model = ITEMS.copy(), np.repeat(y[:, None], 3, axis=1), masked()
        x[:90, 1:] = 0
    elif kind == "dice":
        model = small_model(keras.losses.Dice())
    elif kind == "own function":
        model = small_model(lambda y, y_pred: ops.sqrt(ops.mean((y - y_pred) ** 2)))
    else:
        model = small_model()
        more = {"objective": lambda y, p: ops.sqrt(ops.mean((y - p) ** 2))}
    monkeypatch.setattr(room, "VALIDATION_ROWS", 13)
    problem = hg.Problem.from_model(
        still(model),
        x,
        y,
        validation_data=(rows(x), rows(y)),
        steps=1,
        hyperparameters=["optimizer.learning_rate"],
        **more,
    )
    assert [len(chunk) for _, chunk in problem.validation_chunks] == [30]
    if kind != "objective":
        loss, _ = run_loss(problem, {})
        evaluated = model.evaluate(rows(x), rows(y), batch_size=30, verbose=0)
        penalty = float(sum(model.losses)) if model.losses else 0.0
        assert loss == pytest.approx(evaluated - penalty, rel=1e-6)
    whole = problem.validation.over(7)
    assert whole.weights == (1.0,)


def test_the_validation_loss_of_a_problem_is_e() -> None:
    problem = problem_of(small_model(), ["optimizer.learning_rate"])
    tape = hg.Reverse().run(problem, problem.values())
    whole = problem.val_loss(tape.final, tape.bound.shared, problem.data)
    assert float(whole) == pytest.approx(tape.loss, rel=1e-12)


def test_test_data_of_a_model_with_an_objective_only() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2), Penalised(1)])
    model.compile(sgd(), loss=None, jit_compile=False)
    problem = problem_of(
        model,
        ["optimizer.learning_rate"],
        objective=lambda y, y_pred: ops.abs(y - y_pred),
    )
    result = hg.search(
        problem, budget=1, verbose=0, test_data=(rows(X, 20), rows(Y, 20))
    )
    assert np.isfinite(result.test["start"]["loss"])


# Purity


def everything(model: keras.Model) -> list[np.ndarray]:
    held = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(v.value, copy=True) for v in held]


def attributes(model: keras.Model) -> dict:
    dense = model.layers[0]
    return copy.copy(vars(dense.kernel_regularizer))


def test_the_model_is_bit_for_bit_unchanged() -> None:
    model = small_model(metrics=["mae"])
    model.fit(X, Y, epochs=1, batch_size=50, verbose=0)
    before, numbers = everything(model), attributes(model)
    filtering = keras.config.is_traceback_filtering_enabled()
    rate = "optimizer.learning_rate"
    problem = problem_of(
        model,
        {rate: hg.Float(1e-3, 1e60), "dense.kernel_regularizer.l2": LOG},
        steps=8,
    )
    hg.hypergradient(problem)
    same(before, numbers, model)
    with pytest.raises(hg.NonFiniteError):
        hg.hypergradient(problem, {rate: 1e50}, raise_on_failure=True)
    same(before, numbers, model)
    assert keras.config.is_traceback_filtering_enabled() == filtering


def same(before: list, numbers: dict, model: keras.Model) -> None:
    for a, b in zip(before, everything(model), strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
    assert attributes(model) == numbers
