"""The number that stands in for a Python float."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from hypergrad import backend
from hypergrad.traced import Traced, TracedNumberError


def through(fn, value=0.25, low=0.0, high=1.0, argument=None):
    """fn(Traced) and its derivative, compiled."""

    def loss(v):
        return ops.sum(ops.convert_to_tensor(fn(Traced(v, low, high, "layer.rate"))))

    value = backend.convert(np.asarray(value, keras.config.floatx()))
    result, derivative = backend.jit(backend.value_and_grad(loss))(value)
    return float(backend.to_numpy(result)), float(backend.to_numpy(derivative))


ARRAY = np.asarray([1.5, -2.0, 3.0])

ARITHMETIC = {
    "add": (lambda v: v + 2, 2.25, 1.0),
    "radd": (lambda v: 2 + v, 2.25, 1.0),
    "sub": (lambda v: v - 2.0, -1.75, 1.0),
    "rsub": (lambda v: 2.0 - v, 1.75, -1.0),
    "mul": (lambda v: v * 3.0, 0.75, 3.0),
    "rmul": (lambda v: 3.0 * v, 0.75, 3.0),
    "div": (lambda v: v / 2.0, 0.125, 0.5),
    "rdiv": (lambda v: 1.0 / v, 4.0, -16.0),
    "pow": (lambda v: v**2, 0.0625, 0.5),
    "rpow": (lambda v: 2.0**v, 2**0.25, 2**0.25 * math.log(2.0)),
    "neg": (lambda v: -v, -0.25, -1.0),
    "pos": (lambda v: +v, 0.25, 1.0),
    "abs": (lambda v: abs(v), 0.25, 1.0),
    "itself": (lambda v: v * v, 0.0625, 0.5),
    "numpy scalar": (lambda v: np.float64(3.0) * v, 0.75, 3.0),
    "numpy array": (lambda v: ARRAY * v, 0.625, 2.5),
    "tensor on the left": (lambda v: ops.convert_to_tensor(ARRAY) * v, 0.625, 2.5),
    "tensor on the right": (lambda v: v * ops.convert_to_tensor(ARRAY), 0.625, 2.5),
    "ops.sqrt": (lambda v: ops.sqrt(v), 0.5, 1.0),
    "ops.cast": (lambda v: ops.cast(v, "float64") * 2, 0.5, 2.0),
    "ops.multiply": (lambda v: ops.multiply(v, ARRAY), 0.625, 2.5),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_carries_value_and_derivative(name):
    fn, value, derivative = ARITHMETIC[name]
    np.testing.assert_allclose(through(fn), (value, derivative), rtol=1e-14)


QUESTIONS = [
    (lambda v: v > 0, True),
    (lambda v: v >= 0, True),
    (lambda v: v != 0.0, True),
    (lambda v: v == 0, False),
    (lambda v: v < 0, False),
    (lambda v: v <= 0.0, False),
    (lambda v: v < 1, True),
    (lambda v: v == np.float32(1.0), False),
    (lambda v: 0 < v, True),
    (lambda v: 1.0 >= v, True),
    (lambda v: np.float64(2.0) > v, True),
    (lambda v: v > -1, True),
    (lambda v: v is None or v == None, False),  # noqa: E711
    (lambda v: v == "auto", False),
    (lambda v: bool(v), True),
    (lambda v: v == v, True),  # noqa: PLR0124
    (lambda v: v < Traced(None, 2.0, 3.0), True),
    (lambda v: v == Traced(None, 2.0, 3.0), False),
]


@pytest.mark.parametrize("ask, answer", QUESTIONS)
def test_a_question_with_one_answer_is_answered(ask, answer):
    assert ask(Traced(None, 0.0, 1.0)) is answer


def test_an_open_question_names_file_and_line():
    number = Traced(None, 0.0, 1.0, "mine.rate")
    with pytest.raises(TracedNumberError) as caught:
        bool(number > 0.5)
    line = caught.traceback[0].lineno + 1
    assert f"{__file__}:{line}" in str(caught.value)
    assert "`mine.rate` > 0.5" in str(caught.value)
    assert "range (0, 1)" in str(caught.value)


def test_an_unbounded_number_answers_nothing():
    with pytest.raises(TracedNumberError, match=r"asks whether `x` != 0"):
        bool(Traced(None, None, None, "x"))
    with pytest.raises(TracedNumberError, match="do not overlap"):
        bool(Traced(None, 0, 2, "x") < Traced(None, 1, 3, "y"))


@pytest.mark.parametrize(
    "convert", [float, int, math.sqrt, round, np.asarray, complex, lambda v: [1][v]]
)
def test_conversions_that_would_cut_the_derivative_are_refused(convert):
    with pytest.raises(TracedNumberError, match=r"test_traced\.py:\d+ turns `x`"):
        convert(Traced(None, 0.0, 1.0, "x"))


def test_a_tensor_comparison_stays_a_tensor():
    def loss(v):
        mask = Traced(v, 0.0, 1.0) > ops.convert_to_tensor([0.1, 0.5])
        return ops.sum(ops.where(mask, v, 0.0 * v))

    assert float(backend.jit(loss)(backend.convert(0.25))) == 0.25


def test_it_takes_the_dtype_of_the_tensor_beside_it():
    half = ops.ones((2,), "float16")
    number = Traced(ops.convert_to_tensor(0.25, "float32"), 0.0, 1.0)
    assert keras.backend.standardize_dtype((number * half).dtype) == "float16"


def test_it_prints_and_hashes_without_a_value():
    number = Traced(None, 0.0, 1.0, "x")
    assert f"{number:.3f}" == repr(number) == "Traced('x', low=0, high=1)"
    assert number in {number}
