"""An optimizer as a user writes one: attributes, slots, and Python branches on them."""

import keras
import numpy as np
import pytest
from keras import ops

import hypergrad as hg
from truth import check_against_differences

EPOCHS, ROWS, BATCH = 2, 20, 8


class Careful(keras.optimizers.Optimizer):
    """A heavy ball that damps, and turns around where gradient and velocity disagree.

    ``momentum`` and ``damping`` are used where they are positive, ``patience`` decides
    between two rules.
    """

    def __init__(
        self,
        learning_rate=0.05,
        momentum=0.75,
        damping=0.125,
        brake=0.5,
        patience=0.25,
        name="careful",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.damping = damping
        self.brake = brake
        self.patience = patience

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = []
        if self.momentum > 0:
            self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype)
        if self.damping:
            gradient = gradient / (1 + self.damping * ops.abs(gradient))
        if self.momentum > 0:
            velocity = self.velocities[self._get_variable_index(variable)]
            old = ops.convert_to_tensor(velocity)
            kept = ops.where(old * gradient <= 0, old, self.brake * old)
            new = self.momentum * kept - rate * gradient
            self.assign(velocity, new)
        else:
            new = -rate * gradient
        if self.patience > 0.5:
            new = new / 2
        self.assign_add(variable, new)

    def get_config(self):
        own = ("momentum", "damping", "brake", "patience")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


NUMBERS = {
    "optimizer.learning_rate": hg.Float(1e-3, 0.5, sampling="log"),
    "optimizer.momentum": hg.Float(0.0, 0.99),
    "optimizer.damping": hg.Float(0.0, 1.0),
    "optimizer.brake": hg.Float(0.0, 1.0),
}


def problem_of(optimizer, numbers=NUMBERS) -> hg.Problem:
    keras.utils.set_random_seed(1)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(ROWS, 3)), draw.normal(size=(ROWS, 1))
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer=optimizer, loss="mse")
    return hg.Problem.from_model(
        model,
        x[:-4],
        y[:-4],
        validation_data=(x[-4:], y[-4:]),
        epochs=EPOCHS,
        batch_size=BATCH,
        hyperparameters=numbers,
    )


def test_its_attributes_are_tuned_exactly():
    problem = problem_of(Careful())
    values = {name: float(v) for name, v in problem.values().items()}
    check_against_differences(problem, values)


def test_training_is_that_of_fit():
    problem = problem_of(Careful())
    ours = hg.hypergradient(problem)
    model = problem.keras.model
    x, y = problem.data["train"]["x"], problem.data["train"]["y"]
    for t in range(problem.num_steps):
        rows = np.ravel(problem.batch(t))
        model.train_on_batch(np.asarray(x)[rows], np.asarray(y)[rows])
    for a, b in zip(ours.info["final_state"].weights, model.trainable_variables):
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-6)


def test_a_branch_that_the_range_does_not_decide_names_file_and_line():
    numbers = {"optimizer.patience": hg.Float(0.0, 1.0)}
    with pytest.raises(TypeError) as caught:
        hg.hypergradient(problem_of(Careful(), numbers))
    source = __file__
    with open(source, encoding="utf-8") as file:
        line = 1 + next(i for i, s in enumerate(file) if "self.patience > 0.5" in s)
    assert f"{source}:{line}" in str(caught.value)
    assert "optimizer.patience" in str(caught.value)


def test_a_range_on_one_side_of_the_branch_is_accepted():
    problem = problem_of(
        Careful(patience=0.75), {"optimizer.patience": hg.Float(0.6, 0.9)}
    )
    with pytest.warns(UserWarning, match=r"`optimizer.patience` ha"):
        h = hg.hypergradient(problem)
    assert h.gradient["optimizer.patience"] == 0.0
