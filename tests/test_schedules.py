"""Numbers that change from step to step: knots, schedules of Keras, one a variable."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.optimizers import schedules

import hypergrad as hg
from finite_differences import of_problem
from hypergrad.backend.contract import Traces
from hypergrad.space import pull_to_knots, spread_over_steps

STEPS = 5
RATE = "optimizer.learning_rate"
KINDS = ("linear", "constant", "cosine")


def problem_of(
    hyperparameters: Any, optimizer: Any = None, body: Any = (), **options: Any
) -> hg.Problem:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 1))
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, "tanh"), *body, layers.Dense(1)]
    )
    optimizer = (
        keras.optimizers.SGD(0.1, momentum=0.5) if optimizer is None else (optimizer)
    )
    model.compile(optimizer, "mse")
    return hg.Problem.from_model(
        model,
        x[:8],
        y[:8],
        validation_data=(x[8:], y[8:]),
        batch_size=4,
        hyperparameters=hyperparameters,
        **{"steps": STEPS, **options},
    )


def agrees(problem: hg.Problem, values: Any, record_property: Callable) -> None:
    """The hypergradient against step-halved differences."""
    h = hg.hypergradient(problem, values)
    assert h.status.ok
    expected = of_problem(lambda v: _loss(problem, v), problem.values(values))
    worst = 0.0
    for name, differences in expected.items():
        gradient = np.asarray(h.gradient[name])
        for index in np.ndindex(gradient.shape):
            ours = gradient[index]
            difference = differences[index] if index else differences
            limit = 1e-6 * abs(difference.value) + 3 * difference.error + 1e-12
            assert abs(ours - difference.value) <= limit, (name, ours, difference)
            size = max(abs(difference.value), 1e-6)
            worst = max(worst, abs(ours - difference.value) / size)
    record_property("relative_error", float(worst))


def _loss(problem: hg.Problem, values: Any) -> float:
    method = hg.Reverse()
    return float(method.run(problem, problem.values(values)).loss)


# Curves


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("knots", "steps"), [(1, 4), (3, 3), (4, 9), (2, 1), (5, 1000)]
)
def test_knots_and_their_transpose(kind, knots, steps):
    rng = np.random.default_rng(1)
    v = rng.normal(size=(knots, 2))
    rows = spread_over_steps(v, steps, kind)
    g = rng.normal(size=rows.shape)
    assert rows.shape == (steps, 2)
    assert np.sum(rows * g) == pytest.approx(np.sum(v * pull_to_knots(g, knots, kind)))
    assert np.all(rows <= v.max(0)) and np.all(rows >= v.min(0))
    np.testing.assert_array_equal(rows[0], v[0])
    if steps > 1:
        np.testing.assert_array_equal(rows[-1], v[-1])
    if knots == steps:
        np.testing.assert_array_equal(rows, v)


def test_curves_by_hand():
    v = np.array([0.0, 1.0, 0.0])
    linear = spread_over_steps(v, 5, "linear")
    np.testing.assert_allclose(linear, [0, 0.5, 1, 0.5, 0])
    np.testing.assert_allclose(spread_over_steps(v, 6, "constant"), [0, 0, 1, 1, 0, 0])
    cosine = spread_over_steps(v, 9, "cosine")
    np.testing.assert_allclose(cosine[1], 0.5 - 0.5 * np.cos(np.pi / 4))


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_of_the_learning_rate_and_momentum(kind, record_property):
    problem = problem_of(
        {
            RATE: hg.Schedule(
                hg.Float(1e-3, 1.0, sampling="log"), knots=3, interpolation=kind
            ),
            "optimizer.momentum": hg.Schedule(hg.Float(0.0, 0.99), knots=2),
        }
    )
    values = {RATE: np.array([0.2, 0.05, 0.1]), "optimizer.momentum": [0.3, 0.7]}
    assert problem.space[RATE].shape == (3,)
    np.testing.assert_array_equal(problem.values()[RATE], [0.1] * 3)
    agrees(problem, values, record_property)


def test_constant_knots_equal_the_plain_number():
    scheduled = problem_of({RATE: hg.Schedule(hg.Float(1e-3, 1.0), knots=4)})
    plain = problem_of({RATE: hg.Float(1e-3, 1.0)})
    a, b = hg.hypergradient(scheduled), hg.hypergradient(plain)
    assert a.loss == pytest.approx(b.loss, rel=1e-13)
    assert a.gradient[RATE].sum() == pytest.approx(float(b.gradient[RATE]), rel=1e-10)


def test_a_scheduled_number_of_a_layer_reaches_e_at_its_last_value(record_property):
    body = [layers.LeakyReLU(0.3)]
    name = "leaky_re_lu.negative_slope"
    problem = problem_of(
        {name: hg.Schedule(hg.Float(0.0, 1.0), knots=STEPS)}, body=body
    )
    values = {name: np.linspace(0.2, 0.6, STEPS)}
    agrees(problem, values, record_property)
    held = problem_of({name: hg.Float(0.0, 1.0)}, body=[layers.LeakyReLU(0.6)])
    tape = hg.Reverse().run(problem, problem.values(values))
    from hypergrad import unroll
    from hypergrad.bound import bind_values

    bound = bind_values(held, held.values())
    assert float(tape.loss) == float(unroll.validate(held, tape.final, bound)[0])


def test_a_schedule_for_each_target_of_a_pattern(record_property):
    name = "gaussian_noise*.stddev"
    problem = problem_of(
        {name: hg.Schedule(hg.PerTarget(hg.Float(1e-3, 1.0)), knots=2)},
        body=[layers.GaussianNoise(0.1), layers.Dense(2), layers.GaussianNoise(0.2)],
    )
    assert problem.space[name].shape == (2, 2)
    np.testing.assert_array_equal(problem.values()[name], [[0.1, 0.2]] * 2)
    agrees(problem, {name: [[0.1, 0.3], [0.2, 0.05]]}, record_property)


def test_a_schedule_of_one_number_for_each_variable(record_property):
    nest = hg.Schedule(hg.PerVariable(hg.Float(1e-3, 1.0, sampling="log")), knots=2)
    problem = problem_of({RATE: nest})
    assert problem.space[RATE].shape == (2, 4)
    assert problem_of({RATE: hg.PerVariable(hg.Schedule(nest.each.each, knots=2))})
    values = {RATE: np.linspace(0.05, 0.3, 8).reshape(2, 4)}
    agrees(problem, values, record_property)


def test_one_number_for_each_variable_sums_to_the_shared_one():
    each = problem_of({RATE: hg.PerVariable(hg.Float(1e-3, 1.0))})
    plain = problem_of({RATE: hg.Float(1e-3, 1.0)})
    a, b = hg.hypergradient(each), hg.hypergradient(plain)
    assert a.gradient[RATE].shape == (4,)
    assert a.gradient[RATE].sum() == pytest.approx(float(b.gradient[RATE]), rel=1e-10)


def test_a_bind_of_the_users_returns_knots(record_property):
    space = {"peak": hg.Float(1e-3, 1.0, default=0.2)}

    def bind(hparams):
        curve = ops.stack([hparams["peak"] * 0.1, hparams["peak"], hparams["peak"] / 2])
        return {RATE: hg.PerStep(curve, "cosine")}

    agrees(problem_of(space, bind=bind), None, record_property)


def test_a_problem_of_functions_with_a_schedule(record_property):
    problem = hg.Problem(
        init=lambda hparams: {"w": ops.ones(3)},
        step=lambda s, hparams, t: (
            {"w": s["w"] - hparams["rate"] * s["w"] * ops.sin(s["w"])},
            {},
        ),
        val_loss=lambda s, hparams: ops.sum(s["w"] ** 2) + hparams["rate"],
        num_steps=4,
        space={"rate": hg.Schedule(hg.Float(0.0, 1.0, default=0.3), knots=3)},
    )
    agrees(problem, {"rate": [0.1, 0.4, 0.2]}, record_property)


def test_another_length_compiles_nothing_and_stretches_the_curve(record_property):
    problem = problem_of({RATE: hg.Schedule(hg.Float(1e-3, 1.0), knots=3)})
    values = {RATE: [0.1, 0.3, 0.2]}
    hg.hypergradient(problem, values)
    before = Traces.total
    longer = problem.replace(num_steps=9)
    hg.hypergradient(longer, values)
    assert Traces.total == before
    agrees(longer, values, record_property)


# Schedules of Keras

OFTEN = ("ExponentialDecay", "CosineDecay", "PiecewiseConstantDecay")
"""Schedules whose numbers are tested in every run."""

WITH_NUMBERS = {
    "ExponentialDecay": (
        lambda: schedules.ExponentialDecay(0.2, 3, 0.7),
        ["initial_learning_rate", "decay_steps", "decay_rate"],
    ),
    "ExponentialDecay-staircase": (
        lambda: schedules.ExponentialDecay(0.2, 2, 0.7, staircase=True),
        ["initial_learning_rate", "decay_rate"],
    ),
    "InverseTimeDecay": (
        lambda: schedules.InverseTimeDecay(0.2, 3, 0.5),
        ["initial_learning_rate", "decay_steps", "decay_rate"],
    ),
    "PolynomialDecay": (
        lambda: schedules.PolynomialDecay(0.2, 3.5, 0.01, power=0.5),
        ["initial_learning_rate", "decay_steps", "end_learning_rate", "power"],
    ),
    "PolynomialDecay-cycle": (
        lambda: schedules.PolynomialDecay(0.2, 2, 0.01, power=1.5, cycle=True),
        ["initial_learning_rate", "end_learning_rate", "power"],
    ),
    "CosineDecay": (
        lambda: schedules.CosineDecay(0.2, 6, alpha=0.1),
        ["initial_learning_rate", "decay_steps", "alpha"],
    ),
    "CosineDecay-warmup": (
        lambda: schedules.CosineDecay(
            0.02, 6, alpha=0.1, warmup_target=0.2, warmup_steps=2.5
        ),
        ["initial_learning_rate", "decay_steps", "warmup_target", "warmup_steps"],
    ),
    "CosineDecayRestarts": (
        lambda: schedules.CosineDecayRestarts(0.2, 2, t_mul=1.5, m_mul=0.8, alpha=0.1),
        ["initial_learning_rate", "m_mul", "alpha"],
    ),
    "PiecewiseConstantDecay": (
        lambda: schedules.PiecewiseConstantDecay([1, 3], [0.2, 0.1, 0.05]),
        ["values"],
    ),
}


def test_every_schedule_of_keras_is_here():
    public = {
        name
        for name, held in vars(schedules).items()
        if isinstance(held, type) and name != "LearningRateSchedule"
    }
    assert public == {name.partition("-")[0] for name in WITH_NUMBERS}


@pytest.mark.parametrize(
    "case",
    [
        name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow)
        for name in WITH_NUMBERS
    ],
)
def test_the_numbers_of_a_schedule(case, record_property):
    make, names = WITH_NUMBERS[case]
    free = {f"{RATE}.{name}": hg.Float() for name in names}
    problem = problem_of(free, keras.optimizers.SGD(make()))
    # As arguments, and as Keras' own code: Keras computes schedules in float32 there.
    plain = problem_of(
        {"optimizer.weight_decay": hg.Float(0.0, 1.0, default=0.0)},
        keras.optimizers.SGD(make()),
    )
    assert _loss(problem, None) == pytest.approx(_loss(plain, None), rel=1e-6)
    agrees(problem, None, record_property)


def test_a_users_optimizer_with_a_schedule(record_property):
    class Own(keras.optimizers.SGD):
        pass

    names = [f"{RATE}.alpha", "optimizer.momentum"]
    problem = problem_of(
        {name: hg.Float(0.0, 0.9) for name in names},
        Own(WITH_NUMBERS["CosineDecay-warmup"][0](), momentum=0.3),
    )
    agrees(problem, None, record_property)


class Sawtooth(schedules.LearningRateSchedule):
    """As a user writes one: Python questions about its own numbers."""

    def __init__(self, low, high, period=4.0):
        self.low = low
        self.high = high
        self._period = period

    def __call__(self, step):
        if self.low == 0.0:
            return self.high
        phase = ops.cast(step, keras.config.floatx()) / self._period
        return self.low + (self.high - self.low) * (phase - ops.floor(phase))


def test_the_numbers_of_a_users_schedule(record_property):
    names = [f"{RATE}.low", f"{RATE}.high"]
    problem = problem_of(
        {name: hg.Float(0.001, 1.0) for name in names},
        keras.optimizers.Adam(Sawtooth(0.02, 0.1)),
    )
    agrees(problem, None, record_property)


# Errors


def refused(words: list[str], make: Callable) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    for word in words:
        assert word in str(error.value)


def test_more_knots_than_steps():
    problem = hg.Schedule(hg.Float(1e-3, 1.0), knots=STEPS + 1)
    words = [f"{RATE!r}", f"steps, {STEPS}", f"{STEPS + 1} knots", "fewer knots"]
    refused(words, lambda: problem_of({RATE: problem}))


def test_nests_without_a_meaning():
    each = hg.Float(0.0, 1.0)
    once = hg.Schedule(each, knots=2)
    refused(["at most one Schedule"], lambda: hg.Schedule(once, knots=3))
    refused(["PerTarget or"], lambda: hg.PerTarget(hg.PerVariable(each)))
    refused(["Received: 3", "PerVariable(Float("], lambda: hg.PerVariable(3))
    refused(["knots", "at least 1"], lambda: hg.Schedule(each, knots=0))
    refused(["knots", "integer"], lambda: hg.Schedule(each, knots=2.0))
    words = ["interpolation", "'linear', 'constant', 'cosine'", "'cubic'"]
    refused(words, lambda: hg.Schedule(each, knots=2, interpolation="cubic"))


def test_one_number_for_each_variable_belongs_to_the_optimizer():
    name = "gaussian_noise.stddev"
    body = [layers.GaussianNoise(0.1)]
    nest = hg.PerVariable(hg.Float(0.01, 1.0))
    words = [name, "number of the optimizer", "hg.PerTarget"]
    refused(words, lambda: problem_of({name: nest}, body=body))
    path = f"{RATE}.alpha"
    decay = keras.optimizers.SGD(schedules.CosineDecay(0.2, 6, alpha=0.1))
    words = [path, "belongs to a schedule", "hg.Schedule(hg.PerVariable"]
    refused(words, lambda: problem_of({path: nest}, decay))


def test_numbers_of_a_schedule_that_make_it_jump():
    def staircase():
        return keras.optimizers.SGD(WITH_NUMBERS["ExponentialDecay-staircase"][0]())

    path = f"{RATE}.decay_steps"
    words = [path, "jumps", "tuner"]
    refused(words, lambda: problem_of({path: hg.Float(1.0, 5.0)}, staircase()))
    words = ["it is a schedule (ExponentialDecay)", f"{RATE}.<name>"]
    refused(words, lambda: problem_of({RATE: hg.Float(0.1, 5.0)}, staircase()))


# The tuned model


@pytest.mark.parametrize("case", ["CosineDecay", "PiecewiseConstantDecay"])
def test_the_tuned_model_holds_the_numbers_of_its_schedule(case):
    make, names = WITH_NUMBERS[case]
    schedule = make()
    space = {f"{RATE}.{name}": hg.Float(1e-3, 10.0) for name in names}
    problem = problem_of(space, keras.optimizers.SGD(schedule))
    before = {name: getattr(schedule, name) for name in names}
    result = hg.tune(problem, outer_steps=1, verbose=0)
    tuned = result.model.optimizer._learning_rate
    assert type(tuned) is type(schedule) and tuned is not schedule
    for name in names:
        expected = result.values[f"{RATE}.{name}"]
        np.testing.assert_allclose(getattr(tuned, name), expected)
        assert getattr(schedule, name) == before[name]


def test_the_tuned_model_holds_the_last_value_of_a_curve():
    nest = hg.Schedule(hg.Float(1e-3, 1.0, sampling="log"), knots=3)
    each = hg.PerVariable(hg.Float(0.0, 0.9))
    problem = problem_of({RATE: nest, "optimizer.momentum": each})
    result = hg.tune(problem, outer_steps=1, verbose=0)
    assert result.values[RATE].shape == (3,)
    optimizer = result.model.optimizer
    rate = ops.convert_to_numpy(optimizer.learning_rate.value)
    np.testing.assert_allclose(rate, result.values[RATE][-1], rtol=1e-6)
    assert optimizer.momentum == 0.5
    assert "optimizer.momentum" in result.summary()
