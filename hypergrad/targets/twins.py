"""Layers of Keras whose `call` refuses traced numbers, written so that it takes them.

Each function computes what the layer's own `call` computes, with the layer's numbers
as tensors. `inject` puts it in the layer's place while tracing.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def gaussian_dropout(self: Any, inputs: Any, training: bool = False) -> Any:
    # Keras asks `rate > 0` and takes `math.sqrt`.
    if not training:
        return inputs
    stddev = ops.sqrt(self.rate / (1.0 - self.rate))
    noise = keras.random.normal(
        ops.shape(inputs), dtype=self.compute_dtype, seed=self.seed_generator
    )
    return inputs * (1.0 + noise * ops.cast(stddev, self.compute_dtype))


def leaky_relu(self: Any, inputs: Any) -> Any:
    # TensorFlow's own takes the slope as an attribute of the op, a Python float.
    slope = ops.cast(self.negative_slope, inputs.dtype)
    return ops.where(inputs >= 0, inputs, slope * inputs)


def elu(self: Any, inputs: Any) -> Any:
    # Keras asks `alpha == 1` on TensorFlow; JAX' own takes tensors only.
    alpha = ops.cast(self.alpha, inputs.dtype)
    below = ops.minimum(inputs, ops.zeros_like(inputs))  # no overflow where unused
    return ops.where(inputs > 0, inputs, alpha * ops.expm1(below))


def relu(self: Any, inputs: Any) -> Any:
    # Keras asks `negative_slope != 0` and `max_value == 6`.
    dtype = inputs.dtype
    threshold = ops.cast(self.threshold, dtype)
    if self.threshold == 0:
        outputs = ops.relu(inputs)
    else:
        outputs = ops.where(inputs > threshold, inputs, ops.zeros_like(inputs))
    if self.max_value is not None:
        outputs = ops.minimum(outputs, ops.cast(self.max_value, dtype))
    return outputs - ops.cast(self.negative_slope, dtype) * ops.relu(threshold - inputs)


def normalization(self: Any, inputs: Any) -> Any:
    # √0 of a constant feature has no derivative, though Keras then divides by epsilon.
    epsilon = keras.config.epsilon()
    inputs = ops.convert_to_tensor(inputs, dtype=self.compute_dtype)
    mean, variance = (ops.cast(t, inputs.dtype) for t in (self.mean, self.variance))
    inside = variance > epsilon**2
    deviation = ops.sqrt(ops.where(inside, variance, ops.ones_like(variance)))
    deviation = ops.where(inside, deviation, epsilon * ops.ones_like(variance))
    if self.invert:
        return mean + inputs * deviation
    return (inputs - mean) / deviation


TWINS: dict[Any, Callable[..., Any]] = {
    keras.layers.GaussianDropout: gaussian_dropout,
    keras.layers.LeakyReLU: leaky_relu,
    keras.layers.ELU: elu,
    keras.layers.ReLU: relu,
    keras.layers.Normalization: normalization,
}


def twin_of(layer: Any) -> Callable[..., Any] | None:
    """The twin of a layer's `call`; None where a subclass has a `call` of its own."""
    for base, twin in TWINS.items():
        if isinstance(layer, base) and type(layer).call is base.call:
            return twin
    return None
