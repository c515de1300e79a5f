"""The truth: training in NumPy float64, differentiated by differences."""

import numpy as np
from case import EPSILON, HYPER, Case


def validation_loss(case: Case, hyper, epsilon_inside: bool = False) -> float:
    """E after training, in float64.

    Args:
        case: the training.
        hyper: (learning rate, beta_1, beta_2).
        epsilon_inside: where Adam adds ε: False, to √v as Keras does; True, to
            √(v / (1 − beta_2ᵗ)) as PyTorch and optax do.
    """
    rate, beta_1, beta_2 = hyper
    weights = [w.astype("float64") for w in case.weights()]
    m, v = ([np.zeros_like(w) for w in weights] for _ in range(2))
    x, y = case.data()
    for t, rows in enumerate(case.order(), 1):
        gradient = _gradient(weights, x[rows], y[rows])
        m = [beta_1 * a + (1 - beta_1) * g for a, g in zip(m, gradient)]
        v = [beta_2 * a + (1 - beta_2) * g * g for a, g in zip(v, gradient)]
        shrink = np.sqrt(1 - beta_2**t)
        epsilon = EPSILON * shrink if epsilon_inside else EPSILON
        alpha = rate * shrink / (1 - beta_1**t)
        weights = [
            w - alpha * a / (np.sqrt(b) + epsilon) for w, a, b in zip(weights, m, v)
        ]
    return _loss(weights, *case.validation())


def derivatives(case: Case, epsilon_inside: bool = False) -> list[float]:
    """dE by learning rate, beta_1 and beta_2: central differences, extrapolated.

    ``(4 D(h/2) − D(h)) / 3`` with ``D(h) = (E(λ+h) − E(λ−h)) / 2h``; error O(h⁴).
    """
    found = []
    for i, value in enumerate(HYPER):
        width = 1e-3 * min(value, 1 - value)

        def slope(h: float, i: int = i) -> float:
            ends = []
            for side in (h, -h):
                hyper = list(HYPER)
                hyper[i] += side
                ends.append(validation_loss(case, hyper, epsilon_inside))
            return (ends[0] - ends[1]) / (2 * h)

        found.append((4 * slope(width / 2) - slope(width)) / 3)
    return found


def _forward(weights, x):
    inputs = [x]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2]):
        inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0.0))
    logits = inputs[-1] @ weights[-2] + weights[-1]
    logits = logits - logits.max(axis=1, keepdims=True)
    return inputs, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _loss(weights, x, y) -> float:
    _, log_p = _forward(weights, x.astype("float64"))
    return -float(log_p[np.arange(len(y)), y].mean())


def _gradient(weights, x, y) -> list[np.ndarray]:
    inputs, log_p = _forward(weights, x.astype("float64"))
    cotangent = np.exp(log_p)
    cotangent[np.arange(len(y)), y] -= 1.0
    cotangent /= len(y)
    found: list[np.ndarray] = []
    for layer in reversed(range(len(inputs))):
        found[:0] = [inputs[layer].T @ cotangent, cotangent.sum(axis=0)]
        if layer:
            cotangent = (cotangent @ weights[2 * layer].T) * (inputs[layer] > 0)
    return found
