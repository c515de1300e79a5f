"""Whole training runs written out by hand in NumPy, differentiated by a complex step.

Independent of everything under test: no framework, no automatic differentiation. The
run is analytic in its numbers away from kinks, so that Im E(λ + iδ) / δ with δ = 1e-30
is dE/dλ to rounding, without cancellation. Kinks are decided by the real part.

References: Squire & Trapp 1998, SIAM Review 40(1).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

DELTA = 1e-30

Numbers = Mapping[str, Any]
Weights = list[np.ndarray]


def complex_step(
    loss: Callable[[dict[str, Any]], complex], values: Numbers
) -> tuple[float, dict[str, float]]:
    """(E, dE/dvalue for each)."""
    value = float(loss(dict(values)).real)
    gradient = {
        name: float(loss({**values, name: x + 1j * DELTA}).imag / DELTA)
        for name, x in values.items()
    }
    return value, gradient


def train(
    net: "TwoLayers",
    optimizer: str,
    settings: Numbers,
    numbers: Numbers,
    weights: Weights,
    batches: list[tuple[np.ndarray, np.ndarray]],
) -> Weights:
    """The weights after one step for each batch.

    ``settings``: what the optimizer was constructed with; ``numbers``: optimizer
    attribute → value of what is tuned, and "l1", "l2".
    """
    settings = {**settings, **numbers}
    slots: list[dict[str, Any]] = [{} for _ in weights]
    for t, (x, y) in enumerate(batches, start=1):
        grads = clip(net.gradient(weights, x, y, numbers), settings)
        decay = settings.get("weight_decay") or 0.0
        rate = settings["learning_rate"]
        weights = [w - w * decay * rate for w in weights]
        update = UPDATES[optimizer]
        weights = [
            w - update(g, slot, t, settings)
            for w, g, slot in zip(weights, grads, slots)
        ]
    return weights


class TwoLayers:
    """x → [act(x K + b), …] → · V + c with mean squared error.

    ``branches``: how many hidden layers stand side by side; the penalty is on the
    kernel of the first.
    """

    def __init__(self, activation: str, branches: int = 1):
        self.activation = activation
        self.branches = branches

    def hidden(self, weights: Weights, x: np.ndarray) -> tuple[Any, Any, np.ndarray]:
        kernel = np.concatenate([weights[2 * i] for i in range(self.branches)], axis=1)
        bias = np.concatenate([weights[2 * i + 1] for i in range(self.branches)])
        z = x @ kernel + bias
        if self.activation == "tanh":
            return z, np.tanh(z), 1 - np.tanh(z) ** 2
        live = (z.real > 0).astype(float)
        return z, z * live, live

    def loss(self, weights: Weights, x: np.ndarray, y: np.ndarray) -> complex:
        out = self.hidden(weights, x)[1] @ weights[-2] + weights[-1]
        return np.mean((out - y) ** 2)

    def gradient(
        self, weights: Weights, x: np.ndarray, y: np.ndarray, numbers: Numbers
    ) -> Weights:
        _, a, slope = self.hidden(weights, x)
        d_out = 2 * (a @ weights[-2] + weights[-1] - y) / y.size
        d_z = (d_out @ weights[-2].T) * slope
        grads, column = [], 0
        for i in range(self.branches):
            width = weights[2 * i].shape[1]
            part = d_z[:, column : column + width]
            grads += [x.T @ part, part.sum(0)]
            column += width
        first = weights[0]
        grads[0] = grads[0] + numbers["l1"] * np.sign(first.real)
        grads[0] = grads[0] + 2 * numbers["l2"] * first
        return [*grads, a.T @ d_out, d_out.sum(0)]


def clip(grads: Weights, settings: Numbers) -> Weights:
    def norm(*arrays: np.ndarray) -> complex:
        return np.sqrt(sum(np.sum(g * g) for g in arrays))

    if "clipnorm" in settings:
        c = settings["clipnorm"]
        return [g * c / n if _real(n := norm(g)) > _real(c) else g for g in grads]
    if "global_clipnorm" in settings:
        c, n = settings["global_clipnorm"], norm(*grads)
        return [g * c / n for g in grads] if _real(n) > _real(c) else grads
    if "clipvalue" in settings:
        c = settings["clipvalue"]
        over = [np.abs(g.real) > _real(c) for g in grads]
        return [np.where(o, c * np.sign(g.real), g) for o, g in zip(over, grads)]
    return grads


def _real(x: Any) -> float:
    return float(np.real(x))


def _sgd(g: Any, slot: dict, t: int, s: Numbers) -> Any:
    mu, rate = s.get("momentum", 0.0), s["learning_rate"]
    slot["v"] = mu * slot.get("v", 0.0) + rate * g
    return mu * slot["v"] + rate * g if s.get("nesterov") else slot["v"]


def _rmsprop(g: Any, slot: dict, t: int, s: Numbers) -> Any:
    rho = s["rho"]
    slot["v"] = rho * slot.get("v", 0.0) + (1 - rho) * g * g
    under = slot["v"] + s["epsilon"]
    if s.get("centered"):
        slot["a"] = rho * slot.get("a", 0.0) + (1 - rho) * g
        under = under - slot["a"] ** 2
    slot["d"] = s.get("momentum", 0.0) * slot.get("d", 0.0)
    slot["d"] = slot["d"] + s["learning_rate"] * g / np.sqrt(under)
    return slot["d"]


def _adam(g: Any, slot: dict, t: int, s: Numbers) -> Any:
    b1, b2 = s["beta_1"], s["beta_2"]
    slot["m"] = b1 * slot.get("m", 0.0) + (1 - b1) * g
    slot["v"] = b2 * slot.get("v", 0.0) + (1 - b2) * g * g
    v = slot["v"]
    if s.get("amsgrad"):
        u = slot.get("u", np.zeros_like(v))
        v = slot["u"] = np.where(u.real > v.real, u, v)
    # √0 has no complex derivative; m is 0 where v is.
    root = np.where(v == 0, 0.0, np.sqrt(np.where(v == 0, 1.0, v)))
    rate = s["learning_rate"] * np.sqrt(1 - b2**t) / (1 - b1**t)
    return rate * slot["m"] / (root + s["epsilon"])


UPDATES = {"SGD": _sgd, "RMSprop": _rmsprop, "Adam": _adam, "AdamW": _adam}
