"""The whole comparison: which methods meet on which problems, one after the other.

    make bench         # --short: three problems, 16 runs, 3 seeds
    make bench-full    # all problems, 64 runs, 10 seeds
    python benchmarks/compare.py -- --parallel-config slurm.yml

Each problem is one call of `benchopt run` with a file of results of its own. What is in
benchopt's cache is not run again: the same command goes on after an interruption. What
follows ``--`` is handed to benchopt.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
OUTPUTS = FOLDER / "outputs"
"""Where benchopt looks for results; those of `make bench-full` are kept in git."""

PROBLEMS = (
    "mnist-mlp",
    "digits-mlp",
    "fashion-logistic",
    "fashion-mlp",
    "uci-energy",
    "uci-kin8nm",
    "uci-power",
    "fashion-cnn",
    "reviews-embedding",
    "shakespeare-gru",
    "mnist-lstm",
    "cifar-cnn",
    "hyper-cleaning",
    "rate-schedule",
    "variable-schedules",
)
MAIN = (
    "random",
    "grid",
    "quasirandom",
    "default",
    "tune",
    "optuna[sampler=tpe]",
    "cosine",
)
"""On every problem."""

REST = (
    "optuna[sampler=cma-es]",
    "optuna-gp",
    "keras-tuner",
    "successive-halving",
    "pbt",
    "tune-method",
)
MEETINGS = ("mnist-mlp", "fashion-cnn", "uci-power", "variable-schedules")
"""Where all methods meet."""


NAMES = ["platform-release", "platform-version"]
"""Columns of benchopt whose text is not kept."""


class Part(NamedTuple):
    """One call of benchopt."""

    name: str
    problem: str
    solvers: tuple[str, ...]


SHORT = (
    Part("digits-mlp", "digits-mlp", MAIN + REST),
    Part("uci-energy", "uci-energy", MAIN),
    Part("rate-schedule", "rate-schedule", MAIN),
)


def parts(short: bool) -> list[Part]:
    """The comparison against random search on every problem first."""
    if short:
        return list(SHORT)
    return [Part(problem, problem, MAIN) for problem in PROBLEMS] + [
        Part(f"{problem}-all", problem, REST) for problem in MEETINGS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a part, in minutes")
    parser.add_argument("--budget", type=int, help="runs of each method")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("options", nargs="*", help="of `benchopt run`, after --")
    given = parser.parse_args()
    given.budget = given.budget or (16 if given.short else 64)
    given.seeds = given.seeds or (3 if given.short else 10)
    OUTPUTS.mkdir(exist_ok=True)
    failed = [part.name for part in parts(given.short) if not _run(part, given)]
    if failed:
        sys.exit(f"benchopt ended with an error on: {', '.join(failed)}.")


def _run(part: Part, given: argparse.Namespace) -> bool:
    """Whether benchopt ended well; the other problems are run in any case.

    What was known of the part is replaced at the end, at once.
    """
    file = OUTPUTS / f"{'short' if given.short else 'full'}-{part.name}.parquet"
    running = file.with_name(f"running-{part.name}.parquet")
    running.unlink(missing_ok=True)  # benchopt would write beside it
    command = [
        str(Path(sys.executable).with_name("benchopt")),
        *("run", str(FOLDER), "-d", part.problem),
        *(word for solver in part.solvers for word in ("-s", solver)),
        *("-o", f"hypergrad[budget={given.budget}]", "-r", str(given.seeds)),
        *("--no-timeout", "--no-plot", "--no-display"),
        *("--output", str(running)),
        *given.options,
    ]
    # The library beside this folder, also where it is not installed.
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if subprocess.run(command, env=environment).returncode or not running.exists():
        return False
    without_names(running)
    running.replace(file)
    return True


def without_names(file: Path) -> None:
    """Takes out which kernel ran: it says nothing of the results."""
    import pandas

    frame = pandas.read_parquet(file)
    frame[NAMES] = ""
    frame.to_parquet(file)


if __name__ == "__main__":
    main()
