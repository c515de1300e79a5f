"""GradientTuner against KerasTuner and Optuna: the best validation loss after 60 runs.

    KERAS_BACKEND=jax python benchmarks/tuner/run.py
    KERAS_BACKEND=jax python benchmarks/tuner/run.py --problems mnist-mlp --seeds 2

A run is one training of all epochs; one that is stopped early counts as the part that
it is, and the runs of a descent as `hypergrad.tune` counts them. What is done is kept
in ``--out`` and not done again.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parents[1])]

from searches import SEARCHES  # noqa: E402

from problems import EPOCHS, NAMES, OBJECTIVE, problem  # noqa: E402

RUNS = 60


class Spent(BaseException):
    """All runs are spent; no tuner takes it for a trial that failed."""


class Record(keras.callbacks.Callback):
    """Counts epochs of all trainings, and keeps the best and its test accuracy."""

    def __init__(self, test: Any):
        super().__init__()
        self.test = test
        self.spent = 0.0
        self.best = float("inf")
        self.accuracy = 0.0
        self.curve: list[tuple[float, float]] = []

    def __deepcopy__(self, memo: Any) -> "Record":
        return self

    def charge(self, runs: float) -> None:
        """Runs that no epoch shows: those of a descent."""
        self.spent += runs
        if self.spent > RUNS + 1e-9:
            raise Spent

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.charge(1.0 / EPOCHS)
        value = float(logs[OBJECTIVE])
        if value < self.best:
            self.best = value
            scores = self.model.evaluate(*self.test, verbose=0, return_dict=True)
            self.accuracy = float(scores["accuracy"])
            self.curve.append((round(self.spent, 4), value))


def measured(name: str, search: str, seed: int) -> dict[str, Any]:
    of = problem(name)
    record = Record(of.test)
    began = time.perf_counter()
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            SEARCHES[search](of, record, seed, folder)
        except Spent:
            pass
    return {
        "loss": record.best,
        "test accuracy": record.accuracy,
        "runs": record.spent,
        "seconds": time.perf_counter() - began,
        "curve": record.curve,
    }


def page(found: dict[str, Any]) -> str:
    lines = []
    for name in NAMES:
        rows = {k.split("|")[1]: [] for k in found if k.startswith(name + "|")}
        for key, value in found.items():
            if key.startswith(name + "|"):
                rows[key.split("|")[1]].append(value)
        if not rows:
            continue
        lines += [
            "",
            f"**{name}**",
            "",
            "| search | seeds | validation loss, median | test accuracy, median "
            "| seconds, median |",
            "|---|---|---|---|---|",
        ]
        for search, values in rows.items():
            lines.append(
                f"| {search} | {len(values)} "
                f"| {statistics.median(v['loss'] for v in values):.4f} "
                f"| {statistics.median(v['test accuracy'] for v in values):.4f} "
                f"| {statistics.median(v['seconds'] for v in values):.0f} |"
            )
    return "\n".join(lines).lstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="*", default=list(NAMES))
    parser.add_argument("--only", nargs="*", default=list(SEARCHES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=FOLDER / "results")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"{keras.backend.backend()}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    for seed in range(given.seeds):
        for name in given.problems:
            for search in given.only:
                key = f"{name}|{search}|{seed}"
                if key in found:
                    continue
                found[key] = measured(name, search, seed)
                short = {k: v for k, v in found[key].items() if k != "curve"}
                print(key, short, flush=True)
                file.write_text(json.dumps(dict(sorted(found.items())), indent=1))
    print(page(found))


if __name__ == "__main__":
    main()
