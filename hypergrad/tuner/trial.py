"""A trial as its user sees it: values, status, metrics, score."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hypergrad.tuner.hyperparameters import HyperParameters
from hypergrad.tuner.objectives import Objective


class TrialStatus:
    """The words for what became of a trial."""

    RUNNING = "RUNNING"
    """Some worker is at it, or it waits to be gone on with."""
    COMPLETED = "COMPLETED"
    """It has a finite score."""
    PRUNED = "PRUNED"
    """It was given up because others were better at the same point."""
    INVALID = "INVALID"
    """It raised an error, or its score is not finite; it may be tried again."""
    FAILED = "FAILED"
    """The same, and it is not tried again."""


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What the executions of a trial reported: name → value, their means."""

    values: Mapping[str, float]

    def exists(self, name: str) -> bool:
        return name in self.values

    def get_best_value(self, name: str) -> float:
        return self.values[name]

    get_last_value = get_best_value

    def get_config(self) -> dict[str, float]:
        return dict(self.values)


@dataclasses.dataclass
class Trial:
    """One point of the search space, and what was found there.

    Attributes:
        trial_id: str, of digits; trials are numbered in the order they began.
        hyperparameters: `HyperParameters` with the values that were scored: where
            numbers were descended, the tuned ones.
        status: one of `TrialStatus`.
        score: float, the objective; None while there is none.
        metrics: `Metrics`.
        best_step: int, the epoch of the score, from 0.
        message: str, why it failed; None where it did not.
        start: dict, name → value that the sampler chose; where a descent began.
        seed: int, of initial weights and batch orders of execution 0.
        info: dict, what a tuner keeps of it: seconds, history, what was descended.
    """

    hyperparameters: HyperParameters
    trial_id: str
    status: str = TrialStatus.RUNNING
    score: float | None = None
    metrics: Metrics = dataclasses.field(default_factory=lambda: Metrics({}))
    best_step: int = 0
    message: str | None = None
    start: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    row: int = -1
    failures: int = 0

    def summary(self) -> None:
        """Prints it."""
        print(f"Trial {self.trial_id} summary")
        print("Hyperparameters:")
        self.display_hyperparameters()
        if self.score is not None:
            print(f"Score: {self.score}")
        if self.message is not None:
            print(self.message)

    def display_hyperparameters(self) -> None:
        for name, value in self.hyperparameters.values.items():
            began = self.start.get(name, value)
            tuned = "" if began == value else f" (descended from {began:.5g})"
            print(f"{name}: {value}{tuned}")
        if not self.hyperparameters.values:
            print("default configuration")


def best_first(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The completed trials with a finite score, the best one first."""
    done = [
        trial
        for trial in trials
        if trial.status == TrialStatus.COMPLETED
        and trial.score is not None
        and math.isfinite(trial.score)
    ]
    sign = -1.0 if objective.direction == "max" else 1.0
    return sorted(done, key=lambda trial: (sign * (trial.score or 0.0), trial.row))
