"""The range of a bare path, by attribute name."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypergrad.space import DEFAULT_RANGES, Float, default_float


@pytest.mark.parametrize("attribute", sorted(DEFAULT_RANGES))
@given(position=st.floats(1e-3, 0.999), decades=st.integers(-6, 6))
@settings(deadline=None, max_examples=20)
def test_default_ranges_hold_the_current_value_strictly_inside(
    attribute, position, decades
):
    row = DEFAULT_RANGES[attribute]
    current = position * 10.0**decades
    if row.hard_high == 1.0:
        current = 1.0 - position * 10.0 ** -abs(decades)
    space = default_float(attribute, current)
    if row.min_value is None:
        assert space == Float(default=current)
        return
    assert space.min_value < current < space.max_value
    assert space.min_value >= row.hard_low and space.max_value <= row.hard_high
    assert space.sampling == row.sampling
    np.testing.assert_array_equal(space.start(), current)
    np.testing.assert_allclose(space.to_user(space.to_unconstrained(current)), current)


@pytest.mark.parametrize(
    ("attribute", "current", "expected"),
    [
        ("learning_rate", 1e-3, Float(1e-5, 1.0, sampling="log", default=1e-3)),
        ("learning_rate", 5.0, Float(1e-5, 50.0, sampling="log", default=5.0)),
        ("learning_rate", 1e-6, Float(1e-7, 1.0, sampling="log", default=1e-6)),
        ("beta_1", 0.9, Float(0.0, 0.9999, sampling="reverse_log", default=0.9)),
        ("momentum", 0, Float(0.0, 0.9999, sampling="reverse_log", default=0.0)),
        ("weight_decay", None, Float(1e-8, 0.1, sampling="log", default=0.0)),
        ("l2", np.float32(0.0), Float(1e-8, 0.1, sampling="log", default=0.0)),
        ("label_smoothing", 0.6, Float(0.0, 0.8, default=0.6)),
        ("offset", -3.0, Float(-6.0, 1.0, default=-3.0)),
    ],
)
def test_default_float(attribute, current, expected):
    space = default_float(attribute, current)
    assert space == dataclasses.replace(expected, max_value=space.max_value)
    np.testing.assert_allclose(space.max_value, expected.max_value)


def test_default_float_of_a_long_memory():
    space = default_float("beta_1", 0.99995)
    np.testing.assert_allclose(1.0 - space.max_value, 5e-6)
    assert default_float("beta_2", 0.999).max_value == 0.99999


def test_default_float_takes_the_shape_of_the_current_value():
    space = default_float("loss_weights", [1.0, 500.0])
    assert space.shape == (2,) and space.max_value == 5000.0
    np.testing.assert_array_equal(space.start(), [1.0, 500.0])


def test_hard_bound_starts_exactly_and_descends_from_inside():
    space = default_float("momentum", 0.0)
    assert space.start() == 0.0 and space.on_bound(space.start())
    np.testing.assert_allclose(space.interior(0.0), 1 - 1e-4**0.01, rtol=1e-12)


@pytest.mark.parametrize(
    ("attribute", "current", "text"),
    [
        ("units_of_joy", 1.0, "has no default range.*'units_of_joy'.*hg.Float"),
        ("learning_rate", -1.0, r"must lie in \[0.0, inf\).*Received: -1.0"),
        ("beta_1", 1.5, r"must lie in \[0.0, 1.0\)"),
        ("rate", 1.0, r"must lie in \[0.0, 1.0\)"),
        ("clipnorm", None, "must hold a number to start from. Received: None"),
        ("stddev", math.nan, "must be finite"),
    ],
)
def test_default_float_refuses(attribute, current, text):
    path = f"noise.{attribute}"
    with pytest.raises(ValueError, match=f"`{path}`.*{text}"):
        default_float(attribute, current, path=path)
