"""What all methods of the comparison have in common."""

import abc
from typing import Any

from benchopt import BaseSolver

import hypergrad as hg
from benchmark_utils.runs import Outcome, Runs, Spent
from benchmark_utils.task import Task


class Refused(Exception):
    """The method does not fit the problem; the message says why."""


class AbstractSolver(BaseSolver):
    """A method: it spends the runs of a budget on a task.

    A subclass, ``Solver``, says how in ``search``. A run that cannot be paid ends it.
    What it needs to compile beyond plain runs, it does in ``prepare``.
    """

    sampling_strategy = "run_once"

    def set_objective(self, task: Task, budget: int, seed: int) -> None:
        self.task, self.budget, self.seed = task, budget, seed

    def warm_up(self) -> None:
        """Compiles and times what is compiled; benchopt does not time it."""
        problem = self.task.problem(self.seed)
        plain = self.task.compiled("plain run", lambda: hg.evaluate(problem))
        try:
            self.refusal, self.compiling = "", plain + self.prepare(problem)
        except Refused as reason:
            self.refusal, self.compiling = str(reason), plain

    def run(self, _: Any) -> None:
        if self.refusal:
            self.outcome = Outcome("refused", self.refusal)
            return
        runs = self.accounts()
        try:
            self.search(runs)
        except Spent:
            pass
        except Refused as reason:
            self.outcome = Outcome("refused", str(reason))
            return
        self.outcome = runs.outcome(self.compiling)

    def get_result(self) -> dict:
        return self.outcome._asdict()

    def accounts(self) -> Runs:
        return Runs(self.task.problem(self.seed), self.budget)

    def prepare(self, problem: hg.Problem) -> float:
        """Compiles more than plain runs; the seconds that took.

        Raises:
            Refused: the method does not fit the problem.
        """
        return 0.0

    @abc.abstractmethod
    def search(self, runs: Runs) -> None:
        """Spends ``runs``."""
