"""A hypergradient written by hand in TensorFlow, for one model and one optimizer.

What an expert would write who needs only this: a dense network with ReLU, Adam as Keras
has it, all states stored, one step differentiated at a time, second-order products by
taping twice, compiled by XLA. It is what `hypergrad` is timed against.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

EPSILON = 1e-7


def network(weights, x):
    """Logits; ``weights`` are kernel, bias, kernel, bias, …"""
    *hidden, last = zip(weights[::2], weights[1::2])
    for kernel, bias in hidden:
        x = tf.nn.relu(x @ kernel + bias)
    kernel, bias = last
    return x @ kernel + bias


def loss(weights, x, y):
    """Mean cross-entropy; ``y`` are integers."""
    log_p = tf.nn.log_softmax(network(weights, x))
    return -tf.reduce_mean(tf.gather(log_p, y, axis=1, batch_dims=1))


def slope(weights, x, y):
    """The gradient of the loss."""
    with tf.GradientTape() as tape:
        tape.watch(weights)
        value = loss(weights, x, y)
    return tape.gradient(value, weights)


def root(v):
    """√v with derivative 0 at 0, where a dead unit's second moment stays."""
    zero = v == 0.0
    return tf.where(zero, tf.zeros_like(v), tf.sqrt(tf.where(zero, tf.ones_like(v), v)))


def adam(weights, m, v, gradient, hyper, t):
    """One step of Adam, t = 1, 2, …; ``hyper`` is (learning rate, beta_1, beta_2)."""
    rate, beta_1, beta_2 = hyper
    alpha = rate * tf.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)
    m = [m + (g - m) * (1.0 - beta_1) for m, g in zip(m, gradient)]
    v = [v + (g * g - v) * (1.0 - beta_2) for v, g in zip(v, gradient)]
    weights = [w - m * alpha / (root(v) + EPSILON) for w, m, v in zip(weights, m, v)]
    return weights, m, v


@tf.function(jit_compile=True)
def _both_ways(hyper, start, x, y, order, x_val, y_val):
    number = order.shape[0]
    dtype = start[0].dtype
    zeros = [tf.zeros_like(w) for w in start]

    def forward(i, state, stored):
        rows = order[i]
        flat = [part for group in state for part in group]
        stored = [array.write(i, part) for array, part in zip(stored, flat)]
        gradient = slope(state[0], tf.gather(x, rows), tf.gather(y, rows))
        return i + 1, adam(*state, gradient, hyper, tf.cast(i + 1, dtype)), stored

    begin = (list(start), zeros, [tf.zeros_like(w) for w in start])
    arrays = [
        tf.TensorArray(dtype, number, element_shape=part.shape)
        for group in begin
        for part in group
    ]
    _, end, stored = tf.while_loop(
        lambda i, *_: i < number, forward, (0, begin, arrays),
        maximum_iterations=number,
    )  # fmt: skip
    with tf.GradientTape() as tape:
        tape.watch(end[0])
        value = loss(end[0], x_val, y_val)
    cotangent = tape.gradient(value, end[0])

    def backward(i, of_state, of_hyper):
        parts = [array.read(i) for array in stored]
        k = len(start)
        weights, m, v = parts[:k], parts[k : 2 * k], parts[2 * k :]
        rows = order[i]
        with tf.GradientTape() as outer:
            outer.watch([weights, m, v, hyper])
            gradient = slope(weights, tf.gather(x, rows), tf.gather(y, rows))
            after = adam(weights, m, v, gradient, hyper, tf.cast(i + 1, dtype))
        by_weights, by_m, by_v, by_hyper = outer.gradient(
            after, [weights, m, v, list(hyper)], output_gradients=of_state
        )
        total = [a + b for a, b in zip(of_hyper, by_hyper)]
        return i - 1, (by_weights, by_m, by_v), total

    none = [tf.zeros_like(h) for h in hyper]
    carry = (number - 1, (cotangent, zeros, [tf.zeros_like(w) for w in start]), none)
    *_, total = tf.while_loop(
        lambda i, *_: i >= 0, backward, carry, maximum_iterations=number
    )
    return value, total


class Hypergradient:
    """E and its derivatives after training.

    Args:
        weights: list of NumPy arrays, kernel, bias, … of the initial network.
        x, y: training data; integers as labels.
        order: int array (T, batch size), the rows of each step.
        x_val, y_val: validation data.
    """

    def __init__(self, weights: Sequence[np.ndarray], x, y, order, x_val, y_val):
        self.start = [tf.constant(w) for w in weights]
        order = np.asarray(order, "int32")
        self.data = tuple(map(tf.constant, (x, y, order, x_val, y_val)))

    def __call__(self, hyper: Sequence[float]) -> tuple[float, list[float]]:
        """(E, dE by learning rate, beta_1 and beta_2)."""
        given = [tf.constant(h, self.start[0].dtype) for h in hyper]
        value, total = _both_ways(given, self.start, *self.data)
        return float(value), [float(h) for h in total]
