"""A Keras optimizer, or an optax transformation, as the steps of the outer loop."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.outer.steps import AbstractSteps, Arrays, SignSteps
from hypergrad.rules import rule_for
from hypergrad.space import Float


def steps_of(optimizer: Any) -> AbstractSteps:
    """The steps that ``optimizer=`` asks for.

    Raises:
        TypeError: what is neither a Keras optimizer nor an optax transformation.
    """
    if optimizer is None:
        return SignSteps()
    if isinstance(optimizer, AbstractSteps):
        return optimizer
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return KerasSteps(optimizer)
    functions = (getattr(optimizer, name, None) for name in ("init", "update"))
    if not isinstance(optimizer, type) and all(callable(f) for f in functions):
        if backend.name != "jax":
            raise TypeError(
                "optax transformations compute with JAX, and the backend is "
                f"{backend.name}. Received: optimizer={optimizer!r}. Use a Keras "
                "optimizer such as keras.optimizers.Adam(0.1)."
            )
        return OptaxSteps(optimizer)
    raise TypeError(
        "`optimizer` must be None (steps of learned size), a Keras optimizer such as "
        "keras.optimizers.Adam(0.1), or on JAX an optax transformation. Received: "
        f"{optimizer!r}."
    )


class _StraightSteps(AbstractSteps):
    """What the two have in common: a direction is a difference of two points."""

    def move(
        self, space: Mapping[str, Float], u: Arrays, direction: Arrays, length: float
    ) -> dict[str, np.ndarray]:
        ends = {name: u[name] + length * direction[name] for name in u}
        return {
            name: end if space[name].constraint is None else space[name].project(end)
            for name, end in ends.items()
        }

    def settle(self, state: Any, length: float) -> Any:
        return state

    def longest(self, direction: Arrays) -> float:
        # On the unconstrained line, where a step of 1 is about a decade or less.
        return max(float(np.max(np.abs(d))) for d in direction.values())


@dataclasses.dataclass(frozen=True)
class KerasSteps(_StraightSteps):
    """The update of a Keras optimizer, on a variable for each hyperparameter.

    Args:
        optimizer: ``keras.optimizers.Optimizer``; only its configuration is used.
    """

    optimizer: Any

    def init(self, space: Mapping[str, Float], u: Arrays) -> Any:
        return backend.to_numpy(self._rule(u).init(self._weights(u)))

    def direct(
        self, space: Mapping[str, Float], u: Arrays, gradient: Arrays, state: Any
    ) -> tuple[dict[str, np.ndarray], Any]:
        rule, weights = self._rule(u), self._weights(u)
        new, state = rule.update(
            [backend.convert(gradient[n], _dtype()) for n in u],
            tree.map_structure(backend.convert, state),
            weights,
            rule.hyperparameters,
        )
        moved = [
            np.asarray(backend.to_numpy(b), np.float64) - backend.to_numpy(a)
            for a, b in zip(weights, new)
        ]
        return dict(zip(u, moved)), backend.to_numpy(state)

    def _rule(self, u: Arrays) -> Any:
        fresh = type(self.optimizer).from_config(self.optimizer.get_config())
        variables = [keras.Variable(backend.convert(v, _dtype())) for v in u.values()]
        fresh.build(variables)
        return rule_for(fresh, variables)

    def _weights(self, u: Arrays) -> list:
        return [backend.convert(np.asarray(v), _dtype()) for v in u.values()]


@dataclasses.dataclass(frozen=True)
class OptaxSteps(_StraightSteps):
    """The update of an optax ``GradientTransformation``.

    Args:
        optimizer: an object with ``init(params)`` and ``update(grads, state, params)``.
    """

    optimizer: Any

    def init(self, space: Mapping[str, Float], u: Arrays) -> Any:
        return self.optimizer.init(self._params(u))

    def direct(
        self, space: Mapping[str, Float], u: Arrays, gradient: Arrays, state: Any
    ) -> tuple[dict[str, np.ndarray], Any]:
        updates, state = self.optimizer.update(
            self._params(gradient), state, self._params(u)
        )
        return {
            n: np.asarray(backend.to_numpy(updates[n]), np.float64) for n in u
        }, state

    def _params(self, arrays: Arrays) -> dict[str, Any]:
        return {n: backend.convert(np.asarray(v), _dtype()) for n, v in arrays.items()}


def _dtype() -> str:
    return "float64" if keras.config.floatx() == "float64" else "float32"
