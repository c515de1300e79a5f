import numpy as np

import hypergrad as hg
from benchmark_utils import spaces
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver, Refused

RATE = "optimizer.learning_rate"
# Two knots joined by half a cosine wave: from the peak at the first step to 0.
SPACE = {RATE: hg.Schedule(hg.Float(0.0, 1.0), knots=2, interpolation="cosine")}


class Solver(AbstractSolver):
    """A cosine schedule by hand: random search over its peak, all else as in Keras.

    References: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. (5), without restarts.
    """

    name = "cosine"

    def prepare(self, problem: hg.Problem) -> float:
        if RATE not in problem.space:
            raise Refused(f"{RATE} is not among the numbers of this problem.")
        cosine = self.task.variant(self.name, SPACE, self.seed)
        return self.task.compiled(self.name, lambda: hg.evaluate(cosine))

    def accounts(self) -> Runs:
        problem = self.task.variant(self.name, SPACE, self.seed)
        return Runs(problem, self.budget, kind=self.name)

    def search(self, runs: Runs) -> None:
        random = np.random.default_rng(self.seed)
        peak = float(spaces.COSINE_PEAK.start())
        while True:
            runs({RATE: np.array([peak, 0.0])})
            peak = float(spaces.COSINE_PEAK.sample(random.random()))
