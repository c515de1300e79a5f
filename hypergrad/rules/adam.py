"""Adam and AMSGrad."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from hypergrad.rules import options as opt
from hypergrad.rules import safe, slots
from hypergrad.rules._abstract import AbstractRule


@dataclass(frozen=True)
class Adam(AbstractRule):
    """``keras.optimizers.Adam``: moving averages of the gradient and of its square.

    ``α = η √(1 − β₂ᵗ) / (1 − β₁ᵗ)`` with t the step, from 1;
    ``m ← m + (g − m)(1 − β₁)``; ``v ← v + (g² − v)(1 − β₂)``;
    ``θ ← θ − α m / (√v + ε)``, with ``amsgrad`` ``u ← max(u, v)`` in place of v there.
    Here η is ``learning_rate``, β₁ ``beta_1``, β₂ ``beta_2``, ε ``epsilon``, g the
    gradient; the slots are m ``"momentums"``, v ``"velocities"`` and
    u ``"velocity_hats"``.

    Where ``v = 0`` (every gradient so far exactly zero) the derivative of √v is taken
    as 0: it enters next to ``m``, which is 0 there, so the derivative of the update is
    exact. The maximum of AMSGrad passes the derivative to the larger of the two, to
    the new ``v`` at a tie.

    On TensorFlow Keras rounds β₁ᵗ and β₂ᵗ through float32 even for float64 variables.
    Here they are exact; with betas that float32 cannot hold a float64 step differs
    from Keras' there, relatively by 1e-8 / (1 − β₂) in the first steps.

    Attributes:
        hyperparameters: ``learning_rate``, ``beta_1``, ``beta_2``, ``epsilon`` and the
            shared ones.
        options: clipping, decay, constraints, schedule.
        amsgrad: bool.

    References: Kingma & Ba 2015, Alg. 1 in the order of computation of the end of
    section 2 (ε is their ε̂), arXiv:1412.6980; Reddi et al. 2018, Alg. 2,
    arXiv:1904.09237 (the maximum is taken of v without bias correction, as Keras does).
    """

    hyperparameters: Mapping[str, float]
    options: opt.Options
    amsgrad: bool

    @classmethod
    def from_optimizer(
        cls, optimizer: Any, variables: list, tuned: Collection[str] = ()
    ) -> "Adam":
        return cls(
            hyperparameters=adam_hyperparameters(optimizer),
            options=opt.read_options(optimizer, variables),
            amsgrad=bool(optimizer.amsgrad),
        )

    def init(self, weights: list) -> dict:
        return slots.zeros(adam_slots(self.amsgrad), weights)

    def read(self, optimizer: Any) -> dict:
        return slots.read(adam_slots(self.amsgrad), optimizer)

    def write(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        slots.write(adam_slots(self.amsgrad), optimizer, state)

    def update(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        hparams: Mapping[str, Any],
    ) -> tuple[list, dict]:
        return adam_update(self.options, self.amsgrad, grads, state, weights, hparams)


def adam_hyperparameters(optimizer: Any) -> dict[str, float]:
    """The numbers of Adam and AdamW."""
    own = {name: float(getattr(optimizer, name)) for name in _NUMBERS}
    return {**opt.shared_hyperparameters(optimizer), **own}


def adam_slots(amsgrad: bool) -> dict[str, str]:
    """The slots of Adam and AdamW."""
    names = {"momentums": "_momentums", "velocities": "_velocities"}
    if amsgrad:
        names["velocity_hats"] = "_velocity_hats"
    return names


def adam_update(
    options: opt.Options,
    amsgrad: bool,
    grads: list,
    state: Mapping[str, Any],
    weights: list,
    hparams: Mapping[str, Any],
) -> tuple[list, dict]:
    """One step of `Adam`; AdamW's differs in its default weight decay only."""
    rate = opt.learning_rate(options, state["iterations"], hparams)
    grads = opt.clip_gradients(options.clip, grads, hparams)
    weights = opt.decay_weights(options, grads, weights, rate, hparams)
    new = list(weights)
    slot = {name: list(state[name]) for name in adam_slots(amsgrad)}
    scalars: dict[str, _Scalars] = {}  # once a dtype, not once a variable

    for i, (g, w) in enumerate(zip(grads, weights)):
        if g is None:
            continue
        dtype = keras.backend.standardize_dtype(w.dtype)
        if dtype not in scalars:
            scalars[dtype] = _scalars(state["iterations"], rate, hparams, dtype)
        alpha, one_minus_beta_1, one_minus_beta_2, epsilon = scalars[dtype]
        g = opt.cast_like(g, w)

        m, v = slot["momentums"][i], slot["velocities"][i]
        m = m + (g - m) * one_minus_beta_1
        v = v + (ops.square(g) - v) * one_minus_beta_2
        slot["momentums"][i], slot["velocities"][i] = m, v
        if amsgrad:
            v = safe.larger(slot["velocity_hats"][i], v)
            slot["velocity_hats"][i] = v
        new[i] = w - m * alpha / (safe.sqrt(v) + epsilon)

    state = {**slot, "iterations": state["iterations"] + 1}
    return opt.constrain_weights(options, grads, new), state


class _Scalars(NamedTuple):
    alpha: Any
    one_minus_beta_1: Any
    one_minus_beta_2: Any
    epsilon: Any


def _scalars(
    iterations: Any, rate: Any, hparams: Mapping[str, Any], dtype: str
) -> _Scalars:
    t = ops.cast(iterations + 1, dtype)
    beta_1, beta_2 = hparams["beta_1"], hparams["beta_2"]
    eta = opt.scalar(rate, dtype)
    root = safe.sqrt(1 - safe.power(opt.scalar(beta_2, dtype), t))
    return _Scalars(
        alpha=eta * root / (1 - safe.power(opt.scalar(beta_1, dtype), t)),
        one_minus_beta_1=opt.scalar(1 - beta_1, dtype),
        one_minus_beta_2=opt.scalar(1 - beta_2, dtype),
        epsilon=opt.scalar(hparams["epsilon"], dtype),
    )


_NUMBERS = ("beta_1", "beta_2", "epsilon")
