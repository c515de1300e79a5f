"""This library, on the backend that KERAS_BACKEND names."""

import keras
from case import EPSILON, HYPER, NAMES, Case
from peer import AbstractPeer

import hypergrad as hg


class Peer(AbstractPeer):
    """`hypergrad.hypergradient(problem)` with its default method."""

    packages = ("keras",)
    torch = False
    method: hg.methods.AbstractMethod = hg.Reverse()

    def __init__(self, case: Case):
        keras.config.set_floatx(case.dtype)
        if keras.backend.backend() == "jax":
            import jax

            jax.config.update("jax_enable_x64", case.dtype == "float64")
        *hidden, last = case.sizes[1:]
        layers = [keras.layers.Dense(n, "relu") for n in hidden]
        self.model = keras.Sequential(
            [keras.Input((case.sizes[0],)), *layers, keras.layers.Dense(last)]
        )
        self.model.set_weights(case.weights())
        rate, beta_1, beta_2 = HYPER
        self.model.compile(
            keras.optimizers.Adam(rate, beta_1, beta_2, epsilon=EPSILON),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        x, y = case.data()
        self.problem = hg.Problem.from_model(
            self.model, x, y.astype("int32"),
            validation_data=tuple(case.validation()),
            steps=case.steps, batch_size=case.batch, shuffle=False,
            hyperparameters=[f"optimizer.{name}" for name in NAMES],
        )  # fmt: skip

    def train(self) -> None:
        hg.evaluate(self.problem)

    def hypergradient(self) -> tuple[float, list[float | None]]:
        found = hg.hypergradient(self.problem, method=self.method)
        slopes = [float(found.gradient[f"optimizer.{name}"]) for name in NAMES]
        return float(found.loss), list(slopes)
