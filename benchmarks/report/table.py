"""The table of the comparison, in Markdown."""

import math
from collections.abc import Mapping, Sequence

from report.results import Row, grouped
from report.significance import Interval, interval
from report.summary import Tests, reached, shown_runs, targets_of, tested

COLUMNS = (
    "problem",
    "method",
    "validation loss",
    "test loss",
    "test score",
    "runs",
    "seconds",
    "with compilation",
    "diverged runs",
    "runs to reach random",
    "p better",
    "p worse",
)


def table(rows: Sequence[Row]) -> str:
    """One line for each problem and method that has results."""
    tests = tested(rows)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for problem, methods in grouped(rows).items():
        done = {
            m: [r for r in rs if r.status != "refused"] for m, rs in methods.items()
        }
        targets = targets_of(done)
        ranked = sorted((m for m in done if done[m]), key=lambda m: _rank(done[m]))
        for method in ranked:
            cells = _line(problem, method, done[method], targets)
            cells += _tests(tests.get(method), problem)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _line(
    problem: str,
    method: str,
    rows: Sequence[Row],
    targets: Mapping[int, float],
) -> list[str]:
    failed = sum(row.status == "diverged" for row in rows)
    loss = shown(interval([row.loss for row in rows]))
    return [
        problem,
        method,
        loss + (f" ({failed} of {len(rows)} diverged)" if failed else ""),
        shown(interval([row.test_loss for row in rows])),
        f"{shown(interval([row.test_score for row in rows]))} {rows[0].score}",
        f"{_mean([row.runs for row in rows]):.1f}",
        f"{_mean([row.seconds for row in rows]):.1f}",
        f"{_mean([row.seconds_with_compilation for row in rows]):.1f}",
        f"{_mean([row.diverged for row in rows]):.1f}",
        _reached(rows, targets),
    ]


def _tests(tests: Tests | None, problem: str) -> list[str]:
    """Adjusted p-values, in bold where the difference is significant."""
    if tests is None or problem not in tests.better:
        return ["", ""]
    verdict = tests.verdict(problem)
    found = {"better": tests.better[problem], "worse": tests.worse[problem]}
    return [
        f"**{p:.2g}**" if side == verdict else f"{p:.2g}" for side, p in found.items()
    ]


def not_compared(rows: Sequence[Row], absent: Mapping[str, str]) -> str:
    """What has no line in the table, each with its reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status == "refused":
            reason = " ".join(row.reason.split())
            problems = reasons.setdefault((row.method, reason), [])
            if row.problem not in problems:
                problems.append(row.problem)
    lines = [f"- `{name}`: {reason}" for name, reason in absent.items()]
    lines += [
        f"- `{method}` refused {', '.join(problems)}: {reason}"
        for (method, reason), problems in reasons.items()
    ]
    lines += [
        f"- not run, or failed, on {gaps}: {', '.join(f'`{m}`' for m in methods)}."
        for gaps, methods in _gaps(rows).items()
    ]
    return "\n".join(lines) or "- Nothing."


def _gaps(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Problems without a row → the methods that have none there."""
    problems = list(grouped(rows))
    gaps: dict[str, list[str]] = {}
    for method in sorted({row.method for row in rows}):
        there = {row.problem for row in rows if row.method == method}
        if set(problems) - there:
            missing = ", ".join(p for p in problems if p not in there)
            gaps.setdefault(missing, []).append(method)
    return gaps


def shown(value: Interval) -> str:
    """`mean ± half` with as many digits as the interval knows."""
    if math.isnan(value.mean):
        return "—"
    if math.isnan(value.half):
        return f"{value.mean:.4g}"
    places = 4 if value.half == 0 else -math.floor(math.log10(value.half)) + 1
    places = min(max(places, 0), 6)
    return f"{value.mean:.{places}f} ± {value.half:.{places}f}"


def _reached(rows: Sequence[Row], targets: Mapping[int, float]) -> str:
    runs = reached(rows, targets)
    return "" if runs is None else shown_runs(runs)


def _rank(rows: Sequence[Row]) -> tuple[int, float]:
    failed = sum(row.status == "diverged" for row in rows)
    return failed, interval([row.loss for row in rows]).mean


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
