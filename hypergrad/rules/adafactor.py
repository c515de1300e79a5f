"""Adafactor."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from hypergrad.rules import safe
from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class Adafactor(OwnRule):
    """``keras.optimizers.Adafactor``: second moments of rows and columns only.

    ``β = 1 − tᵈ`` with t the step, from 1; ``q = g² + ε₁``. For a variable with two or
    more axes ``r ← β r + (1 − β) mean₋₁(q)``, ``c ← β c + (1 − β) mean₋₂(q)``,
    ``v ← r cᵀ / mean(r)`` over its last two axes; else ``v ← β v + (1 − β) q``.
    ``u = g / √v``; ``θ ← θ − α u / max(1, rms(u) / κ)`` with
    ``α = max(ε₂, rms(θ)) · min(η, 1/√t)``. Here η is ``learning_rate``, d
    ``beta_2_decay``, ε₁ ``epsilon_1``, ε₂ ``epsilon_2``, κ ``clip_threshold``, g the
    gradient; the slots are r ``"rows"``, c ``"columns"`` and v ``"velocities"``.
    ``relative_step`` changes nothing in Keras: the minimum is taken without it too.

    Three pieces, each with the derivative of the one in force: η has none in steps in
    which it exceeds 1/√t; ε₂ has none where rms(θ) exceeds it; κ has none where
    rms(u) ≤ κ. With the default κ = 1 the first step is on the border (all u are ±1,
    before rounding) for a variable with one axis. ε₁ keeps every root away from 0: with
    the default 1e-30 a gradient of exactly 0 has a step of 0 whose derivative with
    respect to g is finite and huge, 1e15 η.

    In float32 a matrix with an entry whose whole row and whole column have no gradient
    overflows in Keras' own forward arithmetic (ε₁² is 0 there, and 0/0 a NaN), and
    here too; choose ε₁ = 1e-15 for such a model.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_2_decay``, ``epsilon_1``,
            ``epsilon_2``, ``clip_threshold`` and the shared ones.
        factored: for each variable, whether it has two axes or more.

    References: Shazeer & Stern 2018, Alg. 4 and 5, arXiv:1804.04235.
    """

    factored: tuple[bool, ...]

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Adafactor":
        return cls(
            *common(optimizer, variables, _NUMBERS),
            factored=tuple(len(v.shape) >= 2 for v in variables),
        )

    def slots(self) -> Sequence[Slot]:
        return [
            Slot("rows", "_r", self._zero_rows),
            Slot("columns", "_c", self._zero_columns),
            Slot("velocities", "_v"),
        ]

    def _zero_rows(self, position: int, weight: Any) -> Any:
        return ops.zeros_like(weight[..., 0]) if self.factored[position] else None

    def _zero_columns(self, position: int, weight: Any) -> Any:
        return ops.zeros_like(weight[..., 0, :]) if self.factored[position] else None

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        eta = scalar(numbers["learning_rate"], dtype)
        beta = 1 - ops.power(t, scalar(numbers["beta_2_decay"], dtype))
        return _Scalars(
            rate=safe.smaller(eta, 1 / ops.sqrt(t)),
            beta=beta,
            one_minus_beta=1 - beta,
            epsilon_1=scalar(numbers["epsilon_1"], dtype),
            epsilon_2=scalar(numbers["epsilon_2"], dtype),
            threshold=scalar(numbers["clip_threshold"], dtype),
            one=ops.ones((), dtype=dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        alpha = safe.larger(n.epsilon_2, _rms(w)) * n.rate
        square = ops.square(g) + n.epsilon_1
        r, c = slot["rows"], slot["columns"]
        if self.factored[i]:
            r = n.beta * r + n.one_minus_beta * ops.mean(square, axis=-1)
            c = n.beta * c + n.one_minus_beta * ops.mean(square, axis=-2)
            share = safe.tiny_quotient(r, ops.mean(r, axis=-1, keepdims=True))
            v = ops.expand_dims(share, -1) * ops.expand_dims(c, -2)
        else:
            v = n.beta * slot["velocities"] + n.one_minus_beta * square
        u = g / safe.sqrt(v)
        u = u / safe.larger(n.one, _rms(u) / n.threshold)
        return w - alpha * u, {"rows": r, "columns": c, "velocities": v}


def _rms(x: Any) -> Any:
    return safe.sqrt(ops.mean(ops.square(x)))


class _Scalars(NamedTuple):
    rate: Any
    beta: Any
    one_minus_beta: Any
    epsilon_1: Any
    epsilon_2: Any
    threshold: Any
    one: Any


_NUMBERS = ("beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold")
