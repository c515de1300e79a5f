"""One line for each method: where it beats random search, and how soon."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from report.results import Row, grouped
from report.significance import holm, paired_test, runs_to_reach

REFERENCE = "random"
ALPHA = 0.05


class Tests(NamedTuple):
    """Adjusted p-values of one method, problem → p, Holm's correction over problems."""

    better: Mapping[str, float]
    worse: Mapping[str, float]

    def verdict(self, problem: str) -> str:
        """ "better", "worse" or "" where neither is significant."""
        if self.better.get(problem, 1.0) < ALPHA:
            return "better"
        return "worse" if self.worse.get(problem, 1.0) < ALPHA else ""


def tested(rows: Sequence[Row]) -> dict[str, Tests]:
    """Method → its tests against random search, on the seeds that both have."""
    better: dict[str, dict[str, float]] = {}
    worse: dict[str, dict[str, float]] = {}
    for problem, methods in grouped(rows).items():
        reference = {r.seed: r.loss for r in methods.get(REFERENCE, [])}
        for method, of_method in methods.items():
            pairs = [
                (r.loss, reference[r.seed])
                for r in of_method
                if r.seed in reference and r.status != "refused"
            ]
            if pairs and method != REFERENCE:
                ours, theirs = zip(*pairs)
                better.setdefault(method, {})[problem] = paired_test(ours, theirs)
                worse.setdefault(method, {})[problem] = paired_test(theirs, ours)
    return {
        method: Tests(holm(better[method]), holm(worse[method])) for method in better
    }


def reached(rows: Sequence[Row], targets: Mapping[int, float]) -> float | None:
    """Median over seeds of the runs to the loss that random search ends with.

    Infinite where most seeds never reach it; None without a finite loss to reach.
    """
    known = [r for r in rows if math.isfinite(targets.get(r.seed, math.nan))]
    if not known:
        return None
    return median(runs_to_reach(r.curve, targets[r.seed]) for r in known)


def targets_of(methods: Mapping[str, Sequence[Row]]) -> dict[int, float]:
    """Seed → the loss that random search ends with."""
    return {r.seed: r.loss for r in methods.get(REFERENCE, []) if r.status == "done"}


def summary(rows: Sequence[Row]) -> str:
    """The table, by the number of problems on which a method is better."""
    tests = tested(rows)
    soon: dict[str, list[float]] = {}
    refused: dict[str, set[str]] = {}
    for problem, methods in grouped(rows).items():
        targets = targets_of(methods)
        for method, of_method in methods.items():
            done = [r for r in of_method if r.status != "refused"]
            if len(done) < len(of_method):
                refused.setdefault(method, set()).add(problem)
            runs = reached(done, targets)
            if runs is not None:
                soon.setdefault(method, []).append(runs)
    lines = [
        "| method | problems | better | worse | neither | refused | runs to reach |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in sorted({r.method for r in rows}, key=lambda m: _rank(m, tests)):
        counts = _counts(tests.get(method))
        lines.append(
            f"| {method} | {len(soon.get(method, []))} | {counts} | "
            f"{len(refused.get(method, ()))} | {_median(soon.get(method, []))} |"
        )
    return "\n".join(lines)


def _counts(tests: Tests | None) -> str:
    if tests is None:
        return "— | — | —"
    verdicts = [tests.verdict(problem) for problem in tests.better]
    return " | ".join(str(verdicts.count(v)) for v in ("better", "worse", ""))


def _rank(method: str, tests: Mapping[str, Tests]) -> tuple:
    if method not in tests:
        return (1, 0, method)
    verdicts = [tests[method].verdict(problem) for problem in tests[method].better]
    return (0, verdicts.count("worse") - verdicts.count("better"), method)


def _median(runs: Sequence[float]) -> str:
    if not runs:
        return "—"
    return shown_runs(median(runs))


def shown_runs(runs: float) -> str:
    return f"{runs:.0f}" if math.isfinite(runs) else "never"
