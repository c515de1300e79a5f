"""Optimizer state between a rule and a Keras optimizer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from hypergrad import backend
from hypergrad.rules.keras_internals import iterations, trainable_variables, unwrap


def zero(position: int, weight: Any) -> Any:
    """Zeros of the shape and dtype of the weight."""
    return ops.zeros_like(weight)


def constant(value: float) -> Callable[[int, Any], Any]:
    """A start that has this value in every entry, rounded as Keras rounds it."""
    initializer = keras.initializers.Constant(value)
    return lambda position, weight: initializer(
        tuple(weight.shape), keras.backend.standardize_dtype(weight.dtype)
    )


class Slot(NamedTuple):
    """One array of state for each variable.

    Attributes:
        name: its key in the state.
        attribute: where the Keras optimizer lists the variables of this slot. One
            variable instead of a list is one for all (Nadam's product): every entry of
            the state is read from it.
        start: function (position of the variable, weight) → array before the first
            step, or None for a variable that has no such slot, where a scalar zero
            stands in the state.
    """

    name: str
    attribute: str
    start: Callable[[int, Any], Any] = zero


def fresh(slots: Sequence[Slot], weights: list) -> dict:
    """The state before the first step."""
    count = ops.zeros((), dtype=keras.backend.standardize_dtype("int"))
    starts = {s.name: [_start(s, i, w) for i, w in enumerate(weights)] for s in slots}
    return {"iterations": count, **starts}


def read(slots: Sequence[Slot], optimizer: Any) -> dict:
    """What a built optimizer holds; the start where it was built without a slot."""
    optimizer = unwrap(optimizer)
    if not optimizer.built:
        raise ValueError(
            "The state of an optimizer is read from its variables, expected it built. "
            f"Received: an unbuilt {type(optimizer).__name__}. Call "
            "`optimizer.build(model.trainable_variables)` before."
        )
    state: dict[str, Any] = {"iterations": backend.snapshot(iterations(optimizer))}
    own = trainable_variables(optimizer)
    for slot in slots:
        held = _held(slot, optimizer) or [None] * len(own)
        state[slot.name] = [
            _start(slot, i, variable.value)
            if mine is None or slot.start(i, variable.value) is None
            else backend.snapshot(mine)
            for i, (mine, variable) in enumerate(zip(held, own))
        ]
    return state


def write(slots: Sequence[Slot], optimizer: Any, state: Any) -> None:
    """Assigns a state to the variables of a built optimizer."""
    optimizer = unwrap(optimizer)
    own = trainable_variables(optimizer)
    held = {slot.name: _held(slot, optimizer) for slot in slots}
    for slot in slots:
        found, arrays = len(held[slot.name]), len(state[slot.name])
        if found != arrays:
            raise ValueError(
                f"The state has {arrays} arrays of `{slot.name}`, expected an "
                "optimizer that is built with as many variables for them. Received: "
                f"{type(optimizer).__name__} with {found}. Build the optimizer on "
                "the model's trainable variables, with a nonzero momentum if the "
                "momentum was tuned."
            )
    iterations(optimizer).assign(state["iterations"])
    for slot in slots:
        for i, (variable, mine) in enumerate(zip(own, held[slot.name])):
            start = slot.start(i, variable.value)
            value = state[slot.name][i]
            if mine is None or start is None:
                continue
            if _is_shared(slot, optimizer) and bool(ops.all(ops.equal(value, start))):
                continue  # of a variable that never had a gradient
            mine.assign(value)


def _start(slot: Slot, position: int, weight: Any) -> Any:
    start = slot.start(position, weight)
    return ops.zeros((), dtype=weight.dtype) if start is None else start


def _is_shared(slot: Slot, optimizer: Any) -> bool:
    return isinstance(getattr(optimizer, slot.attribute, None), keras.Variable)


def _held(slot: Slot, optimizer: Any) -> list:
    """The optimizer's variable for each of the model's; [] without this slot."""
    if _is_shared(slot, optimizer):
        count = len(trainable_variables(optimizer))
        return [getattr(optimizer, slot.attribute)] * count
    return list(getattr(optimizer, slot.attribute, None) or [])
