import hypergrad as hg
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver


class Solver(AbstractSolver):
    """The largest grid of nearly equal sides that the budget holds, defaults first.

    All entries of an array have the same value. With more names than the budget has
    powers of two, most sides have one point.
    """

    name = "grid"

    def search(self, runs: Runs) -> None:
        runs.adopt(
            hg.search(
                runs.problem, "grid", budget=self.budget, seed=self.seed, verbose=0
            )
        )
