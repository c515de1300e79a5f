"""A hypergradient written by hand in JAX, for one model and one optimizer.

What an expert would write who needs only this: a dense network with ReLU, Adam as Keras
has it, all states and gradients stored, one step differentiated at a time,
second-order products forward over reverse. It is what `hypergrad` is timed against.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

EPSILON = 1e-7


def network(weights, x):
    """Logits; ``weights`` are kernel, bias, kernel, bias, …"""
    *hidden, last = zip(weights[::2], weights[1::2])
    for kernel, bias in hidden:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = last
    return x @ kernel + bias


def loss(weights, x, y):
    """Mean cross-entropy; ``y`` are integers."""
    log_p = jax.nn.log_softmax(network(weights, x))
    return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], axis=1))


def root(v):
    """√v with derivative 0 at 0, where a dead unit's second moment stays."""
    zero = v == 0.0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, v)))


def adam(weights, m, v, gradient, hyper, t):
    """One step of Adam, t = 1, 2, …; ``hyper`` is (learning rate, beta_1, beta_2)."""
    rate, beta_1, beta_2 = hyper
    alpha = rate * jnp.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)
    m = [m + (g - m) * (1.0 - beta_1) for m, g in zip(m, gradient)]
    v = [v + (g * g - v) * (1.0 - beta_2) for v, g in zip(v, gradient)]
    weights = [w - m * alpha / (root(v) + EPSILON) for w, m, v in zip(weights, m, v)]
    return weights, m, v


@partial(jax.jit, static_argnames="num_steps")
def _forward(hyper, start, x, y, order, num_steps):
    zeros = [jnp.zeros_like(w) for w in start]

    def step(state, now):
        t, rows = now
        gradient = jax.grad(loss)(state[0], x[rows], y[rows])
        return adam(*state, gradient, hyper, t), (state, gradient)

    times = jnp.arange(1.0, num_steps + 1.0)
    return lax.scan(step, (start, zeros, zeros), (times, order))


@jax.jit
def _backward(hyper, end, tape, x, y, order, x_val, y_val):
    value, cotangent = jax.value_and_grad(loss)(end[0], x_val, y_val)
    zeros = [jnp.zeros_like(w) for w in cotangent]

    def step(carry, now):
        (of_weights, of_m, of_v), of_hyper = carry
        t, rows, ((weights, m, v), gradient) = now
        slope = partial(jax.grad(loss), x=x[rows], y=y[rows])

        def update(weights, m, v, gradient, hyper):
            return adam(weights, m, v, gradient, hyper, t)

        _, pull = jax.vjp(update, weights, m, v, gradient, hyper)
        by_weights, by_m, by_v, by_gradient, by_hyper = pull((of_weights, of_m, of_v))
        _, product = jax.jvp(slope, (weights,), (by_gradient,))
        by_weights = [a + b for a, b in zip(by_weights, product)]
        total = [a + b for a, b in zip(of_hyper, by_hyper)]
        return ((by_weights, by_m, by_v), total), None

    times = jnp.arange(1.0, len(order) + 1.0)
    nothing = [jnp.zeros_like(h) for h in hyper]
    carry = ((cotangent, zeros, zeros), nothing)
    (_, total), _ = lax.scan(step, carry, (times, order, tape), reverse=True)
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
        self.start = [jnp.asarray(w) for w in weights]
        self.data = (jnp.asarray(x), jnp.asarray(y), jnp.asarray(order))
        self.held_out = (jnp.asarray(x_val), jnp.asarray(y_val))

    def __call__(self, hyper: Sequence[float]) -> tuple[float, list[float]]:
        """(E, dE by learning rate, beta_1 and beta_2)."""
        dtype = self.start[0].dtype
        given = [jnp.asarray(h, dtype) for h in hyper]
        end, tape = _forward(given, self.start, *self.data, num_steps=len(self.data[2]))
        value, total = _backward(given, end, tape, *self.data, *self.held_out)
        return float(value), [float(h) for h in total]
