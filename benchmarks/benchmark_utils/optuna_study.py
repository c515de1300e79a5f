"""A sampler of Optuna as a method of the comparison."""

import math
from typing import Any

import numpy as np
import optuna

from benchmark_utils.box import Box
from benchmark_utils.runs import Runs

optuna.logging.set_verbosity(optuna.logging.ERROR)


def search(runs: Runs, sampler: Any) -> None:
    """Asks and tells until the budget is spent, the defaults first.

    A run that diverges is told as twice as bad as the worst that did not: the samplers
    differ in what they make of an infinite value.
    """
    box = Box(runs.problem.space)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(dict(zip(box.names, box.start().tolist())))
    worst = 0.0
    for number in range(int(runs.budget)):
        trial = study.ask()
        point = [trial.suggest_float(name, 0.0, 1.0) for name in box.names]
        loss = runs(box.values(np.array(point)) if number else {})
        if math.isfinite(loss):
            worst = max(worst, loss)
        study.tell(trial, loss if math.isfinite(loss) else 2.0 * worst)
