"""Muon, with Adam for what is no matrix."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from hypergrad.rules import safe
from hypergrad.rules.adam import adam_scalars, adam_step
from hypergrad.rules.keras_internals import uses_adam
from hypergrad.rules.options import common
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.per_variable import Numbers, scalar
from hypergrad.rules.slots import Slot


@dataclass(frozen=True)
class Muon(OwnRule):
    """``keras.optimizers.Muon``: momentum with its singular values made alike.

    For a matrix of n × m entries: ``M ← M + G + (μ − 1) M``; ``X = G + μ M`` with
    ``nesterov``, else ``X = M``; ``X ← X / (‖X‖ + 1e-7)``, then ``ns_steps`` times
    ``A = X Xᵀ; X ← a X + (b A + c A²) X`` (of Xᵀ where n > m);
    ``θ ← θ − η ρ √max(n, m) X``. Here η is ``learning_rate``, μ ``momentum``, (a, b, c)
    ``muon_a``, ``muon_b``, ``muon_c``, ρ ``rms_rate`` (None leaves the factor out), G
    the gradient; the slot is M ``"momentums"``.

    Variables without exactly two axes, embeddings (``exclude_embeddings``) and those
    that ``exclude_layers`` names follow `Adam` with ``adam_beta_1``, ``adam_beta_2``,
    ``epsilon`` and the rate ``η · adam_lr_ratio``, with the slots ``"momentums"`` and
    ``"velocities"`` (a scalar zero for matrices), and decay by ``adam_weight_decay``
    instead of ``weight_decay``.

    The iterations are polynomials. The derivative of ‖X‖ at X = 0 is taken as 0: it
    enters next to X. Around a zero matrix the map is as steep as aⁿ · 1e7, and a
    momentum that comes close to it makes derivatives of that size.

    Attributes:
        hyperparameters: the numbers above and the shared ones.
        by_adam: for each variable, whether Adam updates it.
        nesterov: bool.
        num_iterations: int, ``ns_steps``.
        adjusts: whether there is a ``rms_rate``.

    References: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural
    networks"; Liu et al. 2025, eq. (4), arXiv:2502.16982 (ρ).
    """

    by_adam: tuple[bool, ...]
    nesterov: bool
    num_iterations: int
    adjusts: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Muon":
        adjusts = optimizer.rms_rate is not None
        names = (*_NUMBERS, "rms_rate") if adjusts else _NUMBERS
        return cls(
            *common(optimizer, variables, names),
            by_adam=tuple(uses_adam(optimizer, v) for v in variables),
            nesterov=bool(optimizer.nesterov),
            num_iterations=int(optimizer.ns_steps),
            adjusts=adjusts,
        )

    def slots(self) -> Sequence[Slot]:
        return [
            Slot("momentums", "momentums"),
            Slot("velocities", "adam_velocities", self._zero_for_adam),
        ]

    def _zero_for_adam(self, position: int, weight: Any) -> Any:
        return ops.zeros_like(weight) if self.by_adam[position] else None

    def scalars(self, numbers: Numbers, t: Any, dtype: str) -> Any:
        eta = scalar(numbers["learning_rate"], dtype)
        adam = {
            "learning_rate": eta * scalar(numbers["adam_lr_ratio"], dtype),
            "beta_1": numbers["adam_beta_1"],
            "beta_2": numbers["adam_beta_2"],
            "epsilon": numbers["epsilon"],
        }
        return _Scalars(
            eta=eta,
            mu=scalar(numbers["momentum"], dtype),
            mu_minus_one=scalar(numbers["momentum"] - 1, dtype),
            a=scalar(numbers["muon_a"], dtype),
            b=scalar(numbers["muon_b"], dtype),
            c=scalar(numbers["muon_c"], dtype),
            rms_rate=scalar(numbers["rms_rate"], dtype) if self.adjusts else None,
            adam=adam_scalars(adam, t, dtype),
        )

    def step(
        self, i: int, g: Any, w: Any, slot: Mapping[str, Any], n: Any
    ) -> tuple[Any, dict[str, Any]]:
        if self.by_adam[i]:
            return adam_step(g, w, slot, n.adam)
        m = slot["momentums"]
        m = m + (g + m * n.mu_minus_one)
        x = self._alike(g + n.mu * m if self.nesterov else m, n)
        step = n.eta * x
        if self.adjusts:
            step = step * ops.cast(ops.sqrt(max(w.shape)), w.dtype) * n.rms_rate
        return w - step, {**slot, "momentums": m}

    def _alike(self, x: Any, n: Any) -> Any:
        """Nearly the orthogonal factor of x: its singular values brought near 1."""
        tall = x.shape[0] > x.shape[1]
        if tall:
            x = ops.transpose(x)
        x = x / (safe.norm(x) + 1e-7)
        for _ in range(self.num_iterations):
            a = ops.matmul(x, ops.transpose(x))
            x = n.a * x + ops.matmul(n.b * a + n.c * ops.matmul(a, a), x)
        return ops.transpose(x) if tall else x


class _Scalars(NamedTuple):
    eta: Any
    mu: Any
    mu_minus_one: Any
    a: Any
    b: Any
    c: Any
    rms_rate: Any
    adam: Any


_NUMBERS = (
    "momentum",
    "muon_a",
    "muon_b",
    "muon_c",
    "adam_lr_ratio",
    "adam_beta_1",
    "adam_beta_2",
    "epsilon",
    "adam_weight_decay",
)
