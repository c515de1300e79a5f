import optuna
import torch  # noqa: F401 - what the sampler is made of

import hypergrad as hg
from benchmark_utils.box import MOST
from benchmark_utils.optuna_study import search
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver, Refused


class Solver(AbstractSolver):
    """Optuna's Gaussian process, with its defaults."""

    name = "optuna-gp"
    requirements = ["optuna", "torch"]

    def prepare(self, problem: hg.Problem) -> float:
        if self.task.numbers > MOST:
            raise Refused(
                f"{self.task.numbers} numbers, expected at most {MOST}: proposing a "
                "point takes longer than training."
            )
        return 0.0

    def search(self, runs: Runs) -> None:
        search(runs, optuna.samplers.GPSampler(seed=self.seed))
