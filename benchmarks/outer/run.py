"""Outer loops from random starts, against random search on the same training.

    KERAS_BACKEND=jax python benchmarks/outer/run.py
    KERAS_BACKEND=jax python benchmarks/outer/run.py --problems mnist --only default

Every loop starts from the same random points of the space and has 64 runs. Random
search makes 256; what it reaches with n of them is the mean over orders of the runs.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from variants import VARIANTS  # noqa: E402

import hypergrad as hg  # noqa: E402
from benchmark_utils.task import Task  # noqa: E402
from hypergrad import backend  # noqa: E402
from problems import SPLITS, started, task  # noqa: E402

BUDGET, RANDOM_RUNS = 64, 256


def random_search(of: Task) -> dict[str, float]:
    """Mean of the lowest E of the first 64 and of all 256 runs, and the test loss."""
    found = hg.search(of.problem(), budget=RANDOM_RUNS, seed=1, verbose=0)
    losses = np.nan_to_num(np.array(found.history["val_loss"]), nan=np.inf)
    rng = np.random.default_rng(0)
    firsts = [np.min(rng.permutation(losses)[:BUDGET]) for _ in range(10_000)]
    return {
        "best of 64": float(np.mean(firsts)),
        "best of 256": float(np.min(losses)),
        "test of 256": of.tested("tuned", found.values, 0)["loss"],
    }


def descended(of: Task, options: dict[str, Any], start: int, goal: float) -> dict:
    """One loop from one start: E of its best run, its test loss, runs to the goal."""
    problem = started(of.problem(), start)
    result = hg.tune(problem, budget=BUDGET, seed=start, verbose=0, **options)
    losses = np.nan_to_num(np.array(result.history["val_loss"]), nan=np.inf)
    below = np.flatnonzero(losses <= goal)
    reached = float(result.history["runs"][below[0]]) if len(below) else None
    return {
        "start": start,
        "end": float(np.min(losses)),
        "test": of.tested("tuned", result.values, 0)["loss"],
        "reached": reached,
        "runs": float(result.runs),
        "seconds": result.seconds,
    }


def row(name: str, found: list[dict], bars: dict[str, float], rival: list[dict]) -> str:
    """A line of the table; ``rival``: the quasi-random runs from the same starts."""
    reached = sorted(f["reached"] or np.inf for f in found)
    number = sum(np.isfinite(reached))
    middle, worst = statistics.median(reached), reached[-1]
    ends = [f["end"] for f in found]
    better = sum(f["end"] <= bars["best of 256"] for f in found)
    tests = sum(f["test"] < r["test"] for f, r in zip(found, rival))
    return (
        f"| {name} | {_runs(middle)} | {_runs(worst)} | {number} of {len(found)} "
        f"| {statistics.median(ends):.4f} | {better} of {len(found)} "
        f"| {statistics.median(f['test'] for f in found):.4f} "
        f"| {tests} of {len(found)} |"
    )


def _runs(number: float) -> str:
    return f"{number:g}" if np.isfinite(number) else "never"


def page(measured: dict) -> str:
    """The tables of all problems in Markdown."""
    lines = []
    for name, of in measured["problems"].items():
        bars = of["random search"]
        lines += [
            "",
            f"**{name}**: random search reaches {bars['best of 64']:.4f} with 64 runs "
            f"and {bars['best of 256']:.4f} with 256 (test loss "
            f"{bars['test of 256']:.4f}).",
            "",
            "| outer loop | runs to random's best of 64: median | worst | reached "
            "| E after 64 runs, median | below random's best of 256 "
            "| test loss, median | test loss below quasi-random's |",
            "|---|---|---|---|---|---|---|---|",
        ]
        rival = of["loops"].get("quasi-random alone", [])
        lines += [row(n, found, bars, rival) for n, found in of["loops"].items()]
    return "\n".join(lines).lstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="*", default=list(SPLITS))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder for outer.json and outer.md")
    given = parser.parse_args()
    measured: dict[str, Any] = {"backend": backend.name, "problems": {}}
    for name in given.problems:
        of = task(name)
        bars = random_search(of)
        loops: dict[str, list[dict]] = {}
        for loop in given.only:
            loops[loop] = [
                descended(of, VARIANTS[loop], start, bars["best of 64"])
                for start in range(given.starts)
            ]
            print(loop, row(loop, loops[loop], bars, []), flush=True)
        measured["problems"][name] = {"random search": bars, "loops": loops}
    print(page(measured))
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "outer.json").write_text(json.dumps(measured, indent=1) + "\n")
        (given.out / "outer.md").write_text(page(measured))


if __name__ == "__main__":
    main()
