"""The precision of a session is the one that its arrays have."""

import keras
import numpy as np
import pytest
from keras import ops

from hypergrad import backend


def _dtypes_met_in_a_layer() -> set[str]:
    layer = keras.layers.Dense(3, activation="tanh", dtype=keras.config.floatx())
    out = layer(ops.convert_to_tensor(np.ones((2, 4)), keras.config.floatx()))
    arrays = [out, ops.tanh(out), layer.kernel.value]
    return {str(backend.to_numpy(array).dtype) for array in arrays}


def test_float64_session_computes_in_float64():
    assert keras.config.floatx() == "float64"
    assert _dtypes_met_in_a_layer() == {"float64"}
    # tanh rounded through float32 is off by 1e-8
    value = backend.to_numpy(ops.tanh(ops.convert_to_tensor([0.3], "float64")))
    assert abs(value[0] - np.tanh(0.3)) < 1e-15


@pytest.mark.float32
def test_float32_session_computes_in_float32():
    assert keras.config.floatx() == "float32"
    assert _dtypes_met_in_a_layer() == {"float32"}
