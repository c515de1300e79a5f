"""Writing traced numbers into a model's objects, for as long as a block runs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from hypergrad.targets.loss_weights import with_weights
from hypergrad.targets.target import Target
from hypergrad.targets.twins import twin_of
from hypergrad.traced import Traced

# (target, value, low, high): the value as a tensor; the bounds of its declared range,
# None where unbounded, both excluded.
Assignment = tuple[Target, Any, float | None, float | None]

_ABSENT = object()


@contextmanager
def inject(assignments: Iterable[Assignment]) -> Iterator[None]:
    """Writes values into their targets, and takes them back when the block ends.

    Keras then computes with them as if they stood in the model. Writing goes past
    ``__setattr__``: properties and tracking of Keras see nothing of it.

    Args:
        assignments: (target, value, low, high) for each number.

    Raises:
        ValueError: a target is not differentiable, or is a number of the optimizer,
            which the rule takes as an argument.
    """
    assignments = list(assignments)
    for target, *_ in assignments:
        _check(target)
    undo: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for target, value, low, high in assignments:
            place = place_of(target.owner)
            if target.form == "traced":
                value = Traced(value, low, high, target.path)
            if target.form == "weight":
                losses = place["_flat_losses"]
                value = with_weights(losses, target.attribute, value)
                _write(place, "_flat_losses", value, undo)
                continue
            if target.form == "twin":
                twin = twin_of(target.owner)
                assert twin is not None  # `discover` gave the form
                _write(place, "call", MethodType(twin, target.owner), undo)
            _write(place, target.attribute, value, undo)
        yield
    finally:
        for place, key, old in reversed(undo):
            if old is _ABSENT:
                del place[key]
            else:
                place[key] = old


def place_of(owner: Any) -> dict[str, Any]:
    """The dict that holds an owner's numbers."""
    return owner if isinstance(owner, dict) else vars(owner)


def _write(
    place: dict[str, Any], key: str, value: Any, undo: list[tuple[dict, str, Any]]
) -> None:
    undo.append((place, key, place.get(key, _ABSENT)))
    place[key] = value


def _check(target: Target) -> None:
    if target.reason is not None:
        raise ValueError(
            f"`{target.path}` cannot be written to, expected a differentiable target. "
            f"Received: {target.value!r}, which is refused: {target.reason}"
        )
    if not target.injected and target.kind != "optimizer":
        raise ValueError(
            f"`{target.path}` is not written into an object of the model, expected a "
            f"number that a layer or a loss holds. Received: the kind {target.kind!r}. "
            "Hand it to the step as data, or as the value of a variable."
        )
    if target.kind == "optimizer":
        raise ValueError(
            f"`{target.path}` is not written into the optimizer, expected a number of "
            "the model or its loss. Received: a number of the optimizer. Pass it to "
            "the rule's `update` as a hyperparameter."
        )
