"""Problems whose hypergradients are known in closed form.

Gradient descent and heavy ball on f(w) = ½ w'Hw − b'w with w* = H⁻¹b, e₀ = w₀ − w* and
g = ∇E(w_T), and ridge regression at its solution. The letters are those of the list in
``tests/contract/test_closed_forms.py``; all expected numbers are plain NumPy.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

import hypergrad as hg


class State(NamedTuple):
    """``weights``: array (d,); ``velocity``: the same, or () without momentum."""

    weights: Any
    velocity: Any


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """A problem, values, and what E and its hypergradient are there.

    ``converged``: whether the run ends at the solution of the inner problem, which
    methods of implicit differentiation need.
    """

    problem: hg.Problem
    values: dict[str, Any]
    loss: float
    gradient: dict[str, np.ndarray]
    converged: bool = False


class Quadratic(NamedTuple):
    """H = Q diag(eigenvalues) Q', b, and a start; NumPy arrays."""

    eigenvalues: np.ndarray
    basis: np.ndarray
    b: np.ndarray
    start: np.ndarray

    @property
    def hessian(self) -> np.ndarray:
        return (self.basis * self.eigenvalues) @ self.basis.T

    @property
    def solution(self) -> np.ndarray:
        return self.basis @ ((self.basis.T @ self.b) / self.eigenvalues)

    @property
    def data(self) -> dict[str, np.ndarray]:
        return {"H": self.hessian, "b": self.b, "start": self.start}

    def power(self, factors: np.ndarray) -> np.ndarray:
        """Q diag(factors) Q' applied to e₀."""
        return self.basis @ (factors * (self.basis.T @ (self.start - self.solution)))


def quadratic(eigenvalues: Any = (0.5, 1.0, 2.0, 4.0), seed: int = 0) -> Quadratic:
    draw = np.random.default_rng(seed)
    h = np.asarray(eigenvalues, np.float64)
    basis = np.linalg.qr(draw.normal(size=(h.size, h.size)))[0]
    solution, start = draw.normal(size=(2, h.size))
    return Quadratic(h, basis, basis @ (h * (basis.T @ solution)), start)


# The pure functions; ``data`` is a dict with "H", "b", "start"


def init(hparams: dict, data: dict) -> State:
    start = hparams.get("start", data["start"])
    return State(start, ops.zeros_like(start))


def train_loss(
    weights: Any, state: State, hparams: dict, batch: Any, data: dict
) -> tuple[Any, tuple]:
    curved = ops.matmul(data["H"], weights)
    return 0.5 * ops.sum(weights * curved) - ops.sum(data["b"] * weights), ()


def descend(
    grads: Any, state: State, hparams: dict, aux: Any, data: dict
) -> tuple[State, dict]:
    """w ← w − a ∇f."""
    return State(state.weights - hparams["rate"] * grads, state.velocity), {}


def heavy_ball_update(
    grads: Any, state: State, hparams: dict, aux: Any, data: dict
) -> tuple[State, dict]:
    """v ← μ v + ∇f; w ← w − a v."""
    velocity = hparams["momentum"] * state.velocity + grads
    return State(state.weights - hparams["rate"] * velocity, velocity), {}


def opaque(update: Callable) -> Callable:
    """``update`` on the gradient Hw − b, written as one ``step``."""

    def step(state: State, hparams: dict, batch: Any, data: dict) -> tuple:
        grads = ops.matmul(data["H"], state.weights) - data["b"]
        return update(grads, state, hparams, (), data)

    return step


def wavy_loss(state: State, hparams: dict, data: dict) -> Any:
    """E(w) = Σ sin(i w_i) + ¼ Σ w_i⁴ / 10: no more symmetric than need be."""
    w = state.weights
    i = ops.arange(1.0, w.shape[0] + 1.0, dtype=w.dtype)
    return ops.sum(ops.sin(i * w)) + 0.025 * ops.sum(w**4)


def wavy(w: np.ndarray) -> tuple[float, np.ndarray]:
    """(E, ∇E) of `wavy_loss`."""
    i = np.arange(1.0, w.size + 1.0)
    value = np.sum(np.sin(i * w)) + 0.025 * np.sum(w**4)
    return float(value), i * np.cos(i * w) + 0.1 * w**3


UNIT = hg.Float(0.0, 1.0, default=0.5)


def on_quadratic(q: Quadratic, **parts: Any) -> hg.Problem:
    """Gradient descent on ``q``, unless ``parts`` say otherwise."""
    given: dict[str, Any] = {
        "init": init,
        "val_loss": wavy_loss,
        "space": {"rate": UNIT},
        "data": q.data,
    }
    if "step" not in parts:
        given |= {"train_loss": train_loss, "update": descend}
    return hg.Problem(**(given | parts))


# The closed forms


def constant_rate(num_steps: int = 7, rate: float = 0.3) -> ClosedForm:
    """A. w_T = w* + (I−aH)^T e₀; dE/da = −T g'(I−aH)^(T−1) H e₀."""
    q = quadratic()
    h = q.eigenvalues
    loss, g = wavy(q.solution + q.power((1 - rate * h) ** num_steps))
    d_rate = -num_steps * g @ q.power((1 - rate * h) ** (num_steps - 1) * h)
    problem = on_quadratic(q, num_steps=num_steps)
    return ClosedForm(problem, {"rate": rate}, loss, {"rate": np.asarray(d_rate)})


def rate_per_step(num_steps: int = 7) -> ClosedForm:
    """B. dE/da_s = −g'H ∏_{t≠s}(I−a_t H) e₀."""
    q = quadratic(seed=1)
    h = q.eigenvalues
    rates = np.linspace(0.05, 0.4, num_steps)
    factors = 1 - rates[:, None] * h
    loss, g = wavy(q.solution + q.power(factors.prod(0)))
    gradient = [
        -g @ q.power(h * np.delete(factors, s, axis=0).prod(0))
        for s in range(num_steps)
    ]
    problem = on_quadratic(
        q,
        num_steps=num_steps,
        space={"rate": dataclasses.replace(UNIT, shape=(num_steps,))},
        bind=lambda hparams: {"rate": hg.PerStep(hparams["rate"])},
    )
    return ClosedForm(problem, {"rate": rates}, loss, {"rate": np.array(gradient)})


def heavy_ball(
    condition: float = 8.0,
    num_steps: int = 9,
    rate: float | None = None,
    momentum: float | None = None,
) -> ClosedForm:
    """C. (e, v)' = K (e, v)' for each eigenvalue h, K = [[1−ah, −aμ], [h, μ]].

    Rate and momentum are Polyak's optimal ones unless given. The powers of K are taken
    in extended precision, the derivative as the corner of [[K, dK], [0, K]]^T, which is
    Σ_t K^(T−1−t) dK K^t.
    """
    q = quadratic(np.geomspace(1.0, condition, 4), seed=2)
    root = np.sqrt(condition)
    rate = 4.0 / (1.0 + root) ** 2 if rate is None else rate
    momentum = ((root - 1) / (root + 1)) ** 2 if momentum is None else momentum
    e0 = (q.basis.T @ (q.start - q.solution)).astype(np.longdouble)
    end = np.empty(4, np.longdouble)
    by_rate, by_momentum = np.empty_like(end), np.empty_like(end)
    for i, h in enumerate(q.eigenvalues.astype(np.longdouble)):
        a, m = np.longdouble(rate), np.longdouble(momentum)
        K = np.array([[1 - a * h, -a * m], [h, m]])
        d_rate = np.array([[-h, -m], [0, 0]], np.longdouble)
        d_momentum = np.array([[0, -a], [0, 1]], np.longdouble)
        end[i] = (_power(K, num_steps) @ [e0[i], 0])[0]
        by_rate[i] = (_corner(K, d_rate, num_steps) @ [e0[i], 0])[0]
        by_momentum[i] = (_corner(K, d_momentum, num_steps) @ [e0[i], 0])[0]
    loss, g = wavy(q.solution + q.basis @ end.astype(float))
    g = q.basis.T @ g
    problem = on_quadratic(
        q,
        num_steps=num_steps,
        update=heavy_ball_update,
        space={"rate": hg.Float(0.0, 2.0), "momentum": hg.Float(0.0, 1.0)},
    )
    gradient = {
        "rate": np.asarray(float(g @ by_rate)),
        "momentum": np.asarray(float(g @ by_momentum)),
    }
    return ClosedForm(problem, {"rate": rate, "momentum": momentum}, loss, gradient)


def _power(matrix: np.ndarray, exponent: int) -> np.ndarray:
    result = np.eye(len(matrix), dtype=matrix.dtype)
    while exponent:
        if exponent % 2:
            result = result @ matrix
        matrix, exponent = matrix @ matrix, exponent // 2
    return result


def _corner(K: np.ndarray, dK: np.ndarray, exponent: int) -> np.ndarray:
    block = np.block([[K, dK], [np.zeros_like(K), K]])
    return _power(block, exponent)[:2, 2:]


def one_step(at_cauchy_step: bool = False) -> ClosedForm:
    """D. d f(w₁)/da = −∇f(w₁)'∇f(w₀); zero at the Cauchy step a = g₀'g₀ / g₀'Hg₀."""
    q = quadratic(seed=3)
    H, b = q.hessian, q.b
    g0 = H @ q.start - b
    rate = float(g0 @ g0 / (g0 @ H @ g0)) if at_cauchy_step else 0.2
    w1 = q.start - rate * g0
    g1 = H @ w1 - b
    problem = on_quadratic(
        q,
        num_steps=1,
        val_loss=lambda state, hparams, data: train_loss(
            state.weights, state, hparams, None, data
        )[0],
    )
    d_rate = 0.0 if at_cauchy_step else -g1 @ g0
    return ClosedForm(
        problem,
        {"rate": rate},
        float(0.5 * w1 @ H @ w1 - b @ w1),
        {"rate": np.asarray(d_rate)},
    )


def initial_weights(num_steps: int = 6, rate: float = 0.2) -> ClosedForm:
    """E. dE/dw₀ = (I−aH)^T g."""
    q = quadratic(seed=4)
    factors = (1 - rate * q.eigenvalues) ** num_steps
    loss, g = wavy(q.solution + q.power(factors))
    problem = on_quadratic(
        q,
        num_steps=num_steps,
        space={"start": hg.Float(shape=(4,), default=0.0), "rate": UNIT},
    )
    d_start = q.basis @ (factors * (q.basis.T @ g))
    d_rate = (
        -num_steps
        * g
        @ q.power((1 - rate * q.eigenvalues) ** (num_steps - 1) * q.eigenvalues)
    )
    return ClosedForm(
        problem,
        {"start": q.start, "rate": rate},
        loss,
        {"start": d_start, "rate": np.asarray(d_rate)},
    )


RIDGE_STEPS = 400


def ridge(kind: str = "shared") -> ClosedForm:
    """F. Ridge regression trained to its solution w = A⁻¹X'Sy.

    ``kind`` "shared": mean loss, A = X'X/N + lI, dV/dl = −∇V'A⁻¹w. "per_feature":
    −(A⁻¹∇V)_i w_i. "per_example": sum form, A = X'SX + lI, dV/ds_i =
    −(XA⁻¹∇V)_i (x_i'w − y_i), here with the l that makes dV/dl of it known too.
    """
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=(9, 3)), draw.normal(size=9)
    l: Any = 0.4 if kind != "per_feature" else np.array([0.3, 0.5, 0.8])
    s = np.full(9, 1.0 / 9.0)
    if kind == "per_example":
        s = draw.uniform(0.05, 0.2, size=9)
    A = (x.T * s) @ x + np.diag(np.broadcast_to(l, 3))
    w = np.linalg.solve(A, x.T @ (s * y))
    loss, g = wavy(w)
    pulled = np.linalg.solve(A, g)
    gradient = {"l": -pulled * w if kind == "per_feature" else np.asarray(-pulled @ w)}
    values: dict[str, Any] = {"l": l}
    space = {"l": hg.Float(0.0, 2.0, shape=np.shape(l))}
    if kind == "per_example":
        gradient["s"] = -(x @ pulled) * (x @ w - y)
        values["s"] = s
        space["s"] = hg.Float(0.0, 1.0, shape=(9,))
    rate = 2.0 / sum(np.linalg.eigvalsh(A)[[0, -1]])

    def loss_of_ridge(weights, state, hparams, batch, data):
        residual = ops.matmul(data["x"], weights) - data["y"]
        weight = hparams.get("s", data["s"])
        fit = 0.5 * ops.sum(weight * residual**2)
        return fit + 0.5 * ops.sum(hparams["l"] * weights**2), ()

    def update(grads, state, hparams, aux, data):
        return State(state.weights - data["rate"] * grads, state.velocity), {}

    problem = hg.Problem(
        init=init,
        train_loss=loss_of_ridge,
        update=update,
        val_loss=wavy_loss,
        num_steps=RIDGE_STEPS,
        space=space,
        data={"x": x, "y": y, "s": s, "rate": np.asarray(rate), "start": np.zeros(3)},
    )
    return ClosedForm(problem, values, loss, gradient, converged=True)


CLOSED_FORMS: dict[str, Callable[[], ClosedForm]] = {
    "A-constant-rate": constant_rate,
    "B-rate-per-step": rate_per_step,
    "C-heavy-ball": heavy_ball,
    "C-heavy-ball-overdamped": lambda: heavy_ball(16.0, 12, 0.05, 0.3),
    "D-one-step": one_step,
    "D-cauchy-step": lambda: one_step(at_cauchy_step=True),
    "E-initial-weights": initial_weights,
    "F-ridge": ridge,
    "F-ridge-per-feature": lambda: ridge("per_feature"),
    "F-ridge-per-example": lambda: ridge("per_example"),
}


def shared_and_per_step(num_steps: int = 7) -> tuple[ClosedForm, ClosedForm]:
    """M. The same run, with one rate and with that rate written once for each step."""
    shared = constant_rate(num_steps)
    problem = on_quadratic(
        quadratic(),
        num_steps=num_steps,
        space={"rate": dataclasses.replace(UNIT, shape=(num_steps,))},
        bind=lambda hparams: {"rate": hg.PerStep(hparams["rate"])},
    )
    rates = np.full(num_steps, shared.values["rate"])
    each = np.full(num_steps, shared.gradient["rate"] / num_steps)
    return shared, ClosedForm(problem, {"rate": rates}, shared.loss, {"rate": each})
