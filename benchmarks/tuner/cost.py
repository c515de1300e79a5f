"""What a tuner costs beside its trials, and what a second worker saves.

    KERAS_BACKEND=jax python benchmarks/tuner/cost.py overhead
    KERAS_BACKEND=jax python benchmarks/tuner/cost.py workers

``overhead``: one trial of GradientTuner, and the same descent and scored training by
hand, in turns in one process; nothing compiled is kept from one to the next. (Initial
weights differ, so scores do.) ``workers``: a study by one worker and by two, each trial
on one core.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parents[1])]

PROBLEM = "mnist-mlp"
EPOCHS = 12


def forget_programs() -> None:
    import keras

    keras.backend.clear_session()
    gc.collect()
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


def by_tuner(of: Any, fit: dict[str, Any], runs: int, seed: int) -> tuple[float, float]:
    """(seconds, score) of a search of one trial."""
    import hypergrad as hg
    from problems import OBJECTIVE

    forget_programs()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tuner = hg.GradientTuner(
            of.build,
            objective=hg.Objective(OBJECTIVE, "min"),
            max_trials=1,
            budget=runs,
            seed=seed,
            directory=folder,
        )
        tuner.search(**fit)
        seconds = time.perf_counter() - began
        (trial,) = tuner.oracle.trials.values()
        return seconds, trial.score


def by_hand(of: Any, fit: dict[str, Any], runs: int, seed: int) -> tuple[float, float]:
    """(seconds, score) of the same trial without a tuner."""
    import keras

    import hypergrad as hg
    from problems import OBJECTIVE

    forget_programs()
    with tempfile.TemporaryDirectory() as folder:
        trial, found = first_trial(of, folder, seed)
        forget_programs()
        began = time.perf_counter()
        hp = trial.hyperparameters
        keras.utils.set_random_seed(seed)
        start = hp.copy()
        start.values["smoothing"] = 0.0  # E is without
        result = hg.tune(
            of.build(start),
            **{k: v for k, v in fit.items() if k != "callbacks"},
            hyperparameters=found.ranges(hp),
            bind=found.bind,
            budget=runs,
            seed=trial.seed % 2**31,
            directory=Path(folder) / "by hand",
        )
        hp.values.update({name: float(value) for name, value in result.values.items()})
        keras.utils.set_random_seed(seed)
        model = of.build(hp)
        best = keras.callbacks.ModelCheckpoint(
            f"{folder}/best.weights.h5", OBJECTIVE, 0, True, True, "min"
        )
        history = model.fit(**fit, callbacks=[best])
        seconds = time.perf_counter() - began
        return seconds, min(history.history[OBJECTIVE])


def first_trial(of: Any, folder: str, seed: int) -> tuple[Any, Any]:
    """Where the tuner's trial begins, and what it descends."""
    import hypergrad as hg
    from problems import OBJECTIVE

    tuner = hg.GradientTuner(
        of.build,
        objective=hg.Objective(OBJECTIVE, "min"),
        max_trials=1,
        seed=seed,
        directory=folder,
        project_name="start",
    )
    trial = tuner.oracle.create_trial()
    return trial, tuner.reach(trial.hyperparameters)


def overhead(runs: int, repeats: int) -> None:
    from problems import problem

    of = problem(PROBLEM)
    fit = of.fit | {"epochs": EPOCHS}
    by_hand(of, fit, 1, 0)  # imports, and what else only the first one pays
    ratios = []
    for seed in range(repeats):
        if seed % 2:
            tuned, score = by_tuner(of, fit, runs, seed)
            hand, other = by_hand(of, fit, runs, seed)
        else:
            hand, other = by_hand(of, fit, runs, seed)
            tuned, score = by_tuner(of, fit, runs, seed)
        ratios.append(tuned / hand)
        print(
            f"seed {seed}: tuner {tuned:.1f} s (score {score:.4f}), by hand {hand:.1f} "
            f"s (score {other:.4f}), ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f} (must be at most 1.05)")


WORKERS = """
import os, sys
sys.path[:0] = sys.argv[1].split(os.pathsep)
jobs, trials, epochs = (int(text) for text in sys.argv[2:5])
if jobs == 1:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
import hypergrad as hg
from problems import OBJECTIVE, problem
of = problem("mnist-mlp")
tuner = hg.RandomSearch(
    of.build,
    objective=hg.Objective(OBJECTIVE, "min"),
    max_trials=trials,
    seed=0,
    directory=sys.argv[5],
)
tuner.search(**of.fit | {"epochs": epochs}, n_jobs=jobs)
scores = [trial.score for trial in tuner.oracle.trials.values()]
print("scores", *(f"{score:.6f}" for score in scores))
"""


def workers(trials: int, repeats: int) -> None:
    ratios = []
    for _ in range(repeats):
        seconds, scores = {}, {}
        for jobs in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                told = subprocess.run(
                    [
                        *(sys.executable, "-c", WORKERS, os.pathsep.join(sys.path)),
                        *(str(jobs), str(trials), str(EPOCHS), folder),
                    ],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                seconds[jobs] = time.perf_counter() - began
            scores[jobs] = told.stdout.splitlines()[-1]
        ratios.append(seconds[2] / seconds[1])
        print(
            f"1 worker {seconds[1]:.1f} s, 2 workers {seconds[2]:.1f} s, ratio "
            f"{ratios[-1]:.3f}; same scores: {scores[1] == scores[2]}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f} (must be at most 0.6)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["overhead", "workers"])
    parser.add_argument("--runs", type=int, default=32, help="of a descent")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.what == "overhead":
        overhead(given.runs, given.repeats)
    else:
        workers(given.trials, given.repeats)


if __name__ == "__main__":
    main()
