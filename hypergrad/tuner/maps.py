"""The formula by which a hyperparameter becomes a number of the model.

A model is built at some values v of the hyperparameter, and holds t there. Where t is
one of these of v everywhere, the formula is used, and differentiated, instead:

    identity   t = v
    affine     t = a + b v
    log        t = a + b log v
    exp        t = exp(a + b v)
    power      t = exp(a + b log v)
    table      a curve through t at many v, checked between them
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

TOLERANCE = 2e-6
"""Relative; a learning rate of a Keras optimizer is a float32."""

KNOTS = 33
SMOOTH = 1e-3
"""How far a curve may be off between its knots, relative to its range."""


@dataclasses.dataclass(frozen=True)
class Map:
    """One of the formulas above; ``knots``, ``values``: of a table."""

    kind: str
    a: float = 0.0
    b: float = 1.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __call__(self, v: Any) -> Any:
        if self.kind == "identity":
            return v
        if self.kind == "affine":
            return self.a + self.b * v
        if self.kind == "log":
            return self.a + self.b * ops.log(v)
        if self.kind == "exp":
            return ops.exp(self.a + self.b * v)
        if self.kind == "power":
            return ops.exp(self.a + self.b * ops.log(v))
        return _curve(v, self.knots, self.values)

    def __str__(self) -> str:
        return {
            "identity": "itself",
            "affine": f"{self.a:.6g} + {self.b:.6g} v",
            "log": f"{self.a:.6g} + {self.b:.6g} log v",
            "exp": f"exp({self.a:.6g} + {self.b:.6g} v)",
            "power": f"exp({self.a:.6g} + {self.b:.6g} log v)",
        }.get(self.kind, "a curve through its values")


def recognised(v: Sequence[float], t: Sequence[float]) -> Map | None:
    """The formula that gives ``t`` at all of ``v``, or None.

    Args:
        v: at least four values, sorted.
        t: what the model held there.
    """
    x, y = np.asarray(v, np.float64), np.asarray(t, np.float64)
    for kind in ("identity", "affine", "log", "exp", "power"):
        if kind in ("log", "power") and x[0] <= 0:
            continue
        if kind in ("exp", "power") and np.min(y) <= 0:
            continue
        inner = np.log(x) if kind in ("log", "power") else x
        outer = np.log(y) if kind in ("exp", "power") else y
        b = (outer[-1] - outer[0]) / (inner[-1] - inner[0])
        a = outer[0] - b * inner[0]
        found = Map(kind) if kind == "identity" else Map(kind, float(a), float(b))
        if np.all(np.abs(_at(found, x) - y) <= TOLERANCE * (np.abs(y) + np.ptp(y))):
            return found
    return None


def tabulated(low: float, high: float, held: Callable[[float], float]) -> Map | None:
    """A curve through what the model holds at many values; None where it is no curve.

    Cost: a model for each of ``2 KNOTS − 1`` values.
    """
    points = np.linspace(low, high, 2 * KNOTS - 1)
    values = np.array([held(float(v)) for v in points])
    found = Map(
        "table", knots=tuple(points[::2].tolist()), values=tuple(values[::2].tolist())
    )
    off = np.abs(_at(found, points[1::2]) - values[1::2])
    smooth = np.all(np.isfinite(values)) and np.max(off) <= SMOOTH * np.ptp(values)
    return found if smooth else None


def _at(found: Map, x: np.ndarray) -> np.ndarray:
    """The formula in NumPy, in float64 whatever the backend computes in."""
    if found.kind == "identity":
        return x
    if found.kind == "table":
        return _hermite(x, np.array(found.knots), np.array(found.values), np)
    inner = np.log(x) if found.kind in ("log", "power") else x
    outer = found.a + found.b * inner
    return np.exp(outer) if found.kind in ("exp", "power") else outer


def _curve(v: Any, knots: tuple[float, ...], values: tuple[float, ...]) -> Any:
    dtype = v.dtype
    return _hermite(
        v,
        ops.convert_to_tensor(knots, dtype),
        ops.convert_to_tensor(values, dtype),
        ops,
    )


def _hermite(v: Any, knots: Any, values: Any, np_or_ops: Any) -> Any:
    """Cubic through evenly spaced knots, with the slopes of central differences."""
    width = knots[1] - knots[0]
    last = knots.shape[0] - 2
    place = np_or_ops.clip((v - knots[0]) / width, 0.0, last + 1.0)
    i = np_or_ops.clip(np_or_ops.floor(place), 0, last)
    s = place - i
    i = i.astype("int64") if np_or_ops is np else ops.cast(i, "int32")
    inside = (values[2:] - values[:-2]) / 2.0
    ends = (values[1:2] - values[:1], values[-1:] - values[-2:-1])
    slopes = np_or_ops.concatenate([ends[0], inside, ends[1]])
    take = np_or_ops.take
    p, q = take(values, i), take(values, i + 1)
    m, n = take(slopes, i), take(slopes, i + 1)
    c = q - p
    return p + s * (m + s * ((3.0 * c - 2.0 * m - n) + s * (m + n - 2.0 * c)))
