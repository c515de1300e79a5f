"""When a descent is given up: its choices are worse than those of the best trial."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class BehindTheBest:
    """Gives a trial up whose best E is above that of the best descent by a margin.

    A trial starts from the numbers that the best one was tuned to, so that its first
    run says already what its choices are worth; what is left to be gained by tuning
    them again is the margin. With Optuna's interface of a pruner.

    Args:
        margin: float, the part of the best E by which it may be above it,
        later: the same after ``runs`` runs.
        runs: int.
    """

    margin: float = 0.15
    later: float = 0.0
    runs: int = 4

    def prune(self, study: Any, trial: Any) -> bool:
        """Whether a frozen trial with intermediate values is hopeless."""
        ended = [
            min(other.intermediate_values.values())
            for other in study.get_trials(deepcopy=False)
            if other.state.name == "COMPLETE" and other.intermediate_values
        ]
        if not ended or not trial.intermediate_values:
            return False
        few = len(trial.intermediate_values) < self.runs
        allowed = min(ended) * (1.0 + (self.margin if few else self.later))
        return min(trial.intermediate_values.values()) > allowed
