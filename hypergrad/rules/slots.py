"""Optimizer state between a rule and a Keras optimizer.

``names`` maps the name of a slot in the state to the attribute of the optimizer that
lists its variables.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from hypergrad import backend
from hypergrad.rules.keras_internals import iterations, trainable_variables, unwrap


def zeros(names: Mapping[str, str], weights: list) -> dict:
    """Zero slots like the weights, and zero iterations."""
    count = ops.zeros((), dtype=keras.backend.standardize_dtype("int"))
    slots = {name: [ops.zeros_like(w) for w in weights] for name in names}
    return {"iterations": count, **slots}


def read(names: Mapping[str, str], optimizer: Any) -> dict:
    """What a built optimizer holds; zeros where it was built without a slot."""
    optimizer = unwrap(optimizer)
    if not optimizer.built:
        raise ValueError(
            "The state of an optimizer is read from its variables, expected it built. "
            f"Received: an unbuilt {type(optimizer).__name__}. Call "
            "`optimizer.build(model.trainable_variables)` before."
        )
    state: dict[str, Any] = {"iterations": backend.snapshot(iterations(optimizer))}
    for name, attribute in names.items():
        held = getattr(optimizer, attribute, [])
        if held:
            state[name] = [backend.snapshot(slot) for slot in held]
        else:
            own = trainable_variables(optimizer)
            state[name] = [ops.zeros(v.shape, dtype=v.dtype) for v in own]
    return state


def write(names: Mapping[str, str], optimizer: Any, state: Mapping[str, Any]) -> None:
    """Assigns a state to the variables of a built optimizer."""
    optimizer = unwrap(optimizer)
    for name, attribute in names.items():
        held = getattr(optimizer, attribute, [])
        if len(held) != len(state[name]):
            raise ValueError(
                f"The state has {len(state[name])} arrays of `{name}`, expected an "
                "optimizer that is built with as many variables for them. Received: "
                f"{type(optimizer).__name__} with {len(held)}. Build the optimizer on "
                "the model's trainable variables, with a nonzero momentum if the "
                "momentum was tuned."
            )
    iterations(optimizer).assign(state["iterations"])
    for name, attribute in names.items():
        for slot, value in zip(getattr(optimizer, attribute, []), state[name]):
            slot.assign(value)
