"""The table of what can be tuned in a model, and of what cannot and why."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from hypergrad.targets.discovery import discover


class TunablesRow(NamedTuple):
    """One number of a model."""

    path: str
    value: Any
    kind: str
    tunable: bool
    reason: str


UNLISTED = (
    "Not listed, one for each variable: initial.<layer>.<variable> (the weights that "
    "training starts from),",
    "scale.<layer>.<variable> (a factor on them). Of the data that `fit` is given: "
    "data.sample_weight,",
    "data.class_weight, data.x, data.y.",
)
"""Lines below the table."""


@dataclass(frozen=True)
class Tunables:
    """The numbers of a model; ``print`` it for a table, or read ``rows``.

    Paths of the training data and of initial weights are not rows; lines below the
    table say how they are called.
    """

    rows: tuple[TunablesRow, ...]

    def __str__(self) -> str:
        header = ("path", "value", "kind", "tunable", "reason")
        lines = [header, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header) - 1)]
        lines.insert(1, tuple("-" * width for width in (*widths, len(header[-1]))))
        table = [
            "  ".join([*(c.ljust(w) for c, w in zip(line, widths)), line[-1]]).rstrip()
            for line in lines
        ]
        return "\n".join([*table, "", *UNLISTED])

    __repr__ = __str__


def tunables(model: keras.Model) -> Tunables:
    """Every number of a compiled model: path, value, kind, and why it is not tunable.

    Args:
        model: a compiled Keras model.

    Returns:
        a table; what can be tuned by gradient comes first. Numbers of a user's own
        layers are listed as tunable and tried when a problem is built.

    Raises:
        ValueError: the model is not compiled.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> tunables(model).rows[0].path
        'optimizer.learning_rate'
    """
    targets = sorted(
        (
            target
            for target in discover(model)
            if target.listed and target.kind not in ("initial", "scale")
        ),
        key=lambda target: target.reason is not None,
    )
    return Tunables(
        tuple(
            TunablesRow(t.path, t.value, t.kind, t.reason is None, t.reason or "")
            for t in targets
        )
    )


def _cells(row: TunablesRow) -> tuple[str, ...]:
    tunable = "yes" if row.tunable else "no"
    return row.path, _short(row.value), row.kind, tunable, row.reason


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
