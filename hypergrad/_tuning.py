"""A tune from its start to its result: screening, descents, stages, the end."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from hypergrad.diagnostics import nan_report
from hypergrad.outer import checkpoint
from hypergrad.outer.conditions import Conditions
from hypergrad.outer.descent import SPENT, Descent, Place, interior
from hypergrad.outer.ending import result_of
from hypergrad.outer.entry import start_of
from hypergrad.outer.final_training import FinalTraining
from hypergrad.outer.screening import AbstractScreening, Seen
from hypergrad.outer.starts import next_start
from hypergrad.outer.study import Scored, Study
from hypergrad.problem import Problem
from hypergrad.result import Result

UNLIMITED = 10**9


class Tuning:
    """A tune; ``result`` runs what is left of it.

    Args:
        study: what runs and counts.
        descent: how values descend.
        screening: proposes the first runs; None: there are none.
        outer_steps: int, of all descents and stages together.
        stages: lengths of training, one after the other; the last is T.
        starts: int, descents; None: one, and others from where the screening was good
            whenever one ends before the budget does.
        seed: int, of the screening.
        ending: how the best training is gone through once more.
    """

    def __init__(
        self,
        study: Study,
        descent: Descent,
        screening: AbstractScreening | None,
        outer_steps: int,
        stages: tuple[int, ...],
        starts: int | None,
        seed: int,
        ending: FinalTraining,
    ):
        self.study = study
        self.descent = descent
        self.screening = screening
        self.outer_steps = outer_steps
        self.stages = stages
        self.starts = starts
        self.seed = seed
        self.ending = ending
        self.folder: Path | None = None
        self.marks: dict[str, str] = {}
        self.place: Place | None = None
        self.begins = Conditions(0, stages[0])
        if descent.redraws or len(stages) > 1:
            study.reserve = study.run_cost  # the last of all runs

    def keep_in(self, folder: Path, marks: dict[str, str], stored: Any) -> None:
        """Saves to a folder from now on, and goes on from what is stored there."""
        self.folder, self.marks = folder, marks
        if stored is not None:
            self.place = checkpoint.load(stored, self.study, self.descent.steps)

    def result(self, test: Problem | None) -> Result:
        """Runs what is left to run."""
        study = self.study
        for callback in study.callbacks:
            callback.set_stop(study.stop)
        steps = self.outer_steps
        study.tell(
            "on_tune_begin",
            outer_steps=None if steps >= UNLIMITED else steps,
            budget=study.budget.runs,
            history=study.history.columns,
        )
        try:
            if steps:
                study.prepare(start_of(study.problem))
            here = self._screened()
            while here is not None:
                here = self._next(here)
                self._save()
        except KeyboardInterrupt:
            if study.start is None:
                raise
            study.interrupt()
        try:
            result = result_of(study, test, self.ending)
        except KeyboardInterrupt:
            study.interrupt()
            result = result_of(study, test)
        study.tell("on_tune_end", result=result)
        if self.folder is not None and not study.interrupted:
            result.save(self.folder)
            checkpoint.save(self.folder, self.marks, study, self.place, finished=True)
        return result

    # The screening

    def _screened(self) -> Scored | None:
        """Runs the start and the screening; where the descent begins, if anywhere."""
        study = self.study
        given = self._given()
        # Nothing descends from a bound: there the slope on the line is zero.
        study.first = len(given) - 1
        if self.place is not None:
            return study.remembered(self.place.row)
        runs = [study.remembered(row) for row in range(len(study.history))]
        base = given[-1][1]
        cost = study.run_cost * study.share(self.begins)
        while True:
            planned = (
                given[len(runs)]
                if len(runs) < len(given)
                else self._proposed(base, runs, len(given))
            )
            if planned is None or (runs and not study.affords(cost)):
                break
            # Without the final state: as many as the budget would fill the memory.
            runs.append(study.run(*planned)._replace(final=None))
            self._save()
        finite = [run for run in runs[study.first :] if np.isfinite(run.loss)]
        if not finite and not study.affords(cost):
            study.stop(SPENT)
            return None
        if not finite:
            study.stop("no run of the screening ended in finite numbers")
            report = str(nan_report(study.problem, start_of(study.problem)))
            study.notes.append(f"At the start: {report}")
            return None
        here = min(finite, key=lambda run: run.loss)
        self._begin(here)
        return here

    def _given(self) -> list[tuple[str, dict[str, np.ndarray], Conditions]]:
        """(kind, values, conditions) of the runs before the screening.

        The user's start; what it is off its bounds; what it is in short trainings.
        """
        full = self.study.full
        start = start_of(self.study.problem)
        inside = interior(self.study.problem.space, start)
        given = [("start", start, full)]
        if inside is not None:
            self._note_interior(start, inside)
            given.append(("interior", inside, self.begins))
        elif self.begins != full:
            given.append(("again", start, self.begins))
        return given

    def _proposed(
        self, base: dict[str, np.ndarray], runs: list[Scored], given: int
    ) -> tuple[str, dict[str, np.ndarray], Conditions] | None:
        """What the screening runs next; None: nothing."""
        if self.screening is None:
            return None
        study = self.study
        alike = [run for run in runs if self._alike(run.row)]
        paid = math.inf if study.budget.runs is None else study.budget.runs
        seen = Seen(
            base,
            [run.values for run in alike],
            [run.loss for run in alike],
            given - (len(runs) - len(alike)),
            paid / study.run_cost,
            study.reserve > 0.0 or self.starts is not None,
        )
        values = self.screening.propose(study.problem.space, seen, self.seed)
        if values is None:
            return None
        return "screening", study.problem.values(values), self.begins

    def _alike(self, row: int) -> bool:
        return self.study.history.conditions(row) == self.begins

    def _note_interior(
        self, start: dict[str, np.ndarray], inside: dict[str, np.ndarray]
    ) -> None:
        for name, value in start.items():
            moved = value != inside[name]
            note = (
                f"{name} starts on its bound, where nothing descends: the descent "
                f"starts from {inside[name][moved].flat[0]:.4g} instead of "
                f"{value[moved].flat[0]:g}."
                if np.any(moved)
                else None
            )
            if note and note not in self.study.notes:
                self.study.notes.append(note)

    # Descents and their stages

    def _next(self, here: Scored) -> Scored | None:
        """One outer step, or the beginning of what comes next; None at the end."""
        place = self.place
        assert place is not None
        moved = self.descent.advance(place, here)
        if moved is not None:
            return moved
        here = self.study.remembered(place.row)
        if not self.study.stopped and place.stage + 1 < len(self.stages):
            return self._longer(place, here)
        self._score(place, here)
        return self._start_again(place)

    def _begin(self, here: Scored, place: Place | None = None) -> None:
        """A descent from a run, after those before."""
        begun = [*(place.begun if place else []), here.row]
        known = {"screened": len(self.study.history)}
        if place is not None:
            known = {name: getattr(place, name) for name in _COUNTERS}
        self.place = self.descent.place(here, begun=begun, **known)
        self._share_out()

    def _longer(self, place: Place, here: Scored) -> Scored | None:
        """The next stage, from the values of this one."""
        study = self.study
        draws = place.draws + self.descent.redraws
        under = Conditions(draws, self.stages[place.stage + 1])
        if not study.affords(study.run_cost * study.share(under)):
            self._score(place, here)
            study.stop(SPENT)
            return None
        again = study.run("again", here.values, under)
        known = {n: getattr(place, n) for n in (*_COUNTERS, "begun")}
        known |= {"draws": draws, "stage": place.stage + 1}
        self.place = self.descent.place(again, **known)
        self._share_out()
        return again

    def _score(self, place: Place, here: Scored) -> None:
        """Runs the values of a descent under the conditions of the result.

        Also where a callback asked for the end: nothing of it is known otherwise.
        """
        study = self.study
        reserved, study.reserve = study.reserve, 0.0
        if study.history.conditions(here.row) != study.full:
            if study.pays(study.run_cost):
                end = study.run("again", here.values)
                place.row = end.row
                if self.descent.redraws:
                    study.ends.append(end)
        study.reserve = reserved

    def _start_again(self, place: Place) -> Scored | None:
        """The next descent; None where this was the last one."""
        study = self.study
        number = len(place.begun)
        limited = math.isfinite(study.budget.runs or math.inf) or math.isfinite(
            study.budget.seconds or math.inf
        )
        wanted = limited if self.starts is None else number < self.starts
        # Another start is worth a sweep and a step at least.
        cost = study.method.runs(study.problem) * study.share(self.begins)
        paid = study.affords(cost) and place.step < self.outer_steps
        if place.ended in ("", SPENT) and self.starts is None or not wanted or not paid:
            if place.ended:
                study.stop(place.ended)
            return None
        rows = [r for r in range(study.first, place.screened) if self._alike(r)]
        row = next_start(study.problem.space, study.history, rows, place.begun)
        if row is None:
            if place.ended:
                study.stop(place.ended)
            return None
        here = study.remembered(row)
        self._begin(here, place)
        return here

    def _share_out(self) -> None:
        """What the stage that begins may spend: equal shares of what is left."""
        place, study = self.place, self.study
        assert place is not None
        descents = max(1, (self.starts or 1) - len(place.begun) + 1)
        parts = descents * len(self.stages) - place.stage
        place.last = place.stage + 1 == len(self.stages)
        steps = self.outer_steps - place.step
        place.last_step = place.step + math.ceil(steps / parts)
        if parts > 1:
            if study.budget.runs is not None:
                left = study.budget.runs - study.reserve - study.spent
                place.until = study.spent + left / parts
            if study.budget.seconds is not None:
                left = study.budget.seconds - study.seconds
                place.until_seconds = study.seconds + left / parts

    def _save(self) -> None:
        if self.folder is not None:
            checkpoint.save(self.folder, self.marks, self.study, self.place)


_COUNTERS = ("step", "probes", "draws", "blind", "screened")
"""Of a `Place`: what counts on through all descents."""
