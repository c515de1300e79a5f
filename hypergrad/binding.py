"""How values of hyperparameters become values of paths."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hypergrad import backend
from hypergrad.keras_checks import explained
from hypergrad.parts import hparam_dtype
from hypergrad.space import Float
from hypergrad.space.defaults import DEFAULT_RANGES


def spread(names: Mapping[str, list[str]], separate: set[str]) -> Callable | None:
    """The bind that writes a name's value to each of its paths."""
    if all(paths == [name] for name, paths in names.items()) and not separate:
        return None

    def bind(hparams: Mapping[str, Any]) -> dict[str, Any]:
        bound = {}
        for name, paths in names.items():
            for i, path in enumerate(paths):
                bound[path] = hparams[name][i] if name in separate else hparams[name]
        return bound

    return bind


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
