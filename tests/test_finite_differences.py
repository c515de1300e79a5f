"""The judge is judged: its values are right, and its errors are not too small."""

import numpy as np
import pytest

from finite_differences import central, of_problem

SMOOTH = {
    "sin": (np.sin, np.cos, 0.7),
    "exp": (np.exp, np.exp, -1.3),
    "power": (lambda x: x**5, lambda x: 5 * x**4, 1.1),
    "flat": (lambda x: 3.0 + 0 * x, lambda x: 0.0, 0.4),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions(name):
    f, derivative, x = SMOOTH[name]
    found = central(f, x, 0.1)
    assert abs(found.value - derivative(x)) <= 3 * found.error
    assert found.error <= 1e-8 * max(abs(derivative(x)), 1e-3)


@pytest.mark.parametrize("kink", [0.03, 0.008])
def test_a_kink_beside_the_point_is_halved_away(kink):
    found = central(lambda x: x**2 + abs(x - 1.0 - kink), 1.0, 0.1)
    assert found.error <= 1e-6
    assert found.value == pytest.approx(1.0, abs=3e-6)


def test_noise_is_owned_up_to():
    noise = np.random.default_rng(0)
    noisy = central(lambda x: x + 1e-6 * noise.normal(), 1.0, 0.01)
    assert noisy.error > 1e-6
    assert abs(noisy.value - 1.0) <= 3 * noisy.error


def test_every_entry_of_every_value():
    values = {"a": np.array([1.0, 2.0]), "b": 3.0}
    found = of_problem(lambda v: float(np.sum(v["a"] ** 2) * v["b"]), values)
    assert [d.value for d in found["a"]] == pytest.approx([6.0, 12.0])
    assert found["b"].value == pytest.approx(5.0)
