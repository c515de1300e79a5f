"""What `Float` accepts as a range and as a value, and how it refuses the rest."""

import math

import numpy as np
import pytest

from hypergrad import backend
from hypergrad.space import Float


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), "tensor"])
def test_validate_takes_floats_arrays_and_tensors(value):
    value = (
        backend.convert(np.asarray(0.5, "float64")) if isinstance(value, str) else value
    )
    array = Float(0.0, 1.0).validate("lr", value)
    assert array.dtype == np.float64 and array.shape == () and array == 0.5


def test_validate_fills_the_shape_with_one_number_and_copies():
    space = Float(0.0, 1.0, shape=(2, 3))
    np.testing.assert_array_equal(space.validate("w", 0.25), np.full((2, 3), 0.25))
    given = np.full((2, 3), 0.5)
    space.validate("w", given)[...] = 0.0
    assert np.all(given == 0.5)


def test_validate_puts_float32_rounding_on_the_bound():
    assert Float(1e-4, 0.1).validate("lr", np.float32(0.1)) == 0.1
    assert Float(0.1, 1.0).validate("lr", np.nextafter(0.1, 0.0)) == 0.1


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1, TypeError, r"`lr` must be a float.*Received: integer 1\..*tuner"),
        (np.arange(2), TypeError, "Received: integer"),
        (True, TypeError, "Received: boolean True"),
        (np.nan, ValueError, "`lr` must be finite. Received: nan"),
        (np.inf, ValueError, "`lr` must be finite"),
        ("0.1", TypeError, "`lr` must be a float or an array of floats.*'0.1'"),
        (None, TypeError, "Received: None"),
        (1j, TypeError, "type complex"),
        ([[0.1], [0.1, 0.2]], TypeError, "rectangular"),
        ([0.1, 0.2], ValueError, r"`lr` must have shape \(\).*Received: shape \(2,\)"),
        (2.5, ValueError, r"`lr` must lie in \[0.0, 1.0\]. Received: 2.5.*widen"),
        (-1e-9, ValueError, r"`lr` must lie in \[0.0, 1.0\]"),
    ],
)
def test_validate_refuses(value, error, text):
    with pytest.raises(error, match=text):
        Float(0.0, 1.0).validate("lr", value)


def test_validate_counts_the_elements_outside():
    with pytest.raises(ValueError, match="2 of 3 elements are outside"):
        Float(0.0, 1.0, shape=(3,)).validate("w", [2.0, 0.5, -1.0])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"default": 2.0}, ValueError, r"default=.*must lie in \[0.0, 1.0\].*2.0"),
        ({"default": 1}, TypeError, "Received: integer 1"),
        ({"default": math.nan}, ValueError, "must be finite"),
        ({"default": [0.1, 0.2]}, ValueError, r"must have shape \(\)"),
        ({"min_value": 2.0}, ValueError, "min_value < max_value.*Swap them"),
        ({"min_value": 1.0}, ValueError, "A fixed value is no hyperparameter"),
        ({"min_value": True}, TypeError, "min_value=.*must be a number.*bool"),
        ({"min_value": "0"}, TypeError, "min_value=.*Received: '0' of type str"),
        ({"max_value": math.inf}, ValueError, "must be finite.*Write None"),
        ({"max_value": math.nan}, ValueError, "must be finite"),
        ({"sampling": "logit"}, ValueError, "\"reverse_log\". Received: 'logit'"),
        ({"sampling": "log"}, ValueError, "needs min_value > 0.*min_value=0.0"),
        (
            {"sampling": "log", "min_value": 1e-39},
            ValueError,
            "38 decades. Received: min_value=1e-39",
        ),
        ({"sampling": "log", "min_value": None}, ValueError, "needs both bounds"),
        ({"sampling": "reverse_log"}, ValueError, "needs max_value < 1.*0.9999"),
        (
            {"sampling": "reverse_log", "max_value": None},
            ValueError,
            "needs both bounds.*max_value=None",
        ),
        ({"shape": 3}, TypeError, r"tuple of positive integers. Received: 3"),
        ({"shape": (0,)}, TypeError, "tuple of positive integers"),
        ({"constraint": 3}, TypeError, "must be a function.*Received: 3"),
    ],
)
def test_float_refuses(arguments, error, text):
    with pytest.raises(error, match=text):
        Float(**{"min_value": 0.0, "max_value": 1.0, **arguments})


def test_integer_bounds_are_numbers():
    assert Float(0, 1).to_user(0.0) == 0.5
