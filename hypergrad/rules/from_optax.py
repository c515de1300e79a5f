"""The rule of a model that is compiled with an optax transformation."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from hypergrad import backend
from hypergrad.rules import keras_internals as internals
from hypergrad.rules._abstract import AbstractRule
from hypergrad.rules.constraints import constrain
from hypergrad.rules.optax_optimizer import Optax, leaves_of


@dataclass(frozen=True, eq=False)
class FromOptax(AbstractRule):
    """The update of `hypergrad.optimizers.Optax`: optax' own code, on arrays.

    Exact to rounding. Square roots have the derivative ½ where their argument is zero
    (a dead unit), in place of optax' infinite one for ``eps_root=0``; powers and
    divisions keep that of optax. A weight the loss does not depend on has the gradient
    zero.

    Attributes:
        hyperparameters: the numbers of ``optax.inject_hyperparams``.
        optimizer: the built `Optax`.
        constraints: for each variable, its projection or None.
    """

    hyperparameters: Mapping[str, float]
    optimizer: Optax
    constraints: tuple[Callable | None, ...]

    @classmethod
    def from_optimizer(
        cls, optimizer: Optax, variables: list, tuned: Collection[str] = ()
    ) -> "FromOptax":
        if not optimizer.built:
            optimizer.build(variables)
        return cls(
            hyperparameters=optimizer.numbers,
            optimizer=optimizer,
            constraints=tuple(v.constraint for v in variables),
        )

    def init(self, weights: list) -> dict:
        state = leaves_of(self.optimizer.transformation.init(weights))
        count = ops.zeros((), dtype=keras.backend.standardize_dtype("int"))
        return {"iterations": count, "optax": state}

    def read(self, optimizer: Any) -> dict:
        return {
            "iterations": backend.snapshot(internals.iterations(optimizer)),
            "optax": [backend.snapshot(v) for v in optimizer._state],
        }

    def write(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        internals.iterations(optimizer).assign(state["iterations"])
        for variable, value in zip(optimizer._state, state["optax"], strict=True):
            variable.assign(value)

    def update(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        hparams: Mapping[str, Any],
    ) -> tuple[list, dict]:
        numbers = {name: hparams[name] for name in self.hyperparameters}
        for name, value in numbers.items():
            if len(getattr(value, "shape", ())) > 0:
                raise ValueError(
                    f"`{name}` has one value for all weights in an optax "
                    "transformation, expected one number. Received: shape "
                    f"{tuple(value.shape)}. Leave `PerVariable` out."
                )
        grads = [ops.zeros_like(w) if g is None else g for g, w in zip(grads, weights)]
        with backend.finite_roots():
            new, leaves = self.optimizer.pure_update(
                grads, state["optax"], weights, numbers
            )
        new = [constrain(c, w) for c, w in zip(self.constraints, new, strict=True)]
        return new, {"iterations": state["iterations"] + 1, "optax": leaves}

    def final_weights(self, weights: list, state: Mapping[str, Any]) -> list:
        return weights
