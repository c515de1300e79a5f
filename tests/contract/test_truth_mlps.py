"""Every rule, variant, option and number on the multilayer perceptrons, in float64."""

import pytest

from truth import check_against_differences, check_against_hand_written, made, product

pytestmark = pytest.mark.slow

CELLS = product("tanh", "relu-dead")


SMALL = {"tanh-Ftrl-regularized-clipvalue": ("dense.kernel_regularizer.l2",)}
"""Derivatives of 4e-6, of which differences know five digits: the hand-written run
judges them."""


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_finite_differences(cell, record_property):
    small = SMALL.get(str(cell), ())
    assert cell.is_hand_written or not small
    error = check_against_differences(*made(cell), elsewhere=small)
    record_property("relative_error", error)


HAND_WRITTEN = [cell for cell in CELLS if cell.is_hand_written]


@pytest.mark.parametrize("cell", HAND_WRITTEN, ids=lambda c: f"{c}-hand-written")
def test_hand_written(cell, record_property):
    record_property("relative_error", check_against_hand_written(cell))
