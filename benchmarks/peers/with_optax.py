"""optax with `inject_hyperparams`, unrolled by `lax.scan` and differentiated whole."""

import jax
import jax.numpy as jnp
import optax
from case import EPSILON, HYPER, Case
from jax import lax
from peer import AbstractPeer


class Peer(AbstractPeer):
    """The hyperparameters are part of optax' state; JAX differentiates through it."""

    packages = ("jax", "optax")
    torch = False
    epsilon_inside = True

    def __init__(self, case: Case):
        jax.config.update("jax_enable_x64", case.dtype == "float64")
        self.start = [jnp.asarray(w) for w in case.weights()]
        x, y = map(jnp.asarray, case.data())
        order = jnp.asarray(case.order())
        held_out = tuple(map(jnp.asarray, case.validation()))
        adam = optax.inject_hyperparams(optax.adam)(*HYPER, eps=EPSILON)

        def loss(weights, x, y):
            *hidden, last = zip(weights[::2], weights[1::2])
            for kernel, bias in hidden:
                x = jax.nn.relu(x @ kernel + bias)
            logits = x @ last[0] + last[1]
            each = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return each.mean()

        def step(carry, rows):
            weights, state = carry
            gradient = jax.grad(loss)(weights, x[rows], y[rows])
            updates, state = adam.update(gradient, state, weights)
            return (optax.apply_updates(weights, updates), state), None

        def trained(hyper, start):
            state = adam.init(start)
            names = ("learning_rate", "b1", "b2")
            state.hyperparams.update(zip(names, hyper))
            (weights, _), _ = lax.scan(step, (start, state), order)
            return weights

        self._train = jax.jit(trained)
        self._slope = jax.jit(
            jax.value_and_grad(lambda h, start: loss(trained(h, start), *held_out))
        )
        self.hyper = [jnp.asarray(h, case.dtype) for h in HYPER]

    def train(self) -> None:
        jax.block_until_ready(self._train(self.hyper, self.start))

    def hypergradient(self) -> tuple[float, list[float | None]]:
        value, slopes = self._slope(self.hyper, self.start)
        return float(value), [float(s) for s in slopes]
