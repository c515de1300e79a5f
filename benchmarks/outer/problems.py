"""What outer loops are compared on: four numbers of one MLP, and as many starts."""

import dataclasses
from functools import cache

import keras
import numpy as np

import hypergrad as hg
from benchmark_utils import data, models, spaces
from benchmark_utils.task import Task


@cache
def fashion() -> data.Split:
    """12,000 training images of Fashion-MNIST, 6,000 to validate, the test images."""
    (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    x, x_test = (part.astype("float32") / 255.0 for part in (x, x_test))
    y, y_test = y.astype("int32"), y_test.astype("int32")
    return data.Split(
        (x[:12000], y[:12000]), (x[12000:18000], y[12000:18000]), (x_test, y_test)
    )


SPLITS = {"mnist": data.mnist, "fashion": fashion}


@cache
def task(name: str, penalised_biases: bool = False) -> Task:
    """300 steps of batch 64, hidden 64: problem 2 of the comparison, and another."""

    def build() -> keras.Model:
        return models.image_mlp(bias=penalised_biases)

    return Task(name, build, SPLITS[name](), 300, 64, spaces.ADAM_L2)


def started(problem: hg.Problem, start: int) -> hg.Problem:
    """The problem with a random point of its space as the user's start.

    Args:
        problem: the problem.
        start: int, which random point. An array has one value for all its entries.
    """
    q = np.random.default_rng([1, start]).random(len(problem.space))
    return problem.replace(
        space={
            name: dataclasses.replace(
                float_, default=float_.sample(np.full(float_.shape, q[i]))
            )
            for i, (name, float_) in enumerate(problem.space.items())
        }
    )
