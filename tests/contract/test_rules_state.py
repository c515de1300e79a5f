"""Rules and the optimizers they came from: state, users' own classes, errors."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from hypergrad import backend
from hypergrad.rules import REGISTRY, SGD, WRAPPERS, AdamW, FromKeras, rule_for
from parity import (
    error,
    make,
    make_gradients,
    make_variables,
    richest,
    snapshot,
    worst_error,
)
from registry import OWN


def test_every_optimizer_of_keras_has_a_rule():
    """A new one in a Keras release shows here."""
    found = {
        cls
        for cls in vars(keras.optimizers).values()
        if inspect.isclass(cls) and issubclass(cls, keras.optimizers.Optimizer)
    }
    assert found == {*REGISTRY, *WRAPPERS, keras.optimizers.Optimizer}


def test_a_loss_scale_optimizer_stands_for_its_inner_one():
    inner = keras.optimizers.SGD(0.5, momentum=0.5)
    wrapped = keras.optimizers.LossScaleOptimizer(inner)
    variables = make_variables()
    wrapped.build(variables)
    rule = rule_for(wrapped, variables)
    assert type(rule) is SGD
    state = rule.read(wrapped)
    state["momentums"] = [m + 1.0 for m in state["momentums"]]
    rule.write(wrapped, state)
    assert np.all(np.asarray(inner.momentums[0].value) == 1.0)


@pytest.mark.parametrize("make_rule", [rule_for, FromKeras.from_optimizer])
@pytest.mark.parametrize("kind", OWN)
def test_state_goes_round_through_the_optimizer(kind, make_rule):
    optimizer, variables = make(kind, (richest(kind), "ema", "accumulation"))
    rule = make_rule(optimizer, variables)
    weights = snapshot(variables)
    fresh = rule.init(weights)
    for a, b in zip(flat(fresh), flat(rule.read(optimizer)), strict=True):
        assert np.array_equal(a, b) and np.asarray(a).dtype == b.dtype
    state = fresh
    for grads in make_gradients(3):
        weights, state = rule.update(grads, state, weights, rule.hyperparameters)
    rule.write(optimizer, state)
    for a, b in zip(flat(state), flat(rule.read(optimizer)), strict=True):
        assert np.array_equal(a, b)
    # init is that of a fresh optimizer, whatever this one has seen
    for a, b in zip(flat(fresh), flat(rule.init(snapshot(variables))), strict=True):
        assert np.array_equal(a, b)


def flat(state: dict) -> list:
    return [np.asarray(leaf) for leaf in keras.tree.flatten(state)]


def test_a_tuned_momentum_of_zero_has_a_slot():
    for cls in (keras.optimizers.SGD, keras.optimizers.RMSprop):
        for make_rule in (rule_for, FromKeras.from_optimizer):
            variables = make_variables()
            optimizer = cls(0.0625)
            optimizer.build(variables)
            rule = make_rule(optimizer, variables, tuned=("momentum",))
            number = backend.convert(0.5, keras.config.floatx())
            hparams = {**rule.hyperparameters, "momentum": number}
            weights, state = snapshot(variables), rule.read(optimizer)

            reference = cls(0.0625, momentum=0.5)
            reference.build(variables)
            for grads in make_gradients():
                weights, state = rule.update(grads, state, weights, hparams)
                reference.apply(grads)
            for a, v in zip(weights, variables):
                assert error(a, v.value) <= 1e-12
            with pytest.raises(ValueError, match="nonzero"):
                rule.write(optimizer, state)


class Heavy(keras.optimizers.Optimizer):
    """A user's optimizer: heavy ball with a power, as the docs of Keras begin one."""

    def __init__(self, learning_rate=0.0625, drag=0.25, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.drag = drag

    def build(self, variables):
        super().build(variables)
        self.speeds = [
            self.add_variable_from_reference(v, name="speed", initializer="ones")
            for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        speed = self.speeds[self._get_variable_index(variable)]
        if self.drag > 0:
            self.assign(speed, speed * (1 - self.drag))
        self.assign_sub(speed, gradient * ops.cast(learning_rate, variable.dtype))
        self.assign_add(variable, speed)

    def get_config(self):
        return {**super().get_config(), "drag": self.drag}


def test_a_users_optimizer():
    optimizer, variables = Heavy(weight_decay=0.0625), make_variables(True)
    optimizer.build(variables)
    optimizer.apply(make_gradients(1)[0])
    before = [np.asarray(v.value) for v in [*optimizer.variables, *variables]]
    attributes = dict(vars(optimizer))

    rule = rule_for(optimizer, variables, tuned={"drag": (0.0, 1.0)})
    assert type(rule) is FromKeras
    assert rule.hyperparameters == {
        "drag": 0.25,
        "learning_rate": 0.0625,
        "weight_decay": 0.0625,
    }
    assert np.all(np.asarray(rule.init(snapshot(variables))["variables"][0]) == 1.0)

    def loss(drag):
        hparams = {**rule.hyperparameters, "drag": drag}
        weights, state = snapshot(variables), rule.read(optimizer)
        for grads in make_gradients(2):
            weights, state = rule.update(grads, state, weights, hparams)
        return sum(ops.sum(ops.sin(w)) for w in weights)

    drag = backend.convert(0.25, "float64")
    slope = (float(loss(drag + 1e-6)) - float(loss(drag - 1e-6))) / 2e-6
    assert abs(float(backend.grad(loss)(drag)) - slope) <= 1e-7 * abs(slope)

    # The user's optimizer is as before.
    assert vars(optimizer) == attributes
    for a, v in zip(before, [*optimizer.variables, *variables]):
        assert np.array_equal(a, np.asarray(v.value))
    assert worst_error(optimizer, variables, rule) <= 1e-12


@pytest.mark.parametrize(
    "arguments",
    [
        {"use_ema": True, "ema_momentum": 0.5},
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        {"gradient_accumulation_steps": 2},
        {
            "gradient_accumulation_steps": 2,
            "use_ema": True,
            "ema_momentum": 0.5,
            "ema_overwrite_frequency": 2,
            "clipnorm": 0.5,
        },
    ],
    ids=["ema", "ema-overwrite", "accumulation", "all"],
)
def test_averages_and_accumulation_of_a_users_optimizer(arguments):
    optimizer, variables = Heavy(weight_decay=0.0625, **arguments), make_variables()
    optimizer.build(variables)
    rule = rule_for(optimizer, variables)
    assert type(rule) is FromKeras
    assert worst_error(optimizer, variables, rule) <= 1e-12


def test_a_subclass_runs_its_own_code():
    class Mine(keras.optimizers.AdamW):
        pass

    optimizer, variables = Mine(), make_variables()
    assert type(rule_for(optimizer, variables)) is FromKeras
    assert type(rule_for(keras.optimizers.AdamW(), variables)) is AdamW


@pytest.mark.parametrize("kind", OWN)
def test_the_optimizer_is_not_touched(kind):
    chosen = (richest(kind), "exclude", "schedule", "constraint", "overwriting")
    optimizer, variables = make(kind, chosen)
    attributes = dict(vars(optimizer))
    cache = dict(optimizer._exclude_from_weight_decay_cache)
    values = [np.asarray(v.value) for v in [*optimizer.variables, *variables]]
    for make_rule in (rule_for, FromKeras.from_optimizer):
        rule = make_rule(optimizer, variables)
        rule.update(
            make_gradients(1)[0],
            rule.read(optimizer),
            snapshot(variables),
            rule.hyperparameters,
        )
    assert vars(optimizer) == attributes
    assert optimizer._exclude_from_weight_decay_cache == cache
    for a, v in zip(values, [*optimizer.variables, *variables]):
        assert np.array_equal(a, np.asarray(v.value))


def test_automatic_names_go_on_as_if_no_rule_had_been_made():
    keras.backend.clear_session()
    before = keras.optimizers.ScheduleFreeAdamW().name
    rule_for(keras.optimizers.ScheduleFreeAdamW(), make_variables())
    after = keras.optimizers.ScheduleFreeAdamW().name
    assert [before, after] == ["schedule_free_adam_w", "schedule_free_adam_w_2"]


@pytest.mark.parametrize("make_rule", [rule_for, FromKeras.from_optimizer])
def test_final_weights_are_what_fit_leaves_in_the_model(make_rule):
    """With ``use_ema`` the averages, which ``fit`` assigns after its last epoch."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.125, use_ema=True, ema_momentum=0.75)
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    rule = make_rule(optimizer, model.trainable_variables)
    x, y = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([[1.0], [0.5]])
    weights, state = snapshot(model.trainable_variables), rule.read(optimizer)

    def loss(weights):
        return ops.mean(ops.square(ops.matmul(x, weights[0]) + weights[1] - y))

    for _ in range(3):
        grads = backend.grad(loss)(weights)
        weights, state = rule.update(grads, state, weights, rule.hyperparameters)
    model.fit(x, y, epochs=3, batch_size=2, shuffle=False, verbose=0)
    for a, v in zip(rule.final_weights(weights, state), model.trainable_variables):
        assert error(a, v.value) <= 1e-12
    assert error(weights[0], model.trainable_variables[0].value) > 1e-3
    plain = make_rule(keras.optimizers.SGD(), model.trainable_variables)
    assert plain.final_weights(weights, {}) is weights


def test_errors():
    variables = make_variables()
    with pytest.raises(TypeError, match="instance of keras.optimizers.Optimizer"):
        rule_for("adam", variables)
    with pytest.raises(ValueError, match="`nesterov` cannot be tuned"):
        rule_for(keras.optimizers.SGD(), variables, tuned=("nesterov",))
    with pytest.raises(ValueError, match="expected it built"):
        rule_for(keras.optimizers.SGD(), variables).read(keras.optimizers.SGD())
    rule = rule_for(keras.optimizers.SGD(), variables)
    with pytest.raises(KeyError, match="no 'learning_rate'"):
        weights = snapshot(variables)
        rule.update(weights, rule.init(weights), weights, {"weight_decay": 0.0})
    several = keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD())
    with pytest.raises(ValueError, match="Compile with one of its optimizers"):
        rule_for(several, variables)
