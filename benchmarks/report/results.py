"""What benchopt stored, as rows of one version of the code."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One method on one problem with one seed."""

    problem: str
    method: str
    seed: int
    budget: int
    version: str
    commit: str
    spaces: str
    status: str
    reason: str
    loss: float
    test_loss: float
    test_score: float
    score: str
    runs: float
    seconds: float
    seconds_with_compilation: float
    diverged: int
    numbers: int
    curve: dict
    date: str
    machine: str


def read(files: Sequence[Path]) -> list[Row]:
    """The rows of parquet files in the order of their dates; of a run, the latest.

    What was refused counts only where there is no result.
    """
    import pandas

    frames = [pandas.read_parquet(file).to_dict("records") for file in files]
    found = [_row(record) for records in frames for record in records]
    rows: dict[Any, Row] = {}
    for row in sorted(found, key=lambda row: (row.status != "refused", row.date)):
        rows.pop(row[:5], None)
        rows[row[:5]] = row
    return sorted(rows.values(), key=lambda row: row.date)


def _row(record: dict) -> Row:
    def number(name: str) -> float:
        value = record[f"objective_{name}"]
        return math.nan if value is None else float(value)

    return Row(
        problem=record["dataset_name"],
        method=record["solver_name"],
        seed=int(record["idx_rep"]),
        budget=int(record["p_obj_budget"]),
        version=record["p_obj_version"],
        commit=record["objective_commit"],
        spaces=record["objective_spaces"],
        status=record["objective_status"],
        reason=record["objective_reason"],
        loss=number("value"),
        test_loss=number("test_loss"),
        test_score=number("test_score"),
        score=record["objective_score"],
        runs=number("runs"),
        seconds=number("seconds"),
        seconds_with_compilation=number("seconds_with_compilation"),
        diverged=int(record["objective_diverged_runs"]),
        numbers=int(record["objective_numbers"]),
        curve=json.loads(record["objective_curve"]),
        date=str(record["run_date"]),
        machine=(
            f"{record['system-processor']}, cores used: {int(record['system-cpus'])}, "
            f"{record['system-ram (GB)']} GB"
        ),
    )


def of_one_version(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """(rows of the version and budget of the last row, all others)."""
    if not rows:
        return [], []
    wanted = (rows[-1].version, rows[-1].budget)
    same = [row for row in rows if (row.version, row.budget) == wanted]
    return same, [row for row in rows if (row.version, row.budget) != wanted]


def grouped(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Problem → method → rows in the order of the seeds; methods by their names."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda r: (r.numbers, r.problem, r.method, r.seed)):
        found.setdefault(row.problem, {}).setdefault(row.method, []).append(row)
    return found
