"""Whole training runs written out by hand in NumPy, differentiated by a complex step.

Independent of everything under test: no framework, no automatic differentiation. The
run is analytic in its numbers away from kinks, so that Im E(λ + iδ) / δ with δ = 1e-30
is dE/dλ to rounding, without cancellation. Kinks are decided by the real part.

References: Squire & Trapp 1998, SIAM Review 40(1).
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
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
    slots: list[dict[str, Any]] = [{"first": w} for w in weights]
    for t, (x, y) in enumerate(batches, start=1):
        grads = clip(net.gradient(weights, x, y, numbers), settings)
        weights = [decayed(w, optimizer, settings) for w in weights]
        update = UPDATES[optimizer]
        weights = [
            update(w, g, slot, t, settings) for w, g, slot in zip(weights, grads, slots)
        ]
    return weights


def decayed(w: np.ndarray, optimizer: str, settings: Numbers) -> np.ndarray:
    by_adam = optimizer == "Muon" and w.ndim != 2
    decay = settings.get("adam_weight_decay" if by_adam else "weight_decay") or 0.0
    return w - w * decay * settings["learning_rate"]


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
        grads[0] = grads[0] + numbers["l1"] * _slope_of_abs(first.real)
        grads[0] = grads[0] + 2 * numbers["l2"] * first
        return [*grads, a.T @ d_out, d_out.sum(0)]


def _slope_of_abs(x: np.ndarray) -> np.ndarray:
    """At 0, where Ftrl puts weights, it is 1 on JAX and 0 on TensorFlow."""
    if keras.backend.backend() == "jax":
        return np.where(x >= 0, 1.0, -1.0)
    return np.sign(x)


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


def _as_keras_rounds(x: float) -> float:
    """Constants inside of Keras' code pass through float32 on TensorFlow."""
    return x if keras.backend.backend() == "jax" else float(np.float32(x))


def _norm(x: Any) -> Any:
    return _root(np.sum(x * x))


def _root(v: Any) -> Any:
    """√v; √0 has no complex derivative, and is met next to a 0 only."""
    v = np.asarray(v)
    return np.where(v == 0, 0.0, np.sqrt(np.where(v == 0, 1.0, v)))


def _moments(g: Any, slot: dict, s: Numbers, prefix: str = "") -> tuple[Any, Any]:
    b1, b2 = s[prefix + "beta_1"], s[prefix + "beta_2"]
    slot["m"] = b1 * slot.get("m", 0.0) + (1 - b1) * g
    slot["v"] = b2 * slot.get("v", 0.0) + (1 - b2) * g * g
    return slot["m"], slot["v"]


def _sgd(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    mu, rate = s.get("momentum", 0.0), s["learning_rate"]
    slot["v"] = mu * slot.get("v", 0.0) + rate * g
    return w - (mu * slot["v"] + rate * g if s.get("nesterov") else slot["v"])


def _rmsprop(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    rho = s["rho"]
    slot["v"] = rho * slot.get("v", 0.0) + (1 - rho) * g * g
    under = slot["v"] + s["epsilon"]
    if s.get("centered"):
        slot["a"] = rho * slot.get("a", 0.0) + (1 - rho) * g
        under = under - slot["a"] ** 2
    slot["d"] = s.get("momentum", 0.0) * slot.get("d", 0.0)
    slot["d"] = slot["d"] + s["learning_rate"] * g / np.sqrt(under)
    return w - slot["d"]


def _adam(
    w: Any, g: Any, slot: dict, t: int, s: Numbers, prefix: str = "", factor: Any = 1.0
) -> Any:
    b1, b2 = s[prefix + "beta_1"], s[prefix + "beta_2"]
    m, v = _moments(g, slot, s, prefix)
    if s.get("amsgrad"):
        u = slot.get("u", np.zeros_like(v))
        v = slot["u"] = np.where(u.real > v.real, u, v)
    rate = factor * s["learning_rate"] * np.sqrt(1 - b2**t) / (1 - b1**t)
    return w - rate * m / (_root(v) + s["epsilon"])


def _adadelta(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    rho, eps = s["rho"], s["epsilon"]
    before = slot.get("s", 0.0)
    slot["v"] = rho * slot.get("v", 0.0) + (1 - rho) * g * g
    d = g * np.sqrt((before + eps) / (slot["v"] + eps))
    slot["s"] = rho * before + (1 - rho) * d * d
    return w - s["learning_rate"] * d


def _adagrad(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    start = s.get("initial_accumulator_value", _as_keras_rounds(0.1))
    slot["a"] = slot.get("a", start) + g * g
    return w - s["learning_rate"] * g / np.sqrt(slot["a"] + s["epsilon"])


def _adamax(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    m, _ = _moments(g, slot, s)
    old, new = s["beta_2"] * slot.get("u", np.zeros_like(g)), g * np.sign(g.real)
    slot["u"] = np.where(old.real > new.real, old, new)
    rate = s["learning_rate"] / (1 - s["beta_1"] ** t)
    return w - rate * m / (slot["u"] + s["epsilon"])


def _nadam(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    b1 = s["beta_1"]
    m, v = _moments(g, slot, s)
    slot["p"] = slot.get("p", 1.0) * b1 * (1 - 0.5 * 0.96**t)
    # One of its two 0.96 is rounded, the one above is not.
    decay = _as_keras_rounds(0.96)
    now, then = (b1 * (1 - 0.5 * decay**k) for k in (t, t + 1))
    look = then * m / (1 - slot["p"] * then) + (1 - now) * g / (1 - slot["p"])
    v = v / (1 - s["beta_2"] ** t)
    return w - s["learning_rate"] * look / (_root(v) + s["epsilon"])


def _lamb(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    m, v = _moments(g, slot, s)
    d = m / (1 - s["beta_1"] ** t)
    d = d / (_root(v / (1 - s["beta_2"] ** t)) + s["epsilon"])
    lengths = _norm(w), _norm(d)
    ratio = lengths[0] / lengths[1] if all(x.real > 0 for x in lengths) else 1.0
    return w - s["learning_rate"] * ratio * d


def _lion(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    m = slot.get("m", np.zeros_like(g))
    direction = np.sign((s["beta_1"] * m + (1 - s["beta_1"]) * g).real)
    slot["m"] = s["beta_2"] * m + (1 - s["beta_2"]) * g
    return w - s["learning_rate"] * direction


def _ftrl(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    rate, p = s["learning_rate"], -s["learning_rate_power"]
    start = s.get("initial_accumulator_value", _as_keras_rounds(0.1))
    n = slot.get("n", start)
    slot["n"] = n + g * g
    shrinkage = s.get("l2_shrinkage_regularization_strength", 0.0)
    sigma = (slot["n"] ** p - n**p) / rate
    slot["z"] = z = slot.get("z", 0.0) + g + 2 * shrinkage * w - sigma * w
    l1 = s.get("l1_regularization_strength", 0.0)
    l2 = s.get("l2_regularization_strength", 0.0)
    slope = (slot["n"] ** p + s["beta"]) / rate + 2 * l2
    return np.where(np.abs(z.real) < _real(l1), 0.0, (l1 * np.sign(z.real) - z) / slope)


def _adafactor(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    def rms(x: Any) -> Any:
        return _root(np.mean(x * x))

    def larger(x: Any, y: Any) -> Any:
        return x if _real(x) > _real(y) else y

    beta, q = 1 - t ** s["beta_2_decay"], g * g + s["epsilon_1"]
    if w.ndim == 2:
        slot["r"] = beta * slot.get("r", 0.0) + (1 - beta) * q.mean(1)
        slot["c"] = beta * slot.get("c", 0.0) + (1 - beta) * q.mean(0)
        v = np.outer(slot["r"], slot["c"]) / slot["r"].mean()
    else:
        v = slot["v"] = beta * slot.get("v", 0.0) + (1 - beta) * q
    u = g / np.sqrt(v)
    u = u / larger(1.0, rms(u) / s["clip_threshold"])
    rate = s["learning_rate"]
    rate = rate if _real(rate) < t**-0.5 else t**-0.5
    return w - larger(s["epsilon_2"], rms(w)) * rate * u


def _muon(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    if w.ndim != 2:
        return _adam(w, g, slot, t, s, "adam_", s["adam_lr_ratio"])
    slot["m"] = s["momentum"] * slot.get("m", 0.0) + g
    x = g + s["momentum"] * slot["m"] if s.get("nesterov", True) else slot["m"]
    x = x / (_norm(x) + 1e-7)
    for _ in range(s["ns_steps"]):
        a = x.T @ x
        x = s["muon_a"] * x + x @ (s["muon_b"] * a + s["muon_c"] * a @ a)
    scale = 1.0 if s["rms_rate"] is None else s["rms_rate"] * max(w.shape) ** 0.5
    return w - s["learning_rate"] * scale * x


# On TensorFlow Keras' ScheduleFreeAdamW reads its momentum after the step.
_READS_NEW = keras.backend.backend() == "tensorflow"


def _schedule_free(w: Any, g: Any, slot: dict, t: int, s: Numbers) -> Any:
    b1 = s["beta_1"]
    _, v = _moments(g, slot, s)
    rate = s["learning_rate"] * min(1.0, t / s.get("warmup_steps", 1))
    old = slot.get("z", slot.get("first"))
    v = v / (1 - s["beta_2"] ** t)
    slot["z"] = z = old - rate * g / (_root(v) + s["epsilon"])
    x = (w - (1 - b1) * (z if _READS_NEW else old)) / b1
    return (1 - b1) * z + b1 * ((1 - 1 / t) * x + z / t)


UPDATES = {
    "SGD": _sgd,
    "RMSprop": _rmsprop,
    "Adam": _adam,
    "AdamW": _adam,
    "Adadelta": _adadelta,
    "Adafactor": _adafactor,
    "Adagrad": _adagrad,
    "Adamax": _adamax,
    "Ftrl": _ftrl,
    "Lamb": _lamb,
    "Lion": _lion,
    "Muon": _muon,
    "Nadam": _nadam,
    "ScheduleFreeAdamW": _schedule_free,
}
