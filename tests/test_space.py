"""The maps of `Float`, its starts and samples, and `PerTarget`."""

import dataclasses
import doctest
import importlib
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from hypergrad import backend
from hypergrad.space import Float, PerTarget

RANGES = {
    "linear": Float(-2.0, 3.0),
    "unit": Float(0.0, 1.0),
    "log": Float(1e-5, 0.5, sampling="log"),
    "log_wide": Float(1e-10, 1e10, sampling="log"),
    "reverse_log": Float(0.0, 0.9999, sampling="reverse_log"),
    "reverse_log_shifted": Float(-1.0, 0.5, sampling="reverse_log"),
    "lower": Float(min_value=-0.5),
    "upper": Float(max_value=1.5),
    "unbounded": Float(),
}
TWO_SIDED = [name for name, space in RANGES.items() if space.max_value is not None]
TWO_SIDED = [name for name in TWO_SIDED if RANGES[name].min_value is not None]
EXTREME_U = (0.0, 1e-9, 1.0, 17.0, 40.0, 88.0, 300.0, 700.0, 1e4, 1e300)

ranges = pytest.mark.parametrize("space", RANGES.values(), ids=RANGES.keys())


def textbook(space: Float, u: float) -> float:
    """The formulas as they are printed, in plain Python."""
    a, b = space.min_value, space.max_value
    sigma = 1.0 / (1.0 + math.exp(-u))
    if a is None and b is None:
        return u
    if b is None:
        return a + math.log(1.0 + math.exp(u))
    if a is None:
        return b - math.log(1.0 + math.exp(-u))
    if space.sampling == "log":
        return math.exp(math.log(a) + (math.log(b) - math.log(a)) * sigma)
    if space.sampling == "reverse_log":
        delta = 1.0 - b
        length = math.log(b + delta - a) - math.log(delta)
        return b + delta - math.exp(math.log(delta) + length * (1.0 - sigma))
    return a + (b - a) * sigma


def tensor(value, dtype="float64"):
    return backend.convert(np.asarray(value, dtype))


def derivative(fn, value, dtype="float64"):
    """Elementwise derivative of ``fn`` by the backend."""
    total = backend.grad(lambda x: ops.sum(fn(x)))
    return backend.to_numpy(total(tensor(value, dtype)))


# -- forward formulas ------------------------------------------------------------------


@ranges
@pytest.mark.parametrize("u", [-6.0, -1.3, -1e-3, 0.0, 0.7, 5.0])
def test_to_user_is_the_printed_formula(space, u):
    expected = textbook(space, u)
    np.testing.assert_allclose(space.to_user(u), expected, rtol=1e-12, atol=1e-14)
    traced = backend.to_numpy(space.to_user(tensor(u)))
    np.testing.assert_allclose(traced, expected, rtol=1e-12, atol=1e-14)
    assert traced.dtype == np.float64


@ranges
def test_host_and_traced_agree_in_both_directions(space):
    u = np.linspace(-30.0, 30.0, 121)
    v = space.to_user(u)
    compiled = backend.jit(lambda x: (space.to_user(x), space.to_unconstrained(x)))
    traced = backend.to_numpy(compiled(tensor(u))[0])
    np.testing.assert_allclose(traced, v, rtol=1e-14, atol=1e-300)
    back = backend.to_numpy(compiled(tensor(v))[1])
    host = space.to_unconstrained(v, clip=True)
    np.testing.assert_allclose(back, host, rtol=1e-12, atol=1e-13)


@ranges
@given(u=st.floats(-30.0, 30.0))
@settings(deadline=None, max_examples=60)
def test_round_trip_from_the_real_line(space, u):
    v = float(space.to_user(u))
    slope = float(space.to_unconstrained_gradient(v, 1.0))
    # An error of one ulp in v moves u by ulp / slope; there v may say little.
    ulp = float(np.spacing(max(abs(v), 1e-3)))
    slack = 4.0 * ulp / max(slope, 1e-300)
    if slack < 0.1:
        assert abs(float(space.to_unconstrained(v)) - u) <= 1e-9 + slack


@ranges
@given(q=st.floats(1e-12, 1.0 - 1e-12))
@settings(deadline=None, max_examples=60)
def test_round_trip_from_user_units(space, q):
    low, high = space.min_value, space.max_value
    if low is None:
        low = -1.0 if high is None else high - 3.0
    if high is None:
        high = low + 3.0
    ends = np.nextafter([low, high], [high, low])
    v = np.clip(low + (high - low) * q, *ends)
    again = space.to_user(space.to_unconstrained(v))
    np.testing.assert_allclose(again, v, rtol=1e-13, atol=1e-15 * (1 + abs(v)))


def test_linear_unit_range_is_the_logistic_function():
    u = np.array([-3.0, 0.0, 2.0])
    sigma = 1.0 / (1.0 + np.exp(-u))
    np.testing.assert_allclose(Float(0.0, 1.0).to_user(u), sigma, rtol=1e-15)


def test_upper_is_the_mirror_image_of_lower():
    u = np.linspace(-50.0, 50.0, 11)
    mirrored = -Float(min_value=-2.0).to_user(-u)
    np.testing.assert_array_equal(Float(max_value=2.0).to_user(u), mirrored)


def test_reverse_log_spaces_nines_evenly():
    space = Float(0.0, 0.9999, sampling="reverse_log")
    nines = space.sample(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(nines, [0.0, 0.9, 0.99, 0.999, 0.9999], atol=1e-12)


@ranges
def test_to_user_is_increasing_and_monotone_where_branches_meet(space):
    u = np.concatenate([np.linspace(-3.0, 3.0, 601), np.array([-1e-12, 0.0, 1e-12])])
    v = space.to_user(np.sort(u))
    assert np.all(np.diff(v) > -1e-15 * np.maximum(1.0, np.abs(v[1:])))


# -- the ends --------------------------------------------------------------------------


@ranges
def test_values_never_leave_the_range(space):
    u = np.array([sign * size for size in EXTREME_U for sign in (-1.0, 1.0)])
    low, high = space.limits("float64")
    for v in (space.to_user(u), backend.to_numpy(space.to_user(tensor(u)))):
        assert np.all((v >= low) & (v <= high))
        assert np.all(np.isfinite(v))


@ranges
def test_derivatives_to_user_are_finite_and_right(space):
    u = np.array([sign * size for size in EXTREME_U for sign in (-1.0, 1.0)])
    by_backend = derivative(space.to_user, u)
    assert np.all(np.isfinite(by_backend))
    v = space.to_user(u)
    inside = np.abs(u) <= 17.0
    closed_form = space.to_unconstrained_gradient(v, np.ones_like(u))
    assert np.all(np.isfinite(closed_form))
    np.testing.assert_allclose(
        by_backend[inside], closed_form[inside], rtol=1e-5, atol=1e-15
    )


@ranges
def test_derivative_at_zero_is_not_cut(space):
    step = 1e-5
    around = space.to_user(np.array([-step, step]))
    expected = (around[1] - around[0]) / (2 * step)
    np.testing.assert_allclose(derivative(space.to_user, 0.0), expected, rtol=1e-8)


@ranges
def test_second_derivative_at_zero_is_right(space):
    def slope(u):
        return backend.grad(lambda x: ops.sum(space.to_user(x)))(u)

    curvature = backend.to_numpy(
        backend.grad(lambda x: ops.sum(slope(x) + 0.0 * x))(tensor([0.0, 0.3]))
    )
    around = derivative(space.to_user, [-1e-5, 1e-5, 0.3 - 1e-5, 0.3 + 1e-5])
    expected = np.array([around[1] - around[0], around[3] - around[2]]) / 2e-5
    np.testing.assert_allclose(curvature, expected, rtol=1e-6, atol=1e-9)


@ranges
@pytest.mark.parametrize("distance", [0.0, 1e-300, 1e-14, 1e-12, 1e-6])
def test_inverse_and_its_derivative_are_finite_near_the_ends(space, distance):
    ends = [
        end + side * distance
        for end, side in ((space.min_value, 1.0), (space.max_value, -1.0))
        if end is not None
    ] or [0.0]
    u = backend.to_numpy(space.to_unconstrained(tensor(ends)))
    assert np.all(np.isfinite(u))
    assert np.all(np.isfinite(derivative(space.to_unconstrained, ends)))
    np.testing.assert_allclose(
        space.to_unconstrained(np.array(ends), clip=True), u, rtol=1e-9
    )
    assert np.all(
        np.isfinite(space.to_unconstrained_gradient(ends, np.ones(len(ends))))
    )


@ranges
def test_inverse_outside_the_range_is_finite(space):
    outside = [-1e3, 1e3]
    assert np.all(np.isfinite(derivative(space.to_unconstrained, outside)))
    assert np.all(np.isfinite(space.to_unconstrained(outside, clip=True)))


@pytest.mark.parametrize("sampling", ["linear", "reverse_log"])
@pytest.mark.parametrize("bounds", [(0.0, 0.9), (-1.0, 0.0)])
@pytest.mark.parametrize("distance", [1e-12, 1e-100])
def test_distance_to_an_end_at_zero_keeps_its_precision(sampling, bounds, distance):
    v = distance if bounds[0] == 0.0 else -distance
    space = Float(*bounds, sampling=sampling)
    u = space.to_unconstrained(v)
    np.testing.assert_allclose(space.to_user(u), v, rtol=1e-10)
    np.testing.assert_allclose(
        backend.to_numpy(space.to_user(tensor(u))), v, rtol=1e-10
    )


@ranges
def test_to_unconstrained_refuses_a_bound_unless_clipped(space):
    for end in (space.min_value, space.max_value):
        if end is None:
            continue
        with pytest.raises(ValueError, match=r"strictly inside.*interior\(value\)"):
            space.to_unconstrained(end)
        u = float(space.to_unconstrained(end, clip=True))
        assert 30.0 < abs(u) < 1000.0
        assert (u > 0) == (end == space.max_value)
        np.testing.assert_allclose(space.to_user(u), end, rtol=1e-12, atol=1e-200)


@ranges
def test_gradient_is_zero_on_a_bound_and_nan_stays_nan(space):
    for end in (space.min_value, space.max_value):
        if end is not None:
            for slope in (3.0, np.inf):
                assert space.to_unconstrained_gradient(end, slope) == 0.0
            assert np.isnan(space.to_unconstrained_gradient(end, np.nan))


@ranges
@given(u=st.floats(-8.0, 8.0))
@settings(deadline=None, max_examples=30)
def test_unconstrained_gradient_is_the_chain_rule(space, u):
    v = space.to_user(u)
    step = 1e-4
    forward, backward = space.to_user(u + step), space.to_user(u - step)
    expected = 2.5 * (forward - backward) / (2 * step)
    noise = 1e-11 * (1.0 + abs(float(v)))
    np.testing.assert_allclose(
        space.to_unconstrained_gradient(v, 2.5), expected, rtol=1e-5, atol=noise
    )


# -- precision -------------------------------------------------------------------------


AWKWARD = [
    Float(0.1, 0.7),
    Float(1e-5, 0.1, sampling="log"),
    Float(0.0, 0.9999, sampling="reverse_log"),
    Float(0.1, 0.9999999999, sampling="reverse_log"),
    Float(-0.7, -0.1),
    Float(min_value=0.1),
    Float(max_value=0.1),
]


@pytest.mark.parametrize("space", AWKWARD, ids=str)
def test_limits_of_float32_lie_inside(space):
    low, high = space.limits("float32")
    assert low == float(np.float32(low)) and high == float(np.float32(high))
    if space.min_value is not None:
        below = float(np.nextafter(np.float32(low), np.float32(-np.inf)))
        assert below < space.min_value <= low
    if space.max_value is not None:
        above = float(np.nextafter(np.float32(high), np.float32(np.inf)))
        assert high <= space.max_value < above


@pytest.mark.parametrize("space", AWKWARD, ids=str)
def test_float32_tensors_never_leave_the_range(space):
    u = np.concatenate([np.linspace(-30.0, 30.0, 2001), [-200.0, 200.0]])
    v = backend.to_numpy(space.to_user(tensor(u, "float32")))
    assert v.dtype == np.float32
    low, high = space.limits("float64")
    assert np.all((v.astype(np.float64) >= low) & (v.astype(np.float64) <= high))
    assert np.all(np.isfinite(derivative(space.to_user, u, "float32")))
    ends = np.array([end for end in space.limits("float32") if math.isfinite(end)])
    assert np.all(np.isfinite(derivative(space.to_unconstrained, ends, "float32")))
    assert np.all(
        np.isfinite(backend.to_numpy(space.to_unconstrained(tensor(ends, "float32"))))
    )


def test_clipping_a_rounded_value_keeps_its_slope():
    u = np.array([-20.0, 20.0], np.float32)
    space = Float(-0.1, 0.1)
    assert float(np.float32(0.1)) > 0.1  # Rounding leaves the range at both ends.
    slope = derivative(space.to_user, u, "float32")
    np.testing.assert_allclose(slope, 0.2 * math.exp(-20.0), rtol=1e-4)


@pytest.mark.float32
@pytest.mark.parametrize("space", AWKWARD, ids=str)
def test_host_values_stay_inside_when_cast_to_floatx(space):
    u = np.concatenate([np.linspace(-40.0, 40.0, 2001), [-700.0, 700.0]])
    v = space.to_user(u).astype(keras.config.floatx()).astype(np.float64)
    low, high = space.limits("float64")
    assert keras.config.floatx() == "float32"
    assert np.all((v >= low) & (v <= high))


@pytest.mark.float32
@pytest.mark.parametrize("space", AWKWARD, ids=str)
def test_float32_session_traces_the_same_formula(space):
    u = np.linspace(-5.0, 5.0, 21).astype(np.float32)
    v = backend.to_numpy(backend.jit(space.to_user)(tensor(u, "float32")))
    np.testing.assert_allclose(v, space.to_user(u), rtol=2e-5, atol=2e-6)


def test_cast_rounds_inwards_and_keeps_an_exact_zero():
    space = Float(0.1, 0.9999999999, sampling="reverse_log")
    for value in (0.1, 0.9999999999):
        v = float(space.cast(value, "float32"))
        assert 0.1 <= v <= 0.9999999999
    decay = Float(1e-8, 0.1, sampling="log", default=0.0)
    assert decay.cast(0.0, "float32") == 0.0
    assert decay.cast(0.0, "float32").dtype == np.float32


def test_range_without_a_float32_number_is_refused():
    with pytest.raises(ValueError, match="holds no float32 number.*set_floatx"):
        Float(0.1 + 1e-9, 0.1 + 1.2e-9).limits("float32")


def test_half_precision_is_refused():
    with pytest.raises(
        TypeError, match="float32 or float64.*Received: dtype 'float16'"
    ):
        Float(0.0, 1.0).limits("float16")


# -- starts and samples ----------------------------------------------------------------


def test_with_default_fills_in_what_the_model_holds():
    space = Float(1e-5, 1.0, sampling="log")
    assert space.with_default("optimizer.learning_rate", 1e-3).start() == 1e-3
    given = dataclasses.replace(space, default=0.1)
    assert given.with_default("optimizer.learning_rate", 1e-3) is given
    with pytest.raises(ValueError, match="`optimizer.learning_rate` must lie in"):
        space.with_default("optimizer.learning_rate", 3.0)


def test_start_without_default_is_the_middle_of_the_scale():
    np.testing.assert_allclose(Float(1e-4, 1.0, sampling="log").start(), 1e-2)
    np.testing.assert_array_equal(Float(0.0, 1.0, shape=(2,)).start(), [0.5, 0.5])
    assert Float().start() == 0.0


def test_exact_zero_of_a_log_range():
    decay = Float(1e-8, 0.1, sampling="log", default=0.0)
    assert decay.start() == 0.0
    assert decay.validate("weight_decay", 0.0) == 0.0
    assert decay.on_bound(0.0)
    np.testing.assert_allclose(decay.interior(0.0), 1e-8 * 10**0.07, rtol=1e-9)
    assert decay.to_unconstrained_gradient(0.0, 5.0) == 0.0
    assert Float(1e-8, 0.1, sampling="log").with_default("l2", 0.0).start() == 0.0
    with pytest.raises(ValueError, match="must lie in"):
        Float(1e-8, 0.1, sampling="log").validate("l2", 0.0)
    with pytest.raises(ValueError, match="must lie in"):
        decay.validate("weight_decay", 1e-9)


@ranges
def test_interior_moves_only_what_sits_on_a_bound(space):
    ends = [end for end in (space.min_value, space.max_value) if end is not None]
    middle = float(space.to_user(0.3))
    value = np.array([*ends, middle])
    moved = space.interior(value)
    assert moved[-1] == middle
    assert np.all(np.isfinite(space.to_unconstrained(moved)))
    np.testing.assert_array_equal(space.on_bound(value), [True] * len(ends) + [False])
    assert not np.any(space.on_bound(moved))


@pytest.mark.parametrize("name", TWO_SIDED)
def test_interior_is_one_percent_of_the_scale(name):
    space = RANGES[name]
    expected = space.sample([0.01, 0.99])
    actual = space.interior([space.min_value, space.max_value])
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="strictly between 0 and 0.5. Received: 0.7"):
        space.interior(space.min_value, margin=0.7)


@pytest.mark.parametrize("name", TWO_SIDED)
@given(q=st.floats(0.0, 1.0))
@settings(deadline=None, max_examples=40)
def test_samples_walk_the_scale_of_the_transform(name, q):
    space = RANGES[name]
    v = space.sample(q)
    assert space.min_value <= v <= space.max_value
    if 1e-6 < q < 1 - 1e-6:
        u = math.log(q) - math.log1p(-q)
        np.testing.assert_allclose(space.to_user(u), v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TWO_SIDED)
def test_samples_reach_both_ends(name):
    space = RANGES[name]
    ends = space.sample([0.0, 1.0])
    np.testing.assert_allclose(ends, [space.min_value, space.max_value], rtol=1e-12)


@pytest.mark.parametrize("name", ["lower", "upper", "unbounded"])
def test_sampling_an_unbounded_range_is_refused(name):
    with pytest.raises(ValueError, match="need both ends of the range.*inf.*Declare"):
        RANGES[name].sample(0.5)


def test_sample_refuses_fractions_outside():
    with pytest.raises(ValueError, match=r"`q` must lie in \[0, 1\]. Received: 1.5"):
        Float(0.0, 1.0).sample(1.5)


# -- constraint, PerTarget, identity ---------------------------------------------------


def to_simplex(value):
    return value / np.sum(value)


def test_constraint_steps_in_user_units_and_projects():
    space = Float(0.0, 1.0, shape=(2,), default=0.5, constraint=to_simplex)
    np.testing.assert_allclose(space.to_user([0.6, 0.9]), [0.4, 0.6])
    np.testing.assert_array_equal(space.to_unconstrained([0.4, 0.6]), [0.4, 0.6])
    np.testing.assert_array_equal(
        space.to_unconstrained_gradient([0.0, 1.0], [2.0, 3.0]), [2.0, 3.0]
    )
    np.testing.assert_array_equal(
        backend.to_numpy(space.to_user(tensor([0.6, 0.9]))), [0.6, 0.9]
    )
    np.testing.assert_allclose(space.sample([0.5, 1.0]), [1 / 3, 2 / 3])
    assert not np.any(space.on_bound([0.0, 1.0]))
    np.testing.assert_array_equal(space.interior([0.0, 1.0]), [0.0, 1.0])


def test_constraint_refuses_values_off_its_set():
    space = Float(0.0, 1.0, shape=(2,), constraint=to_simplex)
    with pytest.raises(ValueError, match="`w` must satisfy its constraint.*moves by"):
        space.validate("w", [0.5, 0.9])
    with pytest.raises(ValueError, match="default=.*must satisfy its constraint"):
        Float(0.0, 1.0, shape=(2,), default=0.9, constraint=to_simplex)


@pytest.mark.parametrize(
    "constraint", [lambda v: v + 5.0, lambda v: v[:1], lambda v: v * np.nan]
)
def test_broken_constraint_is_refused(constraint):
    space = Float(0.0, 1.0, shape=(2,), constraint=constraint)
    with pytest.raises(
        ValueError, match="must return an array of the same shape inside"
    ):
        space.project([0.5, 0.5])


def test_project_without_constraint_clips():
    np.testing.assert_array_equal(
        Float(0.0, 1.0).project([-1.0, 0.3, 2.0]), [0, 0.3, 1]
    )


def test_per_target_puts_the_target_axis_first():
    each = Float(0.0, 1.0, shape=(2,), default=[0.1, 0.2])
    space = PerTarget(each).expand(3)
    assert space.shape == (3, 2)
    np.testing.assert_array_equal(space.start(), [[0.1, 0.2]] * 3)
    assert PerTarget(Float(0.0, 1.0)).expand(2).default is None


def test_per_target_constrains_each_target_alone():
    each = Float(0.0, 1.0, shape=(2,), default=0.5, constraint=to_simplex)
    projected = PerTarget(each).expand(2).project([[1.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(projected, [[0.25, 0.75], [0.5, 0.5]])


def test_per_target_refuses():
    with pytest.raises(TypeError, match=r"Write `PerTarget\(Float"):
        PerTarget(0.5)
    with pytest.raises(ValueError, match="at least one target. Received: 0"):
        PerTarget(Float(0.0, 1.0)).expand(0)


def test_equal_floats_are_equal_keys():
    pair = [Float(0.0, 1.0, shape=(2,), default=np.array([0.1, 0.2])) for _ in range(2)]
    assert pair[0] == pair[1] and len(set(pair)) == 1
    assert pair[0] != dataclasses.replace(pair[0], default=0.1)
    assert PerTarget(pair[0]) == PerTarget(pair[1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair[0].min_value = 3.0


@pytest.mark.parametrize("module", ["float", "groups", "defaults"])
def test_docstring_examples_run(module):
    found = importlib.import_module(f"hypergrad.space.{module}")
    result = doctest.testmod(found)
    assert result.attempted > 0 and result.failed == 0
