"""All search spaces: the same for every method. Fixed before the first comparison.

Every default is what Keras does where nothing is said: Adam(1e-3, 0.9, 0.999), no
penalty, weight 1 for every example. A grid, a random point and a descent know nothing
else. A change of this file makes results another version's.
"""

from collections.abc import Mapping
from typing import Any

import hypergrad as hg

Space = Mapping[str, Any]

RATE = hg.Float(1e-5, 1.0, sampling="log", default=1e-3)
# 1 − beta_1 in 1e-3..1 and 1 − beta_2 in 1e-4..1, evenly in their logarithms.
BETA_1 = hg.Float(0.0, 0.999, sampling="reverse_log", default=0.9)
BETA_2 = hg.Float(0.0, 0.9999, sampling="reverse_log", default=0.999)
L2 = hg.Float(1e-7, 1e-1, sampling="log", default=0.0)

ADAM: Space = {
    "optimizer.learning_rate": RATE,
    "optimizer.beta_1": BETA_1,
    "optimizer.beta_2": BETA_2,
}
ADAM_L2: Space = ADAM | {"*.kernel_regularizer.l2": L2}
ADAM_L2_EACH: Space = ADAM | {"*.kernel_regularizer.l2": hg.PerTarget(L2)}
ADAM_EPSILON_L2: Space = ADAM_L2 | {
    "optimizer.epsilon": hg.Float(1e-10, 1e-1, sampling="log", default=1e-7)
}
SGD_L2: Space = {
    "optimizer.learning_rate": hg.Float(1e-5, 1.0, sampling="log", default=1e-2),
    "optimizer.momentum": hg.Float(0.0, 0.999, sampling="reverse_log", default=0.0),
    "*.kernel_regularizer.l2": L2,
}
BATCH_NORM: Space = ADAM_L2 | {
    "batch_normalization*.momentum": hg.Float(
        0.0, 0.999, sampling="reverse_log", default=0.99
    )
}
EMBEDDING: Space = ADAM_L2 | {"embedding.embeddings_regularizer.l2": L2}
TEN: Space = {
    "optimizer.learning_rate": hg.Schedule(RATE, knots=4),
    "optimizer.beta_1": BETA_1,
    "optimizer.beta_2": BETA_2,
    "*.kernel_regularizer.l2": hg.PerTarget(L2),
    "loss.label_smoothing": hg.Float(0.0, 0.5, default=0.0),
}
"""4 + 1 + 1 + 3 + 1 = 10 numbers for a network with three kernels."""

RATE_SCHEDULE: Space = {"optimizer.learning_rate": hg.Schedule(RATE, knots=100)}
SCHEDULES_OF_VARIABLES: Space = {
    "optimizer.learning_rate": hg.Schedule(hg.PerVariable(RATE), knots=100),
    "optimizer.beta_1": hg.Schedule(hg.PerVariable(BETA_1), knots=100),
    "optimizer.beta_2": hg.Schedule(hg.PerVariable(BETA_2), knots=100),
    "*.kernel_regularizer.l2": hg.PerTarget(L2),
    "*.bias_regularizer.l2": hg.PerTarget(L2),
}
"""3 · 100 · 4 + 4 = 1204 numbers for an MLP with one hidden layer."""


def example_weights(rows: int) -> Space:
    """One weight for each example."""
    return {"data.sample_weight": hg.Float(0.0, 2.0, shape=(rows,), default=1.0)}


COSINE_PEAK = RATE
"""The range in which the peak of a hand-set cosine schedule is drawn."""
