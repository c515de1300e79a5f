"""Variables as targets: learned starts, scales of starts, and constants of layers."""

import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from hypergrad.targets import verdicts
from hypergrad.targets.in_layers import walk
from hypergrad.targets.names import quote
from hypergrad.targets.target import Target

_AUTOMATIC = re.compile(r"variable(_\d+)?")
_ADAPTED = (
    "has no effect: the layer computes with its attribute, tune `{}` instead, which "
    "starts from what `adapt` found."
)
_STATE = (
    "it is state, which training overwrites. Use `initial.{}` for what it starts from."
)


def variable_targets(model: Any) -> Iterator[Target]:
    """``initial.…``, ``scale.…`` and ``<layer>.<variable>`` of a built model."""
    layers = [("model", model), *((path, layer) for path, layer, _ in walk(model))]
    for path, layer in layers:
        for name, variable in _own_variables(layer):
            yield from _targets(path, layer, name, variable)


def _own_variables(layer: Any) -> Iterator[tuple[str, Any]]:
    """(name in a path, variable): names do not depend on what was built before."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    attributes = {id(v): name for name, v in vars(layer).items()}
    names = [v.name for v in own]
    for i, variable in enumerate(own):
        name = variable.name
        if _AUTOMATIC.fullmatch(name) or names.count(name) > 1:
            name = attributes.get(id(variable), f"variable_{i}" if i else "variable")
        yield name.lstrip("_"), variable


def _targets(path: str, layer: Any, name: str, variable: Any) -> Iterator[Target]:
    here = f"{path}.{quote(name)}"
    if "float" not in keras.backend.standardize_dtype(variable.dtype):
        return  # seeds and counters
    held = _value(variable)
    adapted = isinstance(layer, keras.layers.Normalization)
    reason = _ADAPTED.format(here) if adapted else None
    yield Target(f"initial.{here}", "initial", variable, "initial", held, reason)
    yield Target(f"scale.{here}", "scale", variable, "scale", 1.0, reason)
    if variable.trainable or adapted:
        return
    if id(variable) in {id(v) for v in layer._non_trainable_variables}:
        if verdicts.is_from_keras(type(layer)):
            reason = _STATE.format(here)
    listed = reason is None
    yield Target(here, "variable", variable, "value", held, reason, listed=listed)


def _value(variable: Any) -> Any:
    array = np.asarray(keras.ops.convert_to_numpy(variable.value))
    return float(array) if array.ndim == 0 else array
