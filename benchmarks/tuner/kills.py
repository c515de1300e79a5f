"""Kills the workers of a study at random moments and counts its trials.

    python benchmarks/tuner/kills.py --kills 20
    python benchmarks/tuner/kills.py --kills 20 --postgres --sampler Grid

Two workers do 24 trials; every few seconds one of them gets SIGKILL and is started
again. In the end every trial must be there once, with the values and the best score of
a study that nobody disturbed. ``--postgres`` runs a server of its own for it.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 24

WORKER = """
import sys, time
import hypergrad as hg
from hypergrad.tuner import samplers

folder, storage, sampler, seconds, number = sys.argv[1:]

def ask(hp):
    kind, n = hp.Choice("kind", ["a", "b"]), hp.Int("n", 1, 6)
    x = hp.Float("x", 0.0, 1.0, parent_name="kind", parent_values=["a"])
    m = hp.Int("m", 1, 3, parent_name="kind", parent_values=["b"])
    return ((x if kind == "a" else m) - 0.4) ** 2 + 0.1 * n

class Slow(hg.Tuner):
    def run_trial(self, trial, *args, **kwargs):
        time.sleep(float(seconds))
        return ask(trial.hyperparameters)

space = hg.HyperParameters()
ask(space)
tuner = Slow(
    max_trials=int(number), hyperparameters=space, seed=0,
    sampler=getattr(samplers, sampler),
    directory=folder, project_name="killed", storage=storage or None,
)
tuner.search(verbose=0)
for trial in tuner.oracle.trials.values():
    print(trial.trial_id, trial.status, trial.score, trial.hyperparameters.values)
print("best", tuner.oracle.get_best_trials(1)[0].score)
"""


def started(folder: Path, storage: str, sampler: str, seconds: float) -> Any:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    return subprocess.Popen(
        [
            *(sys.executable, "-c", WORKER, str(folder), storage),
            *(sampler, str(seconds), str(TRIALS)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def last_lines(process: Any) -> list[str]:
    lines = process.communicate(timeout=600)[0].splitlines()
    return [line for line in lines if not line.startswith(("Reloading", "The search"))]


def disturbed(
    folder: Path, storage: str, given: argparse.Namespace, rng: Any
) -> tuple[list, int]:
    """What both workers print in the end, and how many kills hit a running one."""
    workers = [started(folder, storage, given.sampler, given.seconds) for _ in range(2)]
    hit = 0
    while hit < given.kills:
        time.sleep(rng.uniform(0.5, 12.0))
        one = rng.randrange(2)
        if workers[one].poll() is None:
            workers[one].send_signal(signal.SIGKILL)
            hit += 1
        elif all(worker.poll() is not None for worker in workers):
            break  # all trials have ended
        workers[one].communicate()
        workers[one] = started(folder, storage, given.sampler, given.seconds)
    return [last_lines(worker) for worker in workers], hit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sampler", default="Random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=9.0, help="of a trial")
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with contextlib.ExitStack() as stack:
        storage = ""
        if given.postgres:
            sys.path.append(str(ROOT / "tests"))
            import postgres

            storage = stack.enter_context(postgres.server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wanted = last_lines(started(folder / "calm", "", given.sampler, 0.0))
        told, hit = disturbed(folder / "killed", storage, given, rng)
    same = [lines == wanted for lines in told]
    place = "PostgreSQL" if given.postgres else "SQLite"
    print(
        f"{given.sampler} on {place}: {hit} kills, {len(told[0]) - 1} trials; as in a "
        f"study that nobody disturbed: {same}"
    )
    if not all(same):
        print("\n".join(("wanted", *wanted, "found", *told[0])))
        sys.exit(1)


if __name__ == "__main__":
    main()
