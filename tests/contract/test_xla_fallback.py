"""Where XLA cannot compile a second derivative, run and sweep both leave it."""

import keras
import numpy as np
import pytest

import hypergrad as hg

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="JAX always compiles with XLA"
)


class Square(keras.layers.Layer):
    """x², with a second derivative that only a graph can run."""

    def call(self, x):
        import tensorflow as tf

        @tf.custom_gradient
        def double(dy, x):
            def pull(d):
                return (
                    tf.py_function(lambda a: a, [d * 2 * x], x.dtype),
                    tf.py_function(lambda a: a, [d * 2 * dy], x.dtype),
                )

            return dy * 2 * x, pull

        @tf.custom_gradient
        def square(x):
            return x * x, lambda dy: double(dy, x)

        return square(x)


def problem(jit_compile: bool) -> hg.Problem:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(3),
            Square(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), loss="mse", jit_compile=jit_compile)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(24, 5)), generator.normal(size=(24, 1))
    return hg.Problem.from_model(
        model,
        x,
        y,
        validation_data=(x, y),
        steps=4,
        batch_size=8,
        hyperparameters=["optimizer.learning_rate"],
    )


def test_the_sweep_differentiates_the_run_that_was_made():
    with pytest.warns(UserWarning, match="XLA cannot compile a derivative"):
        fallen = hg.hypergradient(problem(True))
    graph = hg.hypergradient(problem(False))
    # Dropout draws other numbers under XLA: equal losses mean that none was used.
    assert fallen.loss == graph.loss
    name = "optimizer.learning_rate"
    np.testing.assert_allclose(fallen.gradient[name], graph.gradient[name], rtol=1e-12)
