import hypergrad as hg
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver


class Solver(AbstractSolver):
    """An evenly spread sequence in the scale of each range, the defaults first."""

    name = "quasirandom"

    def search(self, runs: Runs) -> None:
        runs.adopt(
            hg.search(
                runs.problem,
                "quasirandom",
                budget=self.budget,
                seed=self.seed,
                verbose=0,
            )
        )
