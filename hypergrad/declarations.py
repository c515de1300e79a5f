"""What a user declares as ``hyperparameters=``, completed to a `Float` each."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad.space import (
    Float,
    Layout,
    PerTarget,
    PerVariable,
    Schedule,
    default_float,
    layout,
)
from hypergrad.targets import Target

_RANGES = (Float, PerTarget, PerVariable, Schedule)


def declared(hyperparameters: Any) -> dict[str, Any]:
    """Name → `Float`, a nest of groups around one, or None for a default range."""
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
            given is not None and not isinstance(given, _RANGES)
        ):
            raise TypeError(
                f"`hyperparameters[{name!r}]` must be a hypergrad.Float, which says "
                f"the range that may be searched. Received: {given!r}. Write for "
                "instance `hg.Float(1e-5, 1.0, sampling='log')`. Integers and choices "
                "have no derivative: they belong to the tuner."
            )
    return named


def completed(
    name: str, given: Any, found: list[Target], num_variables: int
) -> tuple[Float, Layout]:
    """A `Float` with a default, and the axes of its values.

    Where no default is given it is what the compiled model holds.
    """
    current = [0.0 if t.value is None else t.value for t in found]
    _check_shapes(name, found, current)
    if given is None:
        given = default_float(found[0].range_name, _one(name, current), path=name)
    axes = layout(given)
    each, held = axes.each, np.shape(current[0])
    if each.shape == () and held:
        each = dataclasses.replace(each, shape=held)
        axes = axes._replace(each=each)
    if each.shape != held:
        raise ValueError(
            f"{name!r} is {'one number' if held == () else f'an array {held}'} in the "
            f"{'training data' if found[0].kind == 'data' else 'model'}, expected a "
            f"Float of shape {held}. Received: shape {each.shape}. Leave `shape` out; "
            "hg.Schedule(…, knots=…) gives a value for each step, hg.PerVariable(…) "
            "one for each weight tensor."
        )
    _check_axes(name, axes, found)
    float_ = axes.expand(len(found) if axes.per == "target" else num_variables)
    if float_.default is None:
        if axes.per == "target":
            default = np.stack([np.asarray(v, "float64") for v in current])
        else:
            default = np.asarray(_one(name, current), "float64")
        lead = axes.lead(len(found) if axes.per == "target" else num_variables)
        if axes.per != "target":
            default = default.reshape((1,) * len(lead) + held)
        default = np.broadcast_to(default, (*lead, *held)).copy()
        float_ = _with_default(name, float_, _item(default))
    return float_, axes


def _check_shapes(name: str, found: list[Target], current: list) -> None:
    shapes = {t.path: np.shape(value) for t, value in zip(found, current)}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"{name!r} names arrays of different shapes, expected targets of one shape "
            f"for one declaration. Received: {shapes}. Name them one by one."
        )


def _with_default(name: str, float_: Float, default: Any) -> Float:
    try:
        return float_.with_default(name, default)
    except ValueError as error:
        raise ValueError(
            f"The compiled model holds {name} = {_text(default)}, which does not fit "
            f"the declared range. Pass `default=`, or widen it. ({error})"
        ) from error


def _check_axes(name: str, axes: Layout, found: list[Target]) -> None:
    kinds = {t.kind for t in found}
    if axes.per == "variable" and kinds != {"optimizer"}:
        raise ValueError(
            f"{name!r} has no value for each weight tensor, expected a number of the "
            "optimizer in `PerVariable`. Received: a number of the "
            f"{sorted(kinds - {'optimizer'})[0]}. Use hg.PerTarget(…) with a pattern "
            "for a value each."
        )
    if axes.per == "variable" and any("." in t.rule_name for t in found):
        raise ValueError(
            f"{name!r} belongs to a schedule, expected a number of the optimizer "
            "itself in `PerVariable`. Received: a LearningRateSchedule. Compile the "
            "optimizer with a number, and use hg.Schedule(hg.PerVariable(…), knots=…)."
        )
    once = sorted(kinds & {"data", "initial", "scale"})
    if axes.schedule is not None and once:
        raise ValueError(
            f"{name!r} does not change during training, expected a number that every "
            f"step reads in `Schedule`. Received: a target of the kind {once[0]!r}. "
            "Declare a Float."
        )


def _one(name: str, current: list) -> Any:
    if any(not np.array_equal(v, current[0]) for v in current):
        raise ValueError(
            f"{name!r} is one value for {len(current)} targets, and the compiled model "
            f"holds different ones: {', '.join(map(_text, current[:4]))}. Pass "
            "`default=`, or hg.PerTarget(…) for one value each."
        )
    return current[0]


def _item(value: np.ndarray) -> Any:
    return value.item() if value.ndim == 0 else value


def _text(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{value:g}"
    return str(value) if np.size(value) < 10 else f"an array of {np.shape(value)}"
