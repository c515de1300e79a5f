"""Many numbers against few: what a schedule for each variable gains.

    KERAS_BACKEND=jax python benchmarks/outer/many.py

The MLP of ``run.py``: 10 knots of the learning rate for each of its four variables, an
L2 for each kernel and bias, and both betas, 46 numbers, 128 runs of `hg.tune` from 5
random starts; beside it 256 random runs over the four numbers of ``run.py``.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from run import random_search  # noqa: E402

import hypergrad as hg  # noqa: E402
from benchmark_utils import spaces  # noqa: E402
from problems import SPLITS, started, task  # noqa: E402

BUDGET, STARTS = 128, 5
MANY = {
    "optimizer.learning_rate": hg.Schedule(hg.PerVariable(spaces.RATE), knots=10),
    "optimizer.beta_1": spaces.BETA_1,
    "optimizer.beta_2": spaces.BETA_2,
    "*.kernel_regularizer.l2": hg.PerTarget(spaces.L2),
    "*.bias_regularizer.l2": hg.PerTarget(spaces.L2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="*", default=list(SPLITS))
    parser.add_argument("--out", type=Path, help="folder for many.json")
    given = parser.parse_args()
    measured = {}
    for name in given.problems:
        of, wide = task(name), task(name, penalised_biases=True)
        bars = random_search(of)
        found = []
        for start in range(STARTS):
            problem = started(wide.variant("many", MANY, 0), start)
            result = hg.tune(problem, budget=BUDGET, seed=start, verbose=0)
            test = wide.tested("many", result.values, 0)["loss"]
            kinds = result.history["kind"]
            counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
            found.append({"end": result.loss, "test": test, "rows": counts})
            print(name, start, f"{result.loss:.4f} test {test:.4f}", counts, flush=True)
        ends = [f["end"] for f in found]
        gain = 1.0 - statistics.median(ends) / bars["best of 256"]
        print(
            f"{name}: median {statistics.median(ends):.4f}, random search's best of "
            f"256 {bars['best of 256']:.4f}: {gain:.1%} below; test loss "
            f"{np.median([f['test'] for f in found]):.4f}, {bars['test of 256']:.4f}"
        )
        measured[name] = {"random search": bars, "starts": found, "gain": gain}
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "many.json").write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
