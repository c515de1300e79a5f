import optuna

import hypergrad as hg
from benchmark_utils.box import MOST
from benchmark_utils.optuna_study import search
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver, Refused


class Solver(AbstractSolver):
    """Samplers of Optuna, with their defaults, on the sampling scale of each range.

    References: Watanabe 2023, arXiv:2304.11127 (TPE); Hansen 2016, arXiv:1604.00772.
    """

    name = "optuna"
    requirements = ["optuna", "cmaes"]
    parameters = {"sampler": ["tpe", "cma-es"]}
    parameter_template = "{sampler}"

    def prepare(self, problem: hg.Problem) -> float:
        if self.sampler == "cma-es":
            _cmaes_is_there()
            if self.task.numbers > MOST:
                raise Refused(
                    f"{self.task.numbers} numbers, expected at most {MOST}: its "
                    "covariance matrix takes longer than training."
                )
        return 0.0

    def search(self, runs: Runs) -> None:
        if self.sampler == "tpe":
            search(runs, optuna.samplers.TPESampler(seed=self.seed))
        else:
            search(runs, optuna.samplers.CmaEsSampler(seed=self.seed))


def _cmaes_is_there() -> None:
    import cmaes  # noqa: F401 - what the sampler imports when it is first asked
