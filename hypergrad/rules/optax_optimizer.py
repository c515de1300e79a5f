"""An optax transformation as an ordinary Keras optimizer, on JAX."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from hypergrad import backend

RATE = "learning_rate"


class Optax(keras.optimizers.Optimizer):
    """A Keras optimizer that updates with an optax ``GradientTransformation``.

    ``updates, state = transformation.update(grads, state, weights)``; ``θ ← θ +
    updates``; constraints of the weights follow. Compile a model with it; ``fit`` and
    ``hg.tune`` train with the same numbers. What Keras' optimizers take as options
    (clipping, weight decay, averages) is a matter of the transformation here.

    The numbers that ``optax.inject_hyperparams`` names become attributes, and targets:
    ``optimizer.b1``. An injected ``learning_rate`` is Keras' own ``learning_rate``,
    which callbacks change. Everything else is fixed in the transformation.

    Args:
        transformation: an object with ``init(params)`` and ``update(grads, state,
            params)``, whose state is nested tuples and dicts of arrays.
        name: str.

    Raises:
        TypeError: no transformation, or a backend other than JAX.
        ValueError: a state that holds something else than arrays, or a number that is
            injected twice.

    Example:
        >>> tx = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3, b1=0.9)
        >>> model.compile(hg.optimizers.Optax(tx), "mse")
        >>> hg.tune(model, x, y, validation_data=(x_val, y_val), epochs=3,
        ...         hyperparameters=["optimizer.learning_rate"])

    References: DeepMind et al. 2020, "The DeepMind JAX ecosystem" (optax).
    """

    def __init__(self, transformation: Any, name: str = "optax"):
        functions = (getattr(transformation, f, None) for f in ("init", "update"))
        if isinstance(transformation, type) or not all(map(callable, functions)):
            raise TypeError(
                "`Optax` takes an optax transformation, an object with `init` and "
                f"`update`. Received: {transformation!r}. Write for instance "
                "`Optax(optax.adam(1e-3))`."
            )
        if backend.name != "jax":
            raise TypeError(
                "optax transformations compute with JAX, and Keras' backend is "
                f"{backend.name}. Received: {transformation!r}. Use a Keras optimizer "
                "such as keras.optimizers.Adam."
            )
        numbers = injected_numbers(_initial_state(transformation, [np.zeros((1, 1))]))
        rate = numbers.pop(RATE, None)
        super().__init__(learning_rate=1.0 if rate is None else rate, name=name)
        # Past Keras' tracking, which makes lists of its own of what it is given.
        object.__setattr__(self, "transformation", transformation)
        self._injects_rate = rate is not None
        self._injected = tuple(numbers)
        for number, value in numbers.items():
            setattr(self, number, value)

    @property
    def numbers(self) -> dict[str, float]:
        """Every injected number as it stands, the learning rate among them."""
        numbers = {name: float(getattr(self, name)) for name in self._injected}
        if self._injects_rate:
            numbers[RATE] = float(ops.convert_to_numpy(self.learning_rate))
        return numbers

    def build(self, variables: list) -> None:
        if self.built:
            return
        super().build(variables)
        values = [ops.convert_to_numpy(v.value) for v in variables]
        template = _initial_state(self.transformation, values)
        object.__setattr__(self, "_template", template)
        self._state = [
            keras.Variable(leaf, trainable=False, dtype=_dtype(leaf), name=f"optax_{i}")
            for i, leaf in enumerate(leaves_of(self._template))
        ]
        for variable in self._state:
            self._track_variable(variable)

    def pure_update(
        self, grads: list, leaves: list, weights: list, numbers: Mapping[str, Any]
    ) -> tuple[list, list]:
        """(weights, leaves of the state) after a step, from arrays to arrays."""
        state = with_leaves(self._template, leaves)
        state = with_numbers(state, numbers)
        updates, state = self.transformation.update(grads, state, weights)
        new = [ops.cast(w + u, w.dtype) for w, u in zip(weights, updates)]
        kept = zip(leaves_of(state), leaves, strict=True)
        return new, [ops.cast(leaf, old.dtype) for leaf, old in kept]

    def _backend_update_step(
        self, grads: list, trainable_variables: list, learning_rate: Any
    ) -> None:
        numbers = {name: getattr(self, name) for name in self._injected}
        if self._injects_rate:
            numbers[RATE] = ops.convert_to_tensor(learning_rate)
        known = self._trainable_variables
        if len(known) != len(trainable_variables):
            raise ValueError(
                "optax transforms the gradients of all weights at once. Received: "
                f"gradients of {len(trainable_variables)} of {len(known)} variables. "
                "Freeze the layers that the loss does not depend on, and compile again."
            )
        weights, state = self.pure_update(
            list(grads),
            [v.value for v in self._state],
            [v.value for v in trainable_variables],
            numbers,
        )
        for variable, value in zip(
            [*trainable_variables, *self._state], weights + state
        ):
            variable.assign(value)

    def _clip_gradients(self, grads: list) -> list:
        return grads  # an injected `clipnorm` is not Keras' option

    def _apply_weight_decay(self, variables: list) -> None:
        pass  # nor is an injected `weight_decay`

    def get_config(self) -> dict:
        # Enough to copy it in this process; functions do not go into a file.
        return {"transformation": self.transformation, "name": self.name}


def _initial_state(transformation: Any, values: Sequence[Any]) -> Any:
    dtype = keras.config.floatx()
    state = transformation.init([backend.convert(np.asarray(v, dtype)) for v in values])
    for leaf in tree.flatten(state):
        if leaf is not None and not hasattr(leaf, "dtype"):
            raise ValueError(
                "The state of a transformation must be nested tuples and dicts of "
                f"arrays. Received a leaf {leaf!r} of type {type(leaf).__name__}. Use "
                "a transformation without masks or partitions of its own."
            )
    return state


def _dtype(leaf: Any) -> str:
    return keras.backend.standardize_dtype(leaf.dtype)


def leaves_of(state: Any) -> list:
    """The arrays of a state, in order."""
    return [leaf for leaf in tree.flatten(state) if leaf is not None]


def with_leaves(state: Any, leaves: Sequence[Any]) -> Any:
    """The same structure with other arrays."""
    rest = iter(leaves)
    return tree.map_structure(lambda x: None if x is None else next(rest), state)


def _injecting(state: Any) -> Iterator[Any]:
    """The parts of a state that ``optax.inject_hyperparams`` made."""
    if hasattr(state, "hyperparams") and hasattr(state, "inner_state"):
        yield state
        yield from _injecting(state.inner_state)
    elif isinstance(state, Mapping):
        for part in state.values():
            yield from _injecting(part)
    elif isinstance(state, (tuple, list)):
        for part in state:
            yield from _injecting(part)


def injected_numbers(state: Any) -> dict[str, float]:
    """Numbers that are injected and not given by a schedule of optax.

    Raises:
        ValueError: one name in two injected parts.
    """
    numbers: dict[str, float] = {}
    for part in _injecting(state):
        scheduled = getattr(part, "hyperparams_states", {})
        for name, value in part.hyperparams.items():
            if name in scheduled or np.ndim(value) or not _is_float(value):
                continue
            if name in numbers:
                raise ValueError(
                    f"The number {name!r} is injected twice, expected one place for "
                    "each name. Received: a chain of transformations that both have "
                    "it. Inject one of them, or give them arguments of other names."
                )
            numbers[name] = float(value)
    return numbers


def _is_float(value: Any) -> bool:
    return "float" in _dtype(value)


def with_numbers(state: Any, numbers: Mapping[str, Any]) -> Any:
    """The state with other injected numbers."""
    if hasattr(state, "hyperparams") and hasattr(state, "inner_state"):
        given = {
            name: ops.convert_to_tensor(numbers[name], dtype=value.dtype)
            if name in numbers
            else value
            for name, value in state.hyperparams.items()
        }
        inner = with_numbers(state.inner_state, numbers)
        return state._replace(hyperparams=given, inner_state=inner)
    if isinstance(state, Mapping):
        return {k: with_numbers(v, numbers) for k, v in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(with_numbers(part, numbers) for part in state))
    if isinstance(state, (tuple, list)):
        return type(state)(with_numbers(part, numbers) for part in state)
    return state
