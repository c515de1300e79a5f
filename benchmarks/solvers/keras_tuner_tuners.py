import math
import tempfile

import keras_tuner as kt
import numpy as np

import hypergrad as hg
from benchmark_utils.box import MOST, Box
from benchmark_utils.horizons import refusal, shortened
from benchmark_utils.runs import Runs, Spent
from benchmark_utils.solver import AbstractSolver, Refused

EPOCHS = 9  # of Hyperband: the full length in its units; brackets of 9, 5 and 3 trials


class Solver(AbstractSolver):
    """Tuners of KerasTuner; a trial is our compiled run.

    Hyperband goes on with a trial by replaying it from the start, which gives the same
    weights; it is charged for the new steps only.

    References: Li et al. 2018, arXiv:1603.06560 (Hyperband).
    """

    name = "keras-tuner"
    requirements = ["keras-tuner"]
    parameters = {"tuner": ["random", "bayesian", "hyperband"]}
    parameter_template = "{tuner}"

    def prepare(self, problem: hg.Problem) -> float:
        if self.task.numbers > MOST:
            raise Refused(
                f"{self.task.numbers} numbers, expected at most {MOST}: proposing a "
                "point takes longer than training."
            )
        if self.tuner != "hyperband":
            return 0.0
        reason = refusal(self.task.space)
        if reason:
            raise Refused(reason)
        seconds = 0.0
        for epochs in (1, 3):
            short = shortened(problem, epochs / EPOCHS)
            seconds += self.task.compiled(
                f"{epochs} of {EPOCHS} epochs", lambda short=short: hg.evaluate(short)
            )
        return seconds

    def search(self, runs: Runs) -> None:
        box = Box(runs.problem.space)
        runs({})  # the defaults, which KerasTuner has no place for on every scale
        declared = kt.HyperParameters()
        for name in box.names:
            declared.Float(name, 0.0, 1.0)
        with tempfile.TemporaryDirectory() as folder:
            tuner = self._tuner(
                hyperparameters=declared,
                seed=self.seed,
                directory=folder,
                max_consecutive_failed_trials=1,  # ours fail only by mistake
            )
            try:
                tuner.search(runs, box, verbose=0)
            except kt.errors.FatalError as error:
                raise Spent(str(error)) from error

    def _tuner(self, **options) -> kt.Tuner:
        if self.tuner == "random":
            return RandomSearch(max_trials=self.budget, **options)
        if self.tuner == "bayesian":
            return Bayesian(max_trials=self.budget, **options)
        # Brackets until the budget is spent.
        return Hyperband(max_epochs=EPOCHS, hyperband_iterations=1000, **options)


def scored(runs: Runs, box: Box, numbers: dict, part: float, before: float) -> float:
    """E of a trial; infinite ones become the worst that is not an error."""
    if not runs.affords(part - before):
        raise kt.errors.FatalError("The budget is spent.")
    point = np.array([numbers[name] for name in box.names])
    short = None if part == 1.0 else shortened(runs.problem, part)
    loss = runs(box.values(point), part - before, short)
    return loss if math.isfinite(loss) else DIVERGED


DIVERGED = 1e6
"""What KerasTuner is told of a run that diverged: it takes no infinite value."""


class RandomSearch(kt.RandomSearch):
    """Trials that are runs."""

    def run_trial(self, trial, runs: Runs, box: Box, verbose: int = 0) -> float:
        return scored(runs, box, trial.hyperparameters.values, 1.0, 0.0)


class Bayesian(kt.BayesianOptimization):
    """Trials that are runs."""

    def run_trial(self, trial, runs: Runs, box: Box, verbose: int = 0) -> float:
        return scored(runs, box, trial.hyperparameters.values, 1.0, 0.0)


class Hyperband(kt.Hyperband):
    """Trials that are runs, or first parts of runs."""

    def run_trial(self, trial, runs: Runs, box: Box, verbose: int = 0) -> float:
        values = trial.hyperparameters.values
        part = values["tuner/epochs"] / EPOCHS
        before = values["tuner/initial_epoch"] / EPOCHS
        return scored(runs, box, values, part, before)
