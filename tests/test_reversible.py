"""Runs that are undone step by step, and the integers they are made of."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import hypergrad as hg
from hypergrad import backend, unroll
from hypergrad.methods import reversible
from hypergrad.methods.fixed_point import Int64
from nets import NETS, optimizer_of, problem_of
from problems import heavy_ball, quadratic, wavy
from registry import RULES

FORMATS = {"float64": Int64(50), "float32": Int64(40)}
COUNT = 32


def integers(z) -> np.ndarray:
    """Python's integers, which do not overflow."""
    return np.asarray(z).astype(object)


@backend.wide()
def number(values):
    return backend.convert(np.asarray(values, dtype=object).astype("int64"))


@pytest.fixture(scope="module", params=FORMATS)
def arithmetic(request):
    """(format, compiled scale, compiled unscale)."""
    numbers = FORMATS[request.param]
    scale = backend.jit(backend.wide()(numbers.scale), xla=True)
    return numbers, scale, backend.jit(backend.wide()(numbers.unscale), xla=False)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_multiplication_is_undone_to_the_last_bit(arithmetic, data):
    numbers, scale, unscale = arithmetic
    wide = st.one_of(st.integers(-(2**40), 2**40), st.integers(-(2**30), 2**30))
    z = data.draw(st.lists(wide, min_size=COUNT, max_size=COUNT))
    narrow = st.integers(-(2**16), 2**16)
    b = data.draw(st.lists(narrow, min_size=COUNT, max_size=COUNT))
    factors = data.draw(st.lists(st.floats(0.2, 1.1), min_size=1, max_size=3))
    deltas = [np.asarray(1.0 - factor) for factor in factors]
    place = number(z), number(b)
    for delta in deltas:
        place = scale(*place, delta)
    for delta in reversed(deltas):
        place = unscale(*place, delta)
    assert list(integers(place[0])) == z
    assert list(np.asarray(place[1])) == b


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_product_is_right_to_a_few_units(arithmetic, data):
    numbers, scale, _ = arithmetic
    z = data.draw(st.lists(st.integers(-(2**44), 2**44), min_size=1, max_size=1))
    factor = data.draw(st.floats(0.1, 1.0))
    delta = np.asarray(1.0 - factor)
    found = scale(number(z * COUNT), number([0] * COUNT), delta)
    exact = z[0] * (1.0 - float(delta))
    assert abs(integers(found[0])[0] - exact) <= 3 + abs(z[0]) * 2.0**-53


def test_what_does_not_fit_is_said(arithmetic):
    numbers, scale, _ = arithmetic
    fits = backend.jit(backend.wide()(numbers.fits))
    for whole, expected in ((2**54 + 9, False), (2**52, True), (-(2**54) - 9, False)):
        _, b = scale(number([0]), number([whole]), np.asarray(0.5))
        assert backend.to_numpy(fits(b)).all() == expected


@pytest.mark.parametrize("momentum, steps", [(0.9, 90), (0.5, 18)])
def test_what_is_lost_grows_by_the_information_that_is(arithmetic, momentum, steps):
    """log₂(1/μ) bits a step: what is lost is some units in the first step."""
    numbers, scale, _ = arithmetic
    z = np.random.default_rng(0).normal(size=200) * 2.0**28
    place = number([int(v) for v in z]), number([0] * 200)
    delta = np.asarray(1.0 - momentum)
    sizes = []
    for _ in range(steps):
        place = scale(*place, delta)
        sizes.append(np.std(np.asarray(place[1]).astype(float)))
    half = steps // 2
    rate = np.log2(sizes[-1] / sizes[half]) / (steps - 1 - half)
    assert rate == pytest.approx(np.log2(1.0 / momentum), rel=0.03)
    assert sizes[half] * momentum**half < 32.0


@pytest.mark.parametrize("numbers", FORMATS.values(), ids=FORMATS)
def test_floats_become_the_nearest_integers(numbers):
    from_float = backend.jit(backend.wide()(numbers.from_float))
    to_float = backend.jit(backend.wide()(numbers.to_float))
    inside = backend.jit(backend.wide()(numbers.in_range))
    x = np.array([0.0, 1e-7, -1e-7, 0.1, -0.1, 3.7, -1000.3], "float32")
    z = from_float(x)
    exact = [round(float(v) * 2**numbers.fraction_bits) for v in x]
    assert list(integers(z)) == exact
    back = backend.to_numpy(to_float(z))
    assert back == pytest.approx(x, rel=1e-15, abs=2.0**-numbers.fraction_bits)
    for wild in (np.inf, -np.inf, np.nan, 1e30):
        z = from_float(np.asarray([wild], "float32"))
        assert not backend.to_numpy(inside(z)).any()


# Runs


def model(*, noisy: bool = False, constraint=None, **options) -> keras.Model:
    inner = [layers.BatchNormalization(momentum=0.8), layers.Dropout(0.25, seed=1)]
    built = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, "tanh", kernel_constraint=constraint),
            *(inner if noisy else []),
            layers.Dense(1),
        ]
    )
    optimizer = keras.optimizers.SGD(**{"learning_rate": 0.05, **options})
    built.compile(optimizer, "mse", jit_compile=False)
    return built


def problem_for(built: keras.Model, names=None, steps=9, **more) -> hg.Problem:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(14, 3)), draw.normal(size=(14, 1))
    if names is None:
        names = ["optimizer.learning_rate", "optimizer.momentum"]
    return hg.Problem.from_model(
        built,
        x[:10],
        y[:10],
        validation_data=(x[10:], y[10:]),
        batch_size=4,
        steps=steps,
        hyperparameters=names,
        **more,
    )


def agree(problem, values=None, tolerance=1e-10) -> hg.Hypergradient:
    found = hg.hypergradient(problem, values, hg.Reversible())
    expected = hg.hypergradient(problem, values, hg.Reverse("all"))
    assert found.status.ok, found.status
    assert found.loss == pytest.approx(expected.loss, rel=tolerance)
    for name, gradient in expected.gradient.items():
        scale = np.max(np.abs(gradient))
        assert scale > 0
        assert np.max(np.abs(found.gradient[name] - gradient)) <= tolerance * scale
    return found


@pytest.mark.parametrize("momentum", [0.9, 0.5])
@pytest.mark.parametrize("steps", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_a_run_is_restored_bit_for_bit(momentum, steps, monkeypatch):
    """Weights, velocities and what they lost; the sweep counts what differs."""
    problem = problem_for(model(momentum=momentum), steps=steps)
    found, place = [], []
    plain = reversible._Trip.differing

    def noted(trip, whole):
        found.append(plain(trip, whole))
        place.append(trip)
        return found[-1]

    monkeypatch.setattr(reversible._Trip, "differing", noted)
    assert hg.hypergradient(problem, method=hg.Reversible()).status.ok
    assert len(found) >= 2 and not any(found)
    trip = place[-1]
    here = backend.to_numpy(keras.tree.flatten(trip.position))
    there = backend.to_numpy(keras.tree.flatten(trip.origin))
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))


def test_a_run_that_is_not_restored_is_said(monkeypatch):
    problem = problem_for(model(momentum=0.9))
    method, values = hg.Reversible(), problem.values()
    method.prepare(problem, values)
    tape = method.run(problem, values)
    position = tape.extra.position
    with backend.wide():
        weights = [position.weights[0] + 1, *position.weights[1:]]
    other = position._replace(weights=weights)
    tape = tape._replace(extra=tape.extra._replace(position=other))
    status = method.sweep(problem, tape).status
    assert not status.ok
    assert "The run was not restored" in status.reason and "`Reverse()`" in str(status)


@pytest.mark.parametrize(
    "option",
    [
        "decay",
        *(
            pytest.param(option, marks=pytest.mark.slow)
            for option in ("bare", "clipnorm", "global_clipnorm")
        ),
    ],
)
def test_a_tanh_net(option):
    optimizer, tuned = optimizer_of(RULES["SGD"], "momentum", option)
    problem, values = problem_of(NETS["tanh"], optimizer, tuned)
    agree(problem, values)


def test_batch_norm_and_dropout():
    problem = problem_for(model(noisy=True, momentum=0.9))
    found = agree(problem)
    # Four statistics of BatchNormalization in float64, and a seed; and a step count.
    assert found.info["kept_bytes"] > 9 * 8 * 8


@pytest.mark.slow
def test_rates_and_momenta_of_their_own_for_each_step():
    rate, momentum = hg.Float(0.0, 1.0, default=0.05), hg.Float(0.1, 1.0, default=0.8)
    names = {
        "optimizer.learning_rate": hg.Schedule(rate, knots=9),
        "optimizer.momentum": hg.Schedule(hg.PerVariable(momentum), knots=9),
    }
    problem = problem_for(model(momentum=0.9), names)
    draw = np.random.default_rng(1)
    values = {
        "optimizer.learning_rate": draw.uniform(0.01, 0.1, 9),
        "optimizer.momentum": draw.uniform(0.3, 0.95, (9, 4)),
    }
    agree(problem, values)


@pytest.mark.slow
def test_a_bind_with_a_momentum_for_each_step():
    def bind(hparams):
        slope = keras.ops.linspace(1.0, 0.5, 9)
        slope = keras.ops.cast(slope, hparams["top"].dtype)
        return {"optimizer.momentum": hg.PerStep(hparams["top"] * slope)}

    names = {"top": hg.Float(0.2, 1.0, default=0.9)}
    agree(problem_for(model(momentum=0.9), names, bind=bind))


@pytest.mark.slow
def test_a_start_that_is_tuned_and_weights_of_examples():
    names = {
        "scale.dense.kernel": hg.Float(0.5, 2.0, default=1.5),
        "data.sample_weight": hg.Float(0.0, 1.0, shape=(10,), default=0.5),
    }
    agree(problem_for(model(momentum=0.9), names))


@pytest.mark.slow
def test_a_frozen_layer_is_not_kept():
    built = model(momentum=0.9)
    built.layers[0].trainable = False
    built.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=False)
    found = agree(problem_for(built))
    step_counts, words = 9 * 8, 5 * 8
    assert found.info["kept_bytes"] <= step_counts + words


def test_the_closed_form_of_heavy_ball():
    """C, in Keras' form v ← μ v − a g, w ← w + v: the same weights.

    The loss of a linear layer on the rows of a root of H is ½ w'Hw − b'w + constant.
    """
    form = heavy_ball(8.0, 9)
    q = quadratic(np.geomspace(1.0, 8.0, 4), seed=2)
    x = np.sqrt(q.eigenvalues)[:, None] * q.basis.T
    y = (x @ q.solution)[:, None]
    layer = layers.Dense(1, use_bias=False)
    built = keras.Sequential([keras.Input((4,)), layer])
    layer.set_weights([q.start[:, None]])
    built.compile(
        keras.optimizers.SGD(0.1, momentum=0.5),
        lambda y, p: 0.5 * keras.ops.sum((y - p) ** 2, axis=-1),
        jit_compile=False,
    )

    def outer(y, p):  # E on the identity's rows sees the weights themselves
        w = p[:, 0]
        i = keras.ops.arange(1.0, 5.0, dtype=w.dtype)
        return keras.ops.sum(keras.ops.sin(i * w)) + 0.025 * keras.ops.sum(w**4)

    problem = hg.Problem.from_model(
        built,
        x,
        y,
        validation_data=(np.eye(4), np.zeros((4, 1))),
        batch_size=4,
        steps=9,
        hyperparameters={
            "optimizer.learning_rate": hg.Float(0.0, 8.0, default=1.0),
            "optimizer.momentum": hg.Float(0.0, 1.0, default=0.5),
        },
        objective=outer,
    )
    # A mean over four rows.
    values = {
        "optimizer.learning_rate": 4.0 * form.values["rate"],
        "optimizer.momentum": form.values["momentum"],
    }
    h = hg.hypergradient(problem, values, hg.Reversible())
    assert wavy(q.start)[0] != pytest.approx(form.loss)
    assert h.loss == pytest.approx(form.loss, rel=1e-10)
    found = 4.0 * h.gradient["optimizer.learning_rate"]
    assert found == pytest.approx(form.gradient["rate"], rel=1e-10)
    found = h.gradient["optimizer.momentum"]
    assert found == pytest.approx(form.gradient["momentum"], rel=1e-10)


@pytest.mark.slow
def test_what_a_long_run_keeps():
    """At most 1/20 of its states, and the bits that are lost, rounded to words."""
    problem = problem_for(model(momentum=0.9), steps=300)
    tape = hg.Reversible().run(problem, problem.values())
    weights = sum(int(np.prod(w.shape)) for w in tape.final.weights)
    words = len(tape.extra.lost)
    bits = 300 * np.log2(1 / 0.9)
    # A word is put aside while the next segment surely has room in it, 11 bits.
    assert bits / 54 <= words <= bits / (54 - 11 - 5) + 1
    all_states = 300 * 2 * weights * 8
    assert words * 8 * weights <= tape.extra.nbytes <= all_states / 20


# What is refused


@pytest.mark.parametrize(
    "built, text",
    [
        (
            lambda: model(momentum=0.0),
            "`Reversible` needs momentum > 0 to run steps backwards. Received: "
            "SGD(momentum=0.0). Use `Reverse()` or set `momentum`.",
        ),
        (
            lambda: model(momentum=0.9, nesterov=True),
            "`Reversible` needs SGD without `nesterov=True` to run steps backwards. "
            "Received: SGD(nesterov=True). Use `Reverse()`.",
        ),
        (
            lambda: model(momentum=0.9, use_ema=True),
            "needs SGD without `use_ema=True`",
        ),
        (
            lambda: model(momentum=0.9, gradient_accumulation_steps=2),
            "Received: SGD(gradient_accumulation_steps=2). Use `Reverse()`.",
        ),
        (
            lambda: model(momentum=0.9, constraint=keras.constraints.NonNeg()),
            "needs weights without constraints",
        ),
    ],
    ids=["momentum", "nesterov", "ema", "accumulation", "constraint"],
)
def test_optimizers_that_forget_are_refused(built, text):
    problem = problem_for(built(), ["optimizer.learning_rate"])
    with pytest.raises(ValueError) as error:
        hg.hypergradient(problem, method=hg.Reversible())
    assert text in str(error.value)


def test_other_rules_are_refused():
    built = model()
    built.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    problem = problem_for(built, ["optimizer.learning_rate"])
    with pytest.raises(ValueError) as error:
        hg.hypergradient(problem, method=hg.Reversible())
    assert str(error.value) == (
        "`Reversible` needs SGD with momentum to run steps backwards. Received: Adam. "
        "Use `Reverse()`, or compile with `SGD(momentum=0.9)`."
    )


def test_functions_are_refused():
    with pytest.raises(ValueError, match="Received: `update` functions. Use `Reverse"):
        hg.hypergradient(heavy_ball().problem, heavy_ball().values, hg.Reversible())


def test_a_momentum_of_zero_among_the_values_is_refused():
    names = {"optimizer.momentum": hg.Float(0.0, 0.99, default=0.9)}
    problem = problem_for(model(momentum=0.9), names)
    with pytest.raises(ValueError, match=r"momentum > 0 .* SGD\(momentum=0\)"):
        hg.hypergradient(problem, {"optimizer.momentum": 0.0}, hg.Reversible())


def test_weights_that_leave_the_range_are_said():
    names = {"optimizer.learning_rate": hg.Float(0.0, 1e9, default=0.1)}
    problem = problem_for(model(momentum=0.9), names)
    values = {"optimizer.learning_rate": 1e8}
    h = hg.hypergradient(problem, values, hg.Reversible())
    assert not h.status.ok and np.isnan(h.loss)
    assert "the range of the fixed-point numbers of `Reversible`" in h.status.reason
    assert h.status.variable in {
        v.path for v in problem.keras.model.trainable_variables
    }
    assert h.status.step is not None and h.status.step < 9
    assert np.isnan(h.gradient["optimizer.learning_rate"])


@pytest.mark.slow
def test_tune_with_it():
    problem = problem_for(model(momentum=0.5))
    result = hg.tune(problem, outer_steps=3, method=hg.Reversible(), verbose=0)
    assert result.loss < result.history["val_loss"][0]


@pytest.mark.float32
def test_float32_agrees_to_its_rounding():
    problem = problem_for(model(noisy=True, momentum=0.9), steps=9)
    agree(problem, tolerance=1e-4)


@pytest.mark.float32
def test_float32_run_is_restored():
    problem = problem_for(model(momentum=0.5), steps=60)
    bound, start = unroll.start(problem, problem.values())
    assert start.weights[0].dtype in ("float32", np.float32)
    assert hg.hypergradient(problem, method=hg.Reversible()).status.ok
