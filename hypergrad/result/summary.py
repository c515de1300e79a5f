"""The text of `Result.summary`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

SAMPLE = 1_000_000


def value_text(value: Any) -> str:
    """A number, a few numbers, or the smallest, middle and largest of many."""
    return _number(value)


def summary_text(result: Any) -> str:
    """Start → tuned for every value, validation, metrics, cost, notes."""
    start = result.start
    rows = [
        (name, _number(start["values"][name]), _number(value))
        for name, value in result.values.items()
    ]
    rows.append(("", "", ""))
    rows.append(("validation loss (E)", _number(start["loss"]), _number(result.loss)))
    rows += _metric_rows(start["metrics"], result.metrics, "validation ")
    if result.test is not None:
        rows.append(("", "", ""))
        old, new = result.test["start"], result.test["tuned"]
        rows += _metric_rows(old, new, "test ")
    lines = ["start → tuned", "", *_aligned([("", "start", "tuned"), *rows]), ""]
    lines.append(f"cost: {_cost(result)}")
    lines.append(f"status: {result.status}")
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(line.rstrip() for line in lines)


def _metric_rows(
    old: Mapping[str, float], new: Mapping[str, float], prefix: str
) -> list[tuple[str, str, str]]:
    return [
        (prefix + name, _number(old.get(name, np.nan)), _number(value))
        for name, value in new.items()
    ]


def _cost(result: Any) -> str:
    kinds = result.history["kind"]
    counted = [f"{len(kinds)} trainings"]
    for kind, word in (("screening", "screening"), ("rejected", "taken back")):
        if kinds.count(kind):
            counted.append(f"{kinds.count(kind)} {word}")
    return (
        f"{result.runs:g} runs ({', '.join(counted)}), {result.seconds:.1f} s. One run "
        "is one plain training."
    )


def _number(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        number = array.item()
        # What lies close to 1 is read by its distance to 1.
        return f"{number:.6g}" if 0.99 < number < 1.0 else f"{number:.4g}"
    if array.size <= 4:
        return "[" + ", ".join(f"{v:.4g}" for v in array.flat) + "]"
    # The median of millions is that of a sample, to three digits.
    middle = np.median(array.ravel()[:: 1 + array.size // SAMPLE])
    return f"{array.min():.3g} … {middle:.3g} … {array.max():.3g} {array.shape}"


def _aligned(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        f"  {name:<{widths[0]}}  {old:>{widths[1]}}  {new:>{widths[2]}}"
        for name, old, new in rows
    ]
