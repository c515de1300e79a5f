"""Problems by methods: the mean losses in one small table."""

import math
from collections.abc import Sequence

from report.results import Row, grouped
from report.significance import interval
from report.summary import REFERENCE, tested

MARKS = {"better": " +", "worse": " −", "": ""}


def matrix(rows: Sequence[Row]) -> str:
    """Mean validation losses; methods with results on at most half of all are left out.

    "+": significantly lower than random search's, "−": higher. Bold: the lowest. A mean
    is of the seeds that did not diverge.
    """
    problems, tests = grouped(rows), tested(rows)
    methods = [m for m in _names(rows) if _often(m, rows, len(problems))]
    lines = ["| problem | numbers | " + " | ".join(methods) + " |"]
    lines.append("|" + "---|" * (len(methods) + 2))
    for problem, found in problems.items():
        means = {m: _mean(found.get(m, [])) for m in methods}
        lowest = min((v for v in means.values() if math.isfinite(v)), default=math.nan)
        numbers = max(row.numbers for rows in found.values() for row in rows)
        cells = []
        for method, mean in means.items():
            text = f"{mean:.4g}" if math.isfinite(mean) else "—"
            verdict = tests[method].verdict(problem) if method in tests else ""
            cells.append((f"**{text}**" if mean == lowest else text) + MARKS[verdict])
        lines.append(f"| {problem} | {numbers} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _names(rows: Sequence[Row]) -> list[str]:
    """Random search first, then by name."""
    return sorted({row.method for row in rows}, key=lambda m: (m != REFERENCE, m))


def _often(method: str, rows: Sequence[Row], problems: int) -> bool:
    here = {r.problem for r in rows if r.method == method and r.status != "refused"}
    return len(here) > problems / 2


def _mean(rows: Sequence[Row]) -> float:
    return interval([row.loss for row in rows if row.status != "refused"]).mean
