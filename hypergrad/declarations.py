"""What a user declares as ``hyperparameters=``, completed to a `Float` each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad.space import Float, PerTarget, default_float
from hypergrad.targets import Target


def declared(hyperparameters: Any) -> dict[str, Any]:
    """Name → `Float`, `PerTarget`, or None for a default range."""
    if isinstance(hyperparameters, str):
        hyperparameters = [hyperparameters]
    if isinstance(hyperparameters, Mapping):
        named = dict(hyperparameters)
    elif not isinstance(hyperparameters, (list, tuple, set, frozenset)):
        raise TypeError(
            "`hyperparameters` must be a dict, path → hypergrad.Float, or a list of "
            f"paths. Received: {hyperparameters!r}. Write for instance "
            "['optimizer.learning_rate']; hg.tunables(model) lists the paths."
        )
    else:
        named = dict.fromkeys(hyperparameters)
    if not named:
        raise ValueError(
            "`hyperparameters` is empty. Name at least one path, such as "
            "'optimizer.learning_rate'; hg.tunables(model) lists them."
        )
    for name, given in named.items():
        if not isinstance(name, str):
            raise TypeError(
                f"`hyperparameters` must name paths as strings. Received: {name!r}."
            )
        if isinstance(given, (int, bool)) or (
            given is not None and not isinstance(given, (Float, PerTarget))
        ):
            raise TypeError(
                f"`hyperparameters[{name!r}]` must be a hypergrad.Float, which says "
                f"the range that may be searched. Received: {given!r}. Write for "
                "instance `hg.Float(1e-5, 1.0, sampling='log')`. Integers and choices "
                "have no derivative: they belong to the tuner."
            )
    return named


def completed(name: str, given: Any, found: list[Target]) -> Float:
    """A `Float` with a default; where none is given, what the compiled model holds."""
    current = [0.0 if t.value is None else t.value for t in found]
    range_ = given.each if isinstance(given, PerTarget) else given
    held = np.shape(current[0])
    if range_ is not None and range_.shape not in ((), held):
        raise ValueError(
            f"{name!r} is {'one number' if held == () else f'an array {held}'} in the "
            f"model, expected a Float of shape {held}. Received: shape "
            f"{range_.shape}. Leave `shape` out, or return hg.PerStep(…) of it from "
            "`bind=` for a value for each step."
        )
    if isinstance(given, PerTarget):
        float_ = given.expand(len(found))
        default = np.stack([np.asarray(v, "float64") for v in current])
    else:
        if given is None:
            given = default_float(found[0].attribute, _one(name, current), path=name)
        float_, default = given, np.asarray(current[0], "float64")
        if float_.default is None:
            default = np.asarray(_one(name, current), "float64")
    try:
        return float_.with_default(name, _item(default))
    except ValueError as error:
        raise ValueError(
            f"The compiled model holds {name} = {_text(default)}, which does not fit "
            f"the declared range. Pass `default=`, or widen it. ({error})"
        ) from error


def _one(name: str, current: list) -> Any:
    if any(not np.array_equal(v, current[0]) for v in current):
        raise ValueError(
            f"{name!r} is one value for {len(current)} targets, and the compiled model "
            f"holds different ones: {current}. Pass `default=`, or hg.PerTarget(…) for "
            "one value each."
        )
    return current[0]


def _item(value: np.ndarray) -> Any:
    return value.item() if value.ndim == 0 else value


def _text(value: np.ndarray) -> str:
    return f"{value.item():g}" if value.ndim == 0 else str(value)
