import hypergrad as hg
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver
from benchmark_utils.tuning import compile_method, tune


class Solver(AbstractSolver):
    """`hypergrad.tune` as it stands."""

    name = "tune"

    def prepare(self, problem: hg.Problem) -> float:
        return compile_method(self.task, problem, hg.Reverse())

    def search(self, runs: Runs) -> None:
        tune(runs, None, self.seed)
