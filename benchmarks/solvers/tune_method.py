import hypergrad as hg
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver
from benchmark_utils.tuning import METHODS, compile_method, tune
from hypergrad.outer import Screening


class Solver(AbstractSolver):
    """The descent of `hypergrad.tune` with each way to compute a hypergradient.

    From the best of 8 runs spread over the space: the screening that `tune` has by
    default would leave the method little to do on small problems. The budget is in
    runs, so that a costly hypergradient means few steps.
    """

    name = "tune-method"
    parameters = {"method": list(METHODS)}
    parameter_template = "{method}"

    def prepare(self, problem: hg.Problem) -> float:
        return compile_method(self.task, problem, METHODS[self.method])

    def search(self, runs: Runs) -> None:
        tune(runs, METHODS[self.method], self.seed, screening=Screening(7))
