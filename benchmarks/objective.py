"""What a method is judged by."""

import json
import math

from benchopt import BaseObjective

from benchmark_utils.runs import Outcome
from benchmark_utils.task import Task
from benchmark_utils.version import commit, space_digest, version


class Objective(BaseObjective):
    """The loss on held-out data that a budget of runs leads to.

    A run is one plain training of the problem, and the unit of the budget. Screening
    and runs that diverge count; a hypergradient is charged what hypergrad's accounts
    say. ``value`` is the validation loss that a method ended with. Test loss and score
    come from one run with its values that nobody pays. The repetition is the seed: it
    sets initial weights and batch orders, the same ones for every method.
    """

    name = "hypergrad"
    min_benchopt_version = "1.10"
    sampling_strategy = "run_once"
    # The version stands in the key of the cache: another code is another result.
    parameters = {"budget": [64], "version": [version()]}
    test_config = {"budget": 4, "dataset": {"name": "digits-mlp"}}

    def skip(self, task: Task | None = None, missing: str = ""):
        return (True, missing) if task is None else (False, None)

    def set_data(self, task: Task, missing: str = "") -> None:
        self.task = task

    def get_objective(self) -> dict:
        # benchopt's own splits read the repetition here; its seeds are hashes of it.
        return {"task": self.task, "budget": self.budget, "seed": self._repetition}

    def evaluate_result(self, **result) -> dict:
        outcome = Outcome(**result)
        test = {"loss": math.nan, "score": math.nan}
        if outcome.status == "done":
            test = self.task.tested(outcome.kind, outcome.values, self._repetition)
        return {
            "value": outcome.loss,
            "test_loss": test["loss"],
            "test_score": test["score"],
            "score": self.task.score,
            "runs": outcome.runs,
            "seconds": outcome.seconds,
            "seconds_with_compilation": outcome.seconds + outcome.compiling,
            "diverged_runs": outcome.diverged,
            "status": outcome.status,
            "reason": outcome.reason,
            "numbers": self.task.numbers,
            # Text survives parquet, benchopt's pages and other readers alike.
            "curve": json.dumps(outcome.curve),
            "commit": commit(),
            "spaces": space_digest(),
        }

    def get_one_result(self) -> dict:
        return Outcome("refused", "an example")._asdict()
