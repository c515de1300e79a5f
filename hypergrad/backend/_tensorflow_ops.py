"""Operations of TensorFlow whose second derivative is missing or wrong, mended.

Each has the values and the first derivative of the plain one, to rounding. What cannot
be mended is refused where a derivative is asked for.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import nn as _keras_nn

from hypergrad.backend._patches import replaced


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """The repairs of this file, for the time of the context."""
    if tf.nn.softsign is _softsign:  # traces are nested; once is enough
        yield
        return
    transform = "ImageProjectiveTransformV3"
    with (
        replaced(_keras_nn, "_compute_moments", _moments),
        replaced(tf.nn, "softmax_cross_entropy_with_logits", _softmax_cross_entropy),
        replaced(tf.nn, "softsign", _softsign),
        replaced(tf.image, "resize", _resize(tf.image.resize)),
        replaced(
            tf.raw_ops,
            transform,
            _refused(
                getattr(tf.raw_ops, transform),
                "an image that is rotated, zoomed, shifted, sheared or warped is only "
                "approximate",
            ),
        ),
        replaced(
            tf.image,
            "hsv_to_rgb",
            _refused(
                tf.image.hsv_to_rgb,
                "an image whose hue or saturation is changed is left out",
            ),
        ),
    ):
        yield


def _moments(x: Any, axes: Any, keepdims: bool) -> tuple[Any, Any]:
    """Mean and variance whose second derivatives are right.

    ``tf.nn.moments`` computes the variance around ``stop_gradient(mean)``: right to
    first order only, so that every hypergradient through BatchNormalization,
    LayerNormalization and GroupNormalization would be wrong. Same forward values.
    """
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance


def _softmax_cross_entropy(
    labels: Any, logits: Any, axis: int = -1, name: str | None = None
) -> Any:
    """Cross entropy whose gradient carries the derivative by the labels.

    TensorFlow's op has the gradient ``softmax(z) − y`` by the logits z, whose own
    derivative by the labels y it leaves out: a hypergradient of soft labels or of label
    smoothing would lack what passes through training. Here
    ``log Σexp z − Σ y z + (Σy − 1) stop_gradient(log Σexp z)``, which has the same
    value and first derivatives, those for labels that do not sum to 1 included.
    """
    with tf.name_scope(name or "softmax_cross_entropy_with_logits"):
        labels, logits = tf.convert_to_tensor(labels), tf.convert_to_tensor(logits)
        dtype = logits.dtype
        precise = tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype
        labels, logits = tf.cast(labels, precise), tf.cast(logits, precise)
        largest = tf.stop_gradient(tf.reduce_max(logits, axis, keepdims=True))
        logits -= largest
        total = tf.math.log(tf.reduce_sum(tf.exp(logits), axis))
        rest = (tf.reduce_sum(labels, axis) - 1.0) * tf.stop_gradient(total)
        return tf.cast(total - tf.reduce_sum(labels * logits, axis) + rest, dtype)


def _softsign(features: Any, name: str | None = None) -> Any:
    """``x / (1 + |x|)``: the gradient of TensorFlow's op has no derivative."""
    x = tf.convert_to_tensor(features)
    return tf.divide(x, 1 + tf.abs(x), name)


def _resize(plain: Callable) -> Callable:
    """``tf.image.resize`` as two products with constant matrices.

    A resized image is linear in the image, along each side. TensorFlow leaves the
    derivative of that gradient out (bilinear) or knows none (bicubic, lanczos). The
    matrices are what the plain function makes of unit vectors.
    """

    def resize(images: Any, size: Any, method: Any = "bilinear", **options: Any) -> Any:
        images = tf.convert_to_tensor(images)
        if not images.dtype.is_floating or options.get("preserve_aspect_ratio"):
            return plain(images, size, method, **options)

        def matrix(length: Any, new: Any) -> Any:
            units = tf.eye(length)[:, :, None, None]
            columns = plain(units, (new, 1), method, **options)
            return tf.cast(columns[:, :, 0, 0], images.dtype)

        height, width = tf.unstack(tf.convert_to_tensor(size))
        rows = matrix(_length(images, -3), height)
        columns = matrix(_length(images, -2), width)
        resized = tf.einsum("...hwc,hi,wj->...ijc", images, rows, columns)
        fixed = [tf.get_static_value(n) for n in (height, width)]
        resized.set_shape([*images.shape[:-3], *fixed, images.shape[-1]])
        keeps = str(method).endswith("nearest") or images.dtype == tf.float64
        return resized if keeps else tf.cast(resized, tf.float32)

    return resize


def _length(images: Any, axis: int) -> Any:
    static = images.shape[axis]
    return tf.shape(images)[axis] if static is None else static


def _refused(plain: Callable, reason: str) -> Callable:
    """``plain``, where no derivative by the image passes; else an error."""

    def call(images: Any = None, **options: Any) -> Any:
        @tf.custom_gradient
        def without_gradient(images: Any) -> Any:
            def gradient(*upstream: Any) -> Any:
                raise NotImplementedError(
                    "A weight of the model comes before an image augmentation, "
                    "expected layers whose derivative is exact: TensorFlow's gradient "
                    f"of {reason}, and a hypergradient through it would be silently "
                    "wrong. Put the augmentation before the first trained layer, "
                    "apply it to the data, or use the JAX backend."
                )

            return plain(images=images, **options), gradient

        return without_gradient(tf.convert_to_tensor(images))

    return call
