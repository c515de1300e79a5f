import hypergrad as hg
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver


class Solver(AbstractSolver):
    """Uniform draws on the scale of each range, the defaults first.

    References: Bergstra & Bengio 2012, JMLR 13.
    """

    name = "random"

    def search(self, runs: Runs) -> None:
        runs.adopt(
            hg.search(
                runs.problem, "random", budget=self.budget, seed=self.seed, verbose=0
            )
        )
