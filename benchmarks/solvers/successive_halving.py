import numpy as np

import hypergrad as hg
from benchmark_utils.box import Box
from benchmark_utils.horizons import refusal, shortened
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver, Refused

WIDTH, FACTOR = 27, 3
PARTS = (1 / 9, 1 / 3, 1.0)


class Solver(AbstractSolver):
    """Successive halving: 27 random points at T/9, the best 9 at T/3, the best 3 at T.

    A bracket costs 27/9 + 9 · 2/9 + 3 · 2/3 = 7 runs: what goes on is charged for the
    new steps only. Brackets follow one another; the defaults are run first.

    References: Jamieson & Talwalkar 2016, arXiv:1502.07943.
    """

    name = "successive-halving"

    def prepare(self, problem: hg.Problem) -> float:
        reason = refusal(self.task.space)
        if reason:
            raise Refused(reason)
        seconds = 0.0
        for part in PARTS[:-1]:
            short = shortened(problem, part)
            seconds += self.task.compiled(
                f"{part:.3f} of a run", lambda short=short: hg.evaluate(short)
            )
        return seconds

    def search(self, runs: Runs) -> None:
        box, random = Box(runs.problem.space), np.random.default_rng(self.seed)
        runs({})
        while True:
            points = random.random((WIDTH, box.dimensions))
            for part, before in zip(PARTS, (0.0, *PARTS)):
                short = None if part == 1 else shortened(runs.problem, part)
                losses = [
                    runs(box.values(point), part - before, short) for point in points
                ]
                best = np.argsort(losses, kind="stable")
                points = points[best[: max(1, len(points) // FACTOR)]]
