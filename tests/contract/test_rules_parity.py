"""One update of a rule is one ``optimizer.apply`` of Keras, option by option.

Values are ones that float32 holds exactly: Keras on TensorFlow rounds some Python
floats through float32, and on that backend nothing else could agree to 1e-12.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from hypergrad import backend
from hypergrad.rules import SGD, AdamW, FromKeras, rule_for
from hypergrad.traced import Traced

STEPS = 4
SHAPES = ((3, 2), (2,), (2, 2))
NAMES = ("kernel", "bias", "kernel")
CLIPS = {"clipnorm": 0.5, "global_clipnorm": 1.0, "clipvalue": 0.25}
SHARED = {
    "weight_decay": {"weight_decay": 0.0625},
    "exclude": {"weight_decay": 0.0625},  # and see `make`
    "schedule": {},
    "constraint": {},
    **{name: {name: value} for name, value in CLIPS.items()},
}
OPTIMIZERS = {
    "SGD": (
        keras.optimizers.SGD,
        {},
        {"momentum": {"momentum": 0.75}, "nesterov": {"nesterov": True}},
    ),
    "RMSprop": (
        keras.optimizers.RMSprop,
        {"rho": 0.875, "epsilon": 2.0**-10},
        {"momentum": {"momentum": 0.75}, "centered": {"centered": True}},
    ),
    "Adam": (
        keras.optimizers.Adam,
        {"beta_1": 0.875, "beta_2": 0.96875, "epsilon": 2.0**-10},
        {"amsgrad": {"amsgrad": True}},
    ),
    "AdamW": (
        keras.optimizers.AdamW,
        {
            "beta_1": 0.875,
            "beta_2": 0.96875,
            "epsilon": 2.0**-10,
            "weight_decay": 0.03125,
        },
        {"amsgrad": {"amsgrad": True}},
    ),
}


def combinations(kind: str) -> list[tuple[str, ...]]:
    """No option, each alone, all pairs, all together (with each of the clippings)."""
    options = [*OPTIMIZERS[kind][2], *SHARED]
    pairs = [
        p for p in itertools.combinations(options, 2) if len(set(p) & {*CLIPS}) < 2
    ]
    rest = [o for o in options if o not in CLIPS]
    together = [(*rest, clip) for clip in CLIPS]
    return [(), *((o,) for o in options), *pairs, *together]


CASES = [(kind, chosen) for kind in OPTIMIZERS for chosen in combinations(kind)]
ALL_TOGETHER = [case for case in CASES if len(case[1]) > 2]


def make(kind: str, chosen: tuple[str, ...]):
    """(optimizer, variables) with these options, built."""
    cls, arguments, own = OPTIMIZERS[kind]
    arguments = dict(arguments)
    for option in chosen:
        arguments.update({**own, **SHARED}[option])
    rate: object = 0.0625
    if "schedule" in chosen:
        rate = keras.optimizers.schedules.ExponentialDecay(0.0625, 2, 0.5)
    optimizer = cls(learning_rate=rate, **arguments)
    variables = make_variables("constraint" in chosen)
    if "exclude" in chosen:
        optimizer.exclude_from_weight_decay(var_list=variables[:1], var_names=["bias"])
    optimizer.build(variables)
    return optimizer, variables


def make_variables(constrained: bool = False) -> list[keras.Variable]:
    draw = np.random.default_rng(1)
    variables = [
        keras.Variable(draw.normal(size=shape), name=name)
        for shape, name in zip(SHAPES, NAMES)
    ]
    if constrained:
        variables[0].constraint = keras.constraints.MaxNorm(0.75)
        variables[1].constraint = keras.constraints.NonNeg()
        variables[2].constraint = keras.constraints.MinMaxNorm(0.5, 1.0, rate=0.5)
    return variables


def make_gradients(steps: int = STEPS) -> list[list]:
    draw = np.random.default_rng(2)
    steps_of_grads = []
    for step in range(steps):
        grads = [draw.normal(size=shape) / 2 for shape in SHAPES]
        grads[0][0, 0] = 0.0  # a weight that never has a gradient
        if step == 1:
            grads[1][:] = 0.0
        dtype = keras.config.floatx()
        steps_of_grads.append([backend.convert(g, dtype) for g in grads])
    return steps_of_grads


def snapshot(variables: list) -> list:
    return [backend.snapshot(v) for v in variables]


def error(a, b) -> float:
    """Largest difference, relative to the largest entry; both sides finite."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    # Python's max() would drop a NaN, and with it the failure.
    assert np.all(np.isfinite(a)) and np.all(np.isfinite(b))
    return float(np.max(np.abs(a - b), initial=0) / max(np.max(np.abs(b)), 1e-3))


def worst_error(optimizer, variables, rule, update=None) -> float:
    """Steps with the rule, then with Keras; compares weights and slots each step."""
    weights, state = snapshot(variables), rule.read(optimizer)
    worst = 0.0
    for grads in make_gradients():
        weights, state = (update or rule.update)(
            grads, state, weights, rule.hyperparameters
        )
        optimizer.apply(grads)
        expected_state = rule.read(optimizer)
        assert set(state) == set(expected_state)
        assert int(state["iterations"]) == int(expected_state["iterations"])
        pairs = [(weights, [v.value for v in variables])]
        pairs += [(state[k], expected_state[k]) for k in state if k != "iterations"]
        for ours, theirs in pairs:
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs):
                worst = max(worst, error(a, b))
    return worst


def check(kind: str, chosen: tuple[str, ...], tolerance: float) -> None:
    optimizer, variables = make(kind, chosen)
    rule = rule_for(optimizer, variables)
    assert type(rule).__name__ == kind
    assert worst_error(optimizer, variables, rule) <= tolerance

    optimizer, variables = make(kind, chosen)
    rule = FromKeras.from_optimizer(optimizer, variables)
    assert worst_error(optimizer, variables, rule) <= tolerance


def changed(rule, new_hparams=None, new_weights=None):
    """The rule's update with other numbers, or with its weights changed."""

    def update(grads, state, weights, hparams):
        weights, state = rule.update(
            grads, state, weights, {**hparams, **(new_hparams or {})}
        )
        return [(new_weights or (lambda w: w))(w) for w in weights], state

    return update


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_measure_sees_a_wrong_number(kind):
    own = tuple(OPTIMIZERS[kind][2])
    chosen = (*own, "weight_decay", "clipnorm")
    for name in rule_for(*make(kind, chosen)).hyperparameters:
        optimizer, variables = make(kind, chosen)
        rule = rule_for(optimizer, variables)
        wrong = {name: rule.hyperparameters[name] * (1 + 1e-6)}
        assert worst_error(optimizer, variables, rule, changed(rule, wrong)) > 1e-10


def test_the_measure_sees_nan():
    optimizer, variables = make("Adam", ())
    rule = rule_for(optimizer, variables)
    with pytest.raises(AssertionError):
        worst_error(
            optimizer,
            variables,
            rule,
            changed(rule, new_weights=lambda w: w * float("nan")),
        )


def identify(value) -> str:
    return value if isinstance(value, str) else "+".join(value) or "plain"


@pytest.mark.parametrize(("kind", "chosen"), CASES, ids=identify)
def test_parity_in_float64(kind, chosen):
    check(kind, chosen, 1e-12)


@pytest.mark.float32
@pytest.mark.parametrize(("kind", "chosen"), CASES, ids=identify)
def test_parity_in_float32(kind, chosen):
    check(kind, chosen, 1e-6)


@pytest.mark.parametrize(("kind", "chosen"), ALL_TOGETHER, ids=identify)
def test_parity_compiled_and_with_tensors_as_numbers(kind, chosen):
    """Every number an argument: what a tuned run does."""
    for make_rule in (rule_for, FromKeras.from_optimizer):
        optimizer, variables = make(kind, chosen)
        rule = make_rule(optimizer, variables, tuned=tuple(_tunable(optimizer)))
        jitted = backend.jit(rule.update)

        def update(grads, state, weights, hparams, jitted=jitted):
            dtype = keras.config.floatx()
            tensors = {k: backend.convert(v, dtype) for k, v in hparams.items()}
            return jitted(grads, state, weights, tensors)

        assert worst_error(optimizer, variables, rule, update) <= 1e-12
        assert jitted.traces == 1


def _tunable(optimizer) -> list[str]:
    return list(rule_for(optimizer, make_variables()).hyperparameters)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_traced_numbers_are_numbers_of_a_rule(kind):
    own = tuple(OPTIMIZERS[kind][2])
    optimizer, variables = make(kind, (*own, "weight_decay", "clipvalue"))
    for make_rule in (rule_for, FromKeras.from_optimizer):
        rule = make_rule(optimizer, variables)
        grads, weights = make_gradients(1)[0], snapshot(variables)
        traced = {
            name: Traced(backend.convert(value), low=0.0, high=np.inf, name=name)
            for name, value in rule.hyperparameters.items()
        }
        plain, _ = rule.update(grads, rule.init(weights), weights, rule.hyperparameters)
        ours, _ = rule.update(grads, rule.init(weights), weights, traced)
        for a, b in zip(ours, plain):
            assert error(a, b) <= 1e-12


def test_a_missing_gradient_leaves_its_variable_alone():
    for kind in OPTIMIZERS:
        for make_rule in (rule_for, FromKeras.from_optimizer):
            optimizer, variables = make(kind, ("weight_decay", "global_clipnorm"))
            rule = make_rule(optimizer, variables)
            grads = [make_gradients(1)[0][0], None, make_gradients(1)[0][2]]
            weights, state = snapshot(variables), rule.init(snapshot(variables))
            with pytest.warns(UserWarning, match="Gradients do not exist"):
                optimizer.apply(grads)
                weights, state = rule.update(
                    grads, state, weights, rule.hyperparameters
                )
            for a, v in zip(weights, variables):
                assert error(a, v.value) <= 1e-12


def test_loss_scale_cancels():
    """Keras divides scaled gradients by the factor; a rule takes unscaled ones."""
    for make_rule in (rule_for, FromKeras.from_optimizer):
        optimizer = keras.optimizers.Adam(
            0.0625, beta_1=0.875, beta_2=0.96875, loss_scale_factor=1024.0
        )
        variables = make_variables()
        optimizer.build(variables)
        rule = make_rule(optimizer, variables)
        weights, state = snapshot(variables), rule.read(optimizer)
        for grads in make_gradients():
            weights, state = rule.update(grads, state, weights, rule.hyperparameters)
            optimizer.apply([1024.0 * g for g in grads])
        for a, v in zip(weights, variables):
            assert error(a, v.value) <= 1e-12


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


def test_state_goes_round_through_the_optimizer():
    for kind in OPTIMIZERS:
        for make_rule in (rule_for, FromKeras.from_optimizer):
            optimizer, variables = make(kind, ())
            rule = make_rule(optimizer, variables)
            weights = snapshot(variables)
            fresh = rule.init(weights)
            for a, b in zip(_flat(fresh), _flat(rule.read(optimizer))):
                assert np.array_equal(a, b) and np.asarray(a).dtype == b.dtype
            state = fresh
            for grads in make_gradients(2):
                weights, state = rule.update(
                    grads, state, weights, rule.hyperparameters
                )
            rule.write(optimizer, state)
            for a, b in zip(_flat(state), _flat(rule.read(optimizer))):
                assert np.array_equal(a, b)
            # init is that of a fresh optimizer, whatever this one has seen
            for a, b in zip(_flat(fresh), _flat(rule.init(weights))):
                assert np.array_equal(a, b)


def _flat(state: dict) -> list:
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
            "weight_decay": 0.0625,
        },
    ],
    ids=["ema", "ema-overwrite", "accumulation", "all"],
)
def test_averages_and_accumulation_run_keras_own_code(arguments):
    optimizer = keras.optimizers.Adam(
        0.0625, beta_1=0.875, beta_2=0.96875, epsilon=2.0**-10, **arguments
    )
    variables = make_variables()
    optimizer.build(variables)
    rule = rule_for(optimizer, variables)
    assert type(rule) is FromKeras
    assert worst_error(optimizer, variables, rule) <= 1e-12


OTHERS = {
    "Nadam": lambda: keras.optimizers.Nadam(0.0625, beta_1=0.875, beta_2=0.96875),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.0625),
    "Adadelta": lambda: keras.optimizers.Adadelta(0.5, rho=0.875),
    "Adamax": lambda: keras.optimizers.Adamax(0.0625, beta_1=0.875, beta_2=0.96875),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.0625, beta=0.5),
    "Lion": lambda: keras.optimizers.Lion(0.0625, beta_1=0.875, beta_2=0.96875),
    "Lamb": lambda: keras.optimizers.Lamb(0.0625, beta_1=0.875, beta_2=0.96875),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_keras_optimizers_run_their_own_code(name):
    optimizer, variables = OTHERS[name](), make_variables()
    optimizer.build(variables)
    rule = rule_for(optimizer, variables)
    assert type(rule) is FromKeras
    assert worst_error(optimizer, variables, rule) <= 1e-12


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


def test_a_subclass_runs_its_own_code():
    class Mine(keras.optimizers.AdamW):
        pass

    optimizer, variables = Mine(), make_variables()
    assert type(rule_for(optimizer, variables)) is FromKeras
    assert type(rule_for(keras.optimizers.AdamW(), variables)) is AdamW


def test_the_optimizer_is_not_touched():
    for kind in OPTIMIZERS:
        optimizer, variables = make(kind, ("exclude", "schedule", "constraint"))
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
