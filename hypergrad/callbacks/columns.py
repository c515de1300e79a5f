"""Values as columns of numbers: one for a number, three for an array."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad.result.comparable import comparable

MEASURES = ("val_loss", "train_loss", "best", "runs", "seconds")
CONDITIONS = ("draw", "num_steps")


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Name → number; of an array ``name.min``, ``name.mean`` and ``name.max``."""
    found: dict[str, float] = {}
    for name, value in values.items():
        array = np.asarray(value, np.float64)
        if array.ndim == 0:
            found[name] = float(array)
        else:
            for word in ("min", "mean", "max"):
                found[f"{name}.{word}"] = float(getattr(np, word)(array))
    return found


def rows_of(history: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The logs of the runs that a history holds, as `on_run_end` was told them."""
    kept = [k for k in history if not k.startswith("gradient_norm.")]
    rows, best = [], float("nan")
    measures = {*MEASURES, *CONDITIONS, "kind"}
    for i, same in enumerate(comparable(history)):
        row = {key: history[key][i] for key in kept}
        best = float(np.fmin(best, row["val_loss"])) if same else best
        values = {k: v for k, v in row.items() if k not in measures}
        logs = {k: v for k, v in row.items() if k in measures}
        rows.append(logs | {"best": best, "values": values, "comparable": bool(same)})
    return rows
