"""Every rule, variant, option and number on the nets with normalisation, in float64."""

import pytest

from truth import check_against_differences, made, product

pytestmark = pytest.mark.slow

CELLS = product("cnn-batchnorm", "layernorm", "groupnorm")


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_finite_differences(cell, record_property):
    record_property("relative_error", check_against_differences(*made(cell)))
