"""One tune or search while it goes on: running, counting, remembering the best."""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hypergrad._hypergradient import swept, unconstrained
from hypergrad.at_once import over_samples
from hypergrad.callbacks import Callback
from hypergrad.estimate import check_room
from hypergrad.locate import all_finite, run_status
from hypergrad.methods import AbstractMethod
from hypergrad.methods.auto import stored_choice
from hypergrad.outer.budget import Budget
from hypergrad.outer.conditions import Conditions
from hypergrad.outer.history import History
from hypergrad.problem import Problem
from hypergrad.status import Status

Values = Mapping[str, np.ndarray]

INTERRUPTED = "interrupted from the keyboard"


class Scored(NamedTuple):
    """A run that was scored: row of the history, values, E, metrics, final state.

    ``loss`` is NaN where anything of the run is not finite. ``train_loss``: as in
    `History`.
    """

    row: int
    values: Values
    loss: float
    metrics: dict
    final: Any
    train_loss: float = math.nan


class Study:
    """Runs values of a problem and keeps the accounts.

    ``spent`` (runs) and ``seconds`` are what it cost so far, ``run_cost`` what a run of
    all samples costs. ``full``: the conditions that the result is chosen under;
    ``reserve``: runs that are kept for later. ``single``: the method for one sample.
    ``start`` and ``best`` are `Scored`, ``ends`` what descents with samples drawn anew
    ended at, under the conditions of the result; ``stopped`` says why no further run is
    wanted, "" while one is. ``first`` is the first row that a descent may begin at;
    ``swept``: rows that were swept.
    """

    def __init__(
        self,
        problem: Problem,
        method: AbstractMethod,
        budget: Budget,
        callbacks: Sequence[Callback] = (),
    ):
        self.problem = problem
        self.single = method
        self.method = over_samples(problem, method)
        self.budget = budget
        self.run_cost = float(problem.average)
        _check_affordable(budget, self.run_cost)
        self.callbacks = tuple(callbacks)
        self.full = Conditions(0, problem.num_steps)
        self.reserve = 0.0
        self.history = History(list(problem.space), problem.num_steps)
        self.start: Scored | None = None
        self.best: Scored | None = None
        self.ends: list[Scored] = []
        self.status = Status()
        self.first = 0
        self.swept: list[int] = []
        self.spent = 0.0
        self.stopped = ""
        self.interrupted = False
        self.notes: list[str] = []
        self._tapes: dict[int, Any] = {}
        self._under = self.full, problem
        self._before = 0.0
        self._since = time.perf_counter()
        self._slowest = 0.0

    # Cost

    def sweep_cost(self, row: int) -> float:
        """Of a sweep at a row; a run more where the training must be repeated."""
        at_hand = row in (len(self.history) - 1, self._kept())
        again = self.run_cost if at_hand and row not in self.swept else 0.0
        share = self.share(self.history.conditions(row))
        return share * (self.method.runs(self.problem) - again)

    def share(self, conditions: Conditions) -> float:
        """The part of a whole training that one under these conditions is."""
        return conditions.num_steps / self.full.num_steps

    def _kept(self) -> int | None:
        """The row whose tape is at hand, beside the last one."""
        if not len(self.history):
            return None
        last = self.history.conditions(len(self.history) - 1)
        return self.history.best(self.first, conditions=last)

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._since

    def continue_from(self, spent: float, seconds: float) -> None:
        """Takes over the accounts of an earlier process."""
        self.spent = spent
        self._before = seconds

    def affords(self, cost: float) -> bool:
        """Whether that many more runs fit into what may be spent, and are wanted."""
        return not self.stopped and self.pays(cost)

    def pays(self, cost: float) -> bool:
        """Whether that many more runs fit into what may be spent."""
        in_time = self.budget.has_time(
            self.seconds, cost / self.run_cost * self._slowest
        )
        paid = self.budget.allows(self.spent + self.reserve, cost)
        return paid and in_time

    def stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason

    def interrupt(self) -> None:
        """Ctrl-C: the best so far is the result, nothing more is trained."""
        self.interrupted = True
        self.stop(INTERRUPTED)

    # Running

    def prepare(self, values: Values) -> None:
        """Compiles what sweeps need, where there will be any."""
        if self.affords(self.method.runs(self.problem)):
            check_room(self.problem, self.method, values)
            self.method.prepare(self.problem, values)
            choice = stored_choice(self.single, self.problem)
            if choice is not None and choice["why"] not in self.notes:
                self.notes.append(choice["why"])

    def run(
        self, kind: str, values: Values, conditions: Conditions | None = None
    ) -> Scored:
        """Trains at these values: costs 1 run, of each sample.

        ``conditions`` None: those of the result.
        """
        under = conditions or self.full
        self.spent += self.run_cost * self.share(under)
        scored = self._train(len(self.history), values, under)
        cost = (self.spent, self.seconds)
        self.history.add(kind, values, scored.loss, cost, scored.train_loss, under)
        if self.start is None:
            self.start = scored
        if math.isfinite(scored.loss) and under == self.full:
            if self.best is None or scored.loss < self.best.loss:
                self.best = scored
        self.tell_row("on_run_end", scored.row, scored.row)
        return scored

    def sweep(self, scored: Scored) -> dict[str, np.ndarray]:
        """dE/du at a scored run: costs a sweep.

        The tapes of the last run and of the best one to descend from are at hand; any
        other run is repeated and counted. After a resume there are no tapes: what is
        repeated then is not counted, so that the accounts are those of a tune that was
        not interrupted.
        """
        self.spent += self.sweep_cost(scored.row)
        self.swept.append(scored.row)
        problem = self.under(self.history.conditions(scored.row))
        tape = self._tapes.pop(scored.row, None)
        if tape is None:
            tape = self.method.run(problem, scored.values)
        gradient, _, _ = swept(problem, self.method, tape, stacklevel=8)
        gradient = unconstrained(problem, scored.values, gradient)
        self.history.add_norms(scored.row, gradient)
        return gradient

    def under(self, conditions: Conditions) -> Problem:
        """The problem under other conditions; programs are shared."""
        if conditions == self.full:
            return self.problem
        if conditions != self._under[0]:
            problem = self.problem
            if conditions.num_steps != problem.num_steps:
                problem = problem.replace(num_steps=conditions.num_steps)
            # One at a time: each draw has data of its own.
            self._under = conditions, problem.draw(conditions.draw)
        return self._under[1]

    def has_swept(self, conditions: Conditions) -> bool:
        """Whether a slope is known under these conditions."""
        return any(self.history.conditions(row) == conditions for row in self.swept)

    @property
    def chosen(self) -> Scored | None:
        """The run that is the result; None: no run is finite.

        That with the lowest E; but where samples were drawn anew the end of a descent,
        if it is better than the start: what is lowest of many runs on the same samples
        may be best on these alone.
        """
        assert self.start is not None
        good = [e for e in self.ends if e.loss < self.start.loss]
        return min(good, key=lambda end: end.loss, default=self.best)

    def relabel(self, row: int, kind: str) -> None:
        self.history.columns["kind"][row] = kind

    def remembered(self, row: int) -> Scored:
        """What the history knows of a run; its final state is not in memory."""
        values = {
            name: np.asarray(value, np.float64)
            for name, value in self.history.values(row).items()
        }
        columns = self.history.columns
        loss, train_loss = columns["val_loss"][row], columns["train_loss"][row]
        return Scored(row, values, loss, {}, None, train_loss)

    def next_best(
        self, without: Collection[int], conditions: Conditions
    ) -> Scored | None:
        """The best run to descend from, but for some; None where there is none."""
        row = self.history.best(self.first, without, conditions)
        return None if row is None else self.remembered(row)

    def final(self, scored: Scored) -> Any:
        """The final state of a run, which is repeated where it must; not counted."""
        if scored.final is not None:
            return scored.final
        return self.method.run(self.problem, scored.values).final

    def _train(self, row: int, values: Values, under: Conditions) -> Scored:
        began = time.perf_counter()
        tape = self.method.run(self.under(under), values)
        loss = float(tape.loss)
        if not (math.isfinite(loss) and all_finite(self.problem, tape.final)):
            loss = math.nan
            if row == 0:
                self.status = run_status(self.problem, tape)
        # Of the best run the states of all steps are let go: they can be recomputed.
        best = self.history.best(self.first, conditions=under)
        self._tapes = {
            known: kept._replace(records={})
            for known, kept in self._tapes.items()
            if known == best
        }
        self._tapes[row] = tape
        if row > 0:  # the first run compiles
            took = (time.perf_counter() - began) / self.share(under)
            self._slowest = max(self._slowest, took)
        last = tape.train_losses[-max(1, len(tape.train_losses) // 10) :]
        return Scored(row, values, loss, tape.metrics, tape.final, float(np.mean(last)))

    # Telling

    def tell(self, event: str, *position: Any, **logs: Any) -> None:
        """Calls every callback with what is known now."""
        logs |= {
            "best": math.nan if self.best is None else self.best.loss,
            "runs": self.spent,
            "seconds": self.seconds,
        }
        for callback in self.callbacks:
            getattr(callback, event)(*position, logs=dict(logs))

    def tell_row(self, event: str, position: int, row: int, **logs: Any) -> None:
        """The same, with what one row of the history holds."""
        columns = self.history.columns
        logs |= {k: columns[k][row] for k in ("val_loss", "train_loss", "kind")}
        under = self.history.conditions(row)
        logs |= under._asdict() | {"comparable": under == self.full}
        self.tell(event, position, values=self.history.values(row), **logs)


def _check_affordable(budget: Budget, cost: float) -> None:
    if not budget.allows(0.0, cost):
        raise ValueError(
            f"`budget` must pay at least one run of each of the {cost:g} samples that "
            f"`average` asks for. Received: {budget.runs:g} runs. Raise it, or lower "
            "`average`."
        )
