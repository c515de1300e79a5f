"""Every number, string and switch that a compiled model holds, wherever it is.

Two models of one ``build_model`` are compared by it: what differs between them is what
a hyperparameter moves, also where nothing else would say so (a closure, the constant of
a functional graph).
"""

import collections
import functools
import types
from typing import Any, NamedTuple

import keras
import numpy as np

_SKIPPED_NAMES = frozenset(
    {
        *("name", "_name", "path", "_path", "_tracker", "_lock", "_obj_type"),
        "_nodes",  # of a functional graph: addresses
        # What Keras keeps to write a configuration: copies of what is elsewhere.
        *("_auto_config", "_compile_config", "_saved_model_inputs_spec"),
        "_user_loss_weights",
        *("_keras_history", "_backend_variables", "_trackable_saver"),
    }
)
_SKIPPED_KINDS = (
    keras.Variable,
    keras.KerasTensor,
    keras.random.SeedGenerator,
    type,
    types.ModuleType,
)
_SKIPPED_MODULES = ("jax", "jaxlib", "tensorflow", "threading", "_thread", "logging")
_SCALARS = (bool, int, float, str, type(None), np.generic)

MOST_VALUES = 64
"""Of an array that is looked at entry by entry; larger ones are data."""


class Scalar(NamedTuple):
    """A value, and the object and attribute (or the dict and key) that hold it."""

    value: Any
    owner: int
    attribute: str


def scalars(model: Any) -> dict[str, Scalar]:
    """Path → scalar; the same paths for every model that is built alike."""
    found: dict[str, Scalar] = {}
    seen: set[int] = set()
    waiting: collections.deque[tuple[str, Any]] = collections.deque([("model", model)])
    while waiting:  # the nearest first, so that paths are short
        path, holder = waiting.popleft()
        if id(holder) in seen or _is_skipped(holder):
            continue
        seen.add(id(holder))
        for name, value in _parts(holder):
            if name in _SKIPPED_NAMES:
                continue
            here = f"{path}.{name}"
            if isinstance(value, np.ndarray):
                value = value.tolist() if value.size <= MOST_VALUES else value.shape
            if isinstance(value, _SCALARS):
                found[here] = Scalar(value, id(holder), name)
            else:
                waiting.append((here, value))
    return found


def _is_skipped(holder: Any) -> bool:
    module = type(holder).__module__.split(".")[0]
    return isinstance(holder, _SKIPPED_KINDS) or module in _SKIPPED_MODULES


def _parts(holder: Any) -> list[tuple[str, Any]]:
    if isinstance(holder, dict):
        return [(str(key), value) for key, value in holder.items()]
    if isinstance(holder, (list, tuple)):
        return [(str(i), value) for i, value in enumerate(holder)]
    if isinstance(holder, (set, frozenset)):
        plain = [value for value in holder if isinstance(value, _SCALARS)]
        return [(str(value), value) for value in sorted(plain, key=str)]
    if isinstance(holder, functools.partial):
        return [("func", holder.func), ("args", holder.args), ("kw", holder.keywords)]
    if isinstance(holder, types.MethodType):
        return [("self", holder.__self__), ("func", holder.__func__)]
    if isinstance(holder, types.FunctionType):
        return _of_function(holder)
    parts = list(getattr(holder, "__dict__", {}).items())
    if isinstance(holder, keras.losses.Loss) and hasattr(holder, "_fn_kwargs"):
        # What `call` reads; the attributes of the same names are copies.
        return [part for part in parts if part[0] not in holder._fn_kwargs]
    return parts


def _of_function(function: Any) -> list[tuple[str, Any]]:
    """Its code, its defaults, and what it closes over."""
    parts = [("code", function.__code__.co_name)]
    parts += [("default", function.__defaults__), ("kw", function.__kwdefaults__)]
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            parts.append((f"closure.{name}", cell.cell_contents))
        except ValueError:  # not yet filled
            continue
    return [(name, value) for name, value in parts if value is not None]
