"""How values of hyperparameters become values of paths."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hypergrad import backend
from hypergrad.keras_checks import explained
from hypergrad.parts import PerStep, hparam_dtype
from hypergrad.space import Float, Layout
from hypergrad.space.defaults import DEFAULT_RANGES


def spread(
    names: Mapping[str, list[str]], layouts: Mapping[str, Layout]
) -> Callable | None:
    """The bind that writes a name's value to each of its paths; None: the identity."""
    if all(paths == [name] for name, paths in names.items()) and not any(
        layout.schedule or layout.per == "target" for layout in layouts.values()
    ):
        return None

    def bind(hparams: Mapping[str, Any]) -> dict[str, Any]:
        return {
            path: _part(hparams[name], layouts[name], i)
            for name, paths in names.items()
            for i, path in enumerate(paths)
        }

    return bind


def _part(value: Any, layout: Layout, i: int) -> Any:
    """What target ``i`` gets of a value: its row, as a curve where there are knots."""
    schedule = layout.schedule
    if layout.per == "target":
        value = value[i] if schedule is None else value[:, i]
    if schedule is None:
        return value
    return PerStep(value, schedule.interpolation)


def returned_by(bind: Callable, space: Mapping[str, Float]) -> Any:
    """What ``bind`` returns at the defaults, called as it will be: in a trace."""
    dtype = hparam_dtype()
    defaults = {
        name: backend.convert(f.cast(f.start(), dtype)) for name, f in space.items()
    }
    returned = []

    def call(hparams: dict) -> list:
        with explained("`bind`"):
            returned.append(bind(hparams))
        return []

    backend.jit(call)(defaults)
    return returned[-1]


def natural_range(attribute: str) -> tuple[float | None, float | None]:
    """What an attribute can mean at all: a bind declares no range for its paths."""
    row = DEFAULT_RANGES.get(attribute)
    if row is None:
        return None, None
    low = row.hard_low if np.isfinite(row.hard_low) else None
    return low, row.hard_high if np.isfinite(row.hard_high) else None
