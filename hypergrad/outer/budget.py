"""What a tune or a search may cost."""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits, looked at before each run; None is no limit.

    Args:
        runs: float, plain trainings of T steps; never exceeded. A step that does not
            fit is not started; what is left may still be spent on runs without a sweep.
        outer_steps: int, updates of the values, kept or taken back; never exceeded.
        seconds: float, wall-clock. The first run is always made, with the compilation
            before it. After that none is started that would end later, going by the
            slowest so far: what takes longer than that, a first sweep that compiles or
            a test at the end, may exceed it.
    """

    runs: float | None = None
    outer_steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        limits = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, limit in limits.items():
            number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
            least = 1 if name == "runs" else 0
            if limit is not None and not (number and limit >= least):
                raise ValueError(
                    f"`Budget({name}=…)` must be a number of at least {least}, or None "
                    f"for no limit. Received: {limit!r}."
                )
        steps = self.outer_steps
        if steps is not None and not isinstance(steps, int):
            raise ValueError(
                "`Budget(outer_steps=…)` must be an integer, or None for no limit. "
                f"Received: {steps!r}."
            )

    @staticmethod
    def of(budget: Any) -> "Budget":
        """A `Budget` of what a user passes: None, a number of runs, or a Budget."""
        if budget is None:
            return Budget()
        if isinstance(budget, Budget):
            return budget
        if isinstance(budget, (int, float)) and not isinstance(budget, bool):
            return Budget(runs=budget)
        raise TypeError(
            "`budget` must be a number of runs or hg.Budget(runs=, outer_steps=, "
            f"seconds=). Received: {budget!r}."
        )

    def allows(self, spent: float, cost: float) -> bool:
        return self.runs is None or spent + cost <= self.runs * (1 + 1e-12)

    def has_time(self, seconds: float, next_seconds: float) -> bool:
        limit = math.inf if self.seconds is None else self.seconds
        return seconds + next_seconds <= limit
