"""The accounts of one method on one problem with one seed."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import hypergrad as hg

TINY = 1e-9
"""Rounding of shares of runs that add up to a budget."""


class Spent(Exception):
    """The budget does not hold what was asked for."""


class Outcome(NamedTuple):
    """What a method found and what it cost.

    ``status``: "done", "diverged" where no run ended in finite numbers, or "refused",
    with the ``reason``. ``kind`` and ``values``: what to test (see `Task.tested`).
    ``curve``: dict of lists of equal length, an entry for each run of full length:
    ``"runs"`` and ``"seconds"`` spent when it was scored, ``"best"``, the lowest loss
    so far, None before there is a finite one. ``diverged``: how many runs did.
    ``seconds``: of the search, programs being compiled already; ``compiling``: what
    that took.
    """

    status: str
    reason: str = ""
    kind: str = "tuned"
    values: Mapping[str, Any] = {}
    loss: float = math.nan
    runs: float = 0.0
    seconds: float = 0.0
    compiling: float = 0.0
    diverged: int = 0
    curve: Mapping[str, list] = {}


@dataclasses.dataclass
class Runs:
    """Charges runs, and remembers what they gave.

    Args:
        problem: `hg.Problem`, one sample.
        budget: float, in runs of full length.
        kind: what the values are of, "tuned" or the key of a `Task.variant`.

    Raises (when called):
        Spent: the budget does not hold another run.
    """

    problem: hg.Problem
    budget: float
    kind: str = "tuned"

    def __post_init__(self) -> None:
        self.spent = 0.0
        self.diverged = 0
        self.loss = math.inf
        self.values: Mapping[str, Any] = {}
        self._curve: dict[str, list] = {"runs": [], "seconds": [], "best": []}
        self._since = time.perf_counter()

    @property
    def left(self) -> float:
        return max(0.0, self.budget - self.spent)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._since

    def affords(self, share: float = 1.0) -> bool:
        return self.spent + share <= self.budget + TINY

    def __call__(
        self,
        values: Mapping[str, Any],
        share: float = 1.0,
        problem: hg.Problem | None = None,
    ) -> float:
        """E of one run, infinite where it diverges; that run is charged all the same.

        Args:
            values: dict, as for `hg.evaluate`.
            share: float in (0, 1], what is charged.
            problem: of another length, or None. Its E ranks nothing by itself: the
                result is the best run of full length.
        """
        if not self.affords(share):
            raise Spent(
                f"{share:g} of a run was asked for with {self.left:g} left of "
                f"{self.budget:g}."
            )
        self.spent += share
        found = hg.evaluate(self.problem if problem is None else problem, values)
        loss = float(found.loss) if found.status.ok else math.inf
        loss = loss if math.isfinite(loss) else math.inf
        self.diverged += loss == math.inf
        if problem is None or problem.num_steps == self.problem.num_steps:
            self._score(values, loss, self.spent, self.seconds)
        return loss

    def adopt(self, result: hg.Result) -> None:
        """Takes over the accounts of `hg.tune` or `hg.search`."""
        before, since = self.spent, self.seconds - result.seconds
        history = result.history
        for row, loss in enumerate(history["val_loss"]):
            finite = math.isfinite(loss)
            self.diverged += not finite
            self._score(
                {name: history[name][row] for name in self.problem.space},
                loss if finite else math.inf,
                before + history["runs"][row],
                since + history["seconds"][row],
            )
        self.spent += result.runs

    def outcome(self, compiling: float = 0.0) -> Outcome:
        found = math.isfinite(self.loss)
        return Outcome(
            status="done" if found else "diverged",
            reason="" if found else "no run ended in finite numbers",
            kind=self.kind,
            values=dict(self.values),
            loss=self.loss if found else math.nan,
            runs=self.spent,
            seconds=self.seconds,
            compiling=compiling,
            diverged=self.diverged,
            curve=self._curve,
        )

    def _score(
        self, values: Mapping[str, Any], loss: float, spent: float, seconds: float
    ) -> None:
        if loss < self.loss:
            self.loss, self.values = loss, dict(values)
        self._curve["runs"].append(spent)
        self._curve["seconds"].append(seconds)
        self._curve["best"].append(self.loss if math.isfinite(self.loss) else None)
