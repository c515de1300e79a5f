"""The descent: sweep, step, and take back what made things worse."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad.outer.coordinates import MAX_ENTRIES, can_spread
from hypergrad.outer.safeguard import TakeBack
from hypergrad.outer.steps import AbstractSteps
from hypergrad.outer.study import Scored, Study

SLOPE_PROBE = 1e-4

SPENT = "the budget is spent"

TOO_SMALL = "steps have become too small to matter"

MOST_BLIND = 5
"""After as many hypergradients that are not finite no further one is computed."""


@dataclasses.dataclass
class Place:
    """Where a descent stands; with the history, all that a resume needs.

    ``row``: of the history, the last kept run. ``u``: its unconstrained values.
    ``direction``, ``slope`` (dE/dlength) and ``length``: of the next trial; None before
    the first sweep. ``fresh``: whether the direction belongs to this row. ``probes``:
    random steps drawn so far; ``probe``: the width of the next, 0 while slopes lead.
    ``state``: of the steps. ``step``: outer steps done, of all descents. ``blind``:
    rows whose hypergradient is not finite. ``draws``: of samples so far.

    ``stage``: of a growing horizon; ``last``: whether no other follows. ``screened``:
    rows before the first descent. ``begun``: rows that descents began at, this one's
    last. ``last_step``, ``until``, ``until_seconds``: what this stage may spend, in
    outer steps, runs and seconds, counted from the beginning of the tune. ``ended``:
    why it ended, "" while it goes on.
    """

    row: int
    u: dict[str, np.ndarray]
    state: Any
    direction: dict[str, np.ndarray] | None = None
    slope: float = 0.0
    length: float = 1.0
    fresh: bool = False
    probe: float = 0.0
    probes: int = 0
    step: int = 0
    blind: list[int] = dataclasses.field(default_factory=list)
    draws: int = 0
    stage: int = 0
    last: bool = True
    screened: int = 0
    begun: list[int] = dataclasses.field(default_factory=list)
    last_step: int = 0
    until: float = math.inf
    until_seconds: float = math.inf
    ended: str = ""


class Descent:
    """One descent of a study.

    Args:
        study: what runs and counts.
        steps: what turns hypergradients into steps.
        safeguard: what judges steps; None keeps every step.
        seed: int, of random steps.
    """

    def __init__(
        self,
        study: Study,
        steps: AbstractSteps,
        safeguard: TakeBack | None,
        seed: int = 0,
    ):
        self.study = study
        self.steps = steps
        self.safeguard = safeguard
        self.seed = seed
        self.redraws = study.problem.resample == "each_step"
        self.space = study.problem.space

    def place(self, start: Scored, **known: Any) -> Place:
        """The place before the first step, at a run that was scored."""
        u = self._unconstrained(start)
        return Place(start.row, u, self.steps.init(self.space, u), **known)

    def _unconstrained(self, scored: Scored) -> dict[str, np.ndarray]:
        return {
            name: float_.to_unconstrained(scored.values[name], clip=True)
            for name, float_ in self.space.items()
        }

    def advance(self, place: Place, here: Scored) -> Scored | None:
        """One outer step, in place; the run that was kept last, None at the end.

        Then ``place.ended`` says why, unless all outer steps were made.
        """
        study = self.study
        if place.step >= place.last_step or place.ended or study.stopped:
            return None
        aimed = self._aim(place, here)
        if aimed is None:
            return None
        here = aimed
        study.tell("on_outer_step_begin", place.step)
        trial, kept = self._try(place, here)
        place.step += 1
        if kept:
            self._keep(place, trial)
        else:
            self._shorten(place, here, trial)
        study.tell_row("on_outer_step_end", place.step - 1, trial.row, kept=kept)
        return trial if kept else here

    def _aim(self, place: Place, here: Scored) -> Scored | None:
        """Sees to it that there is a direction to try, and from where.

        None: the descent ends.
        """
        study = self.study
        if not self._affords(place, here):
            place.ended = SPENT
            return None
        if place.fresh:
            return here
        if self.redraws and study.has_swept(study.history.conditions(here.row)):
            again = self._redrawn(place, here)
            if again is None:
                return self._without_sweep(place, here)
            here = again
        while len(place.blind) < MOST_BLIND:
            if not self._affords(place, here, study.sweep_cost(here.row)):
                return self._without_sweep(place, here)
            gradient = study.sweep(here)
            if all(np.isfinite(g).all() for g in gradient.values()):
                return here if self._direct(place, gradient) else None
            place.blind.append(here.row)
            study.notes.append(
                f"The hypergradient is not finite at row {here.row} of the history."
            )
            if self._can_probe(place):
                break
            alike = study.history.conditions(here.row)
            back = study.next_best(place.blind, alike)
            if back is None:
                break
            self._step_back(place, back)
            here = back
        return self._drawn(place, here, "the hypergradient is not finite there")

    def _affords(self, place: Place, here: Scored, cost: float = 0.0) -> bool:
        """Whether a trial is paid by what this stage may spend, and ``cost`` before."""
        study = self.study
        cost += study.run_cost * study.share(study.history.conditions(here.row))
        in_share = study.spent + cost <= place.until * (1 + 1e-12)
        return in_share and study.seconds < place.until_seconds and study.affords(cost)

    def _redrawn(self, place: Place, here: Scored) -> Scored | None:
        """The values here with other samples; None where that is not paid."""
        study = self.study
        before = study.history.conditions(here.row)
        run = study.run_cost * study.share(before)
        sweep = study.method.runs(study.problem) * study.share(before) - run
        if not self._affords(place, here, run + sweep):
            return None
        place.draws += 1
        under = before._replace(draw=place.draws)
        again = study.run("again", here.values, under)
        place.row = again.row
        return again

    def _without_sweep(self, place: Place, here: Scored) -> Scored | None:
        """What is left pays runs without a sweep: further along the last direction."""
        if place.direction is not None:
            return here
        return self._drawn(place, here, SPENT)

    def _drawn(self, place: Place, here: Scored, otherwise: str) -> Scored | None:
        if not self._can_probe(place):
            place.ended = otherwise
            return None
        self._draw(place)
        return here

    def _step_back(self, place: Place, back: Scored) -> None:
        place.row, place.u = back.row, self._unconstrained(back)
        place.state = self.steps.init(self.space, place.u)
        place.direction, place.probe = None, 0.0

    def _direct(self, place: Place, gradient: dict[str, np.ndarray]) -> bool:
        """Fixes the direction at the place; False: no way on."""
        place.direction, place.state = self.steps.direct(
            self.space, place.u, gradient, place.state
        )
        if not any(np.any(d) for d in place.direction.values()):
            place.ended = "the hypergradient is exactly zero there"
            return False
        place.length, place.fresh = 1.0, True
        ahead = self.steps.move(self.space, place.u, place.direction, SLOPE_PROBE)
        place.slope = sum(
            float(np.sum(g * (ahead[name] - place.u[name]))) / SLOPE_PROBE
            for name, g in gradient.items()
        )
        return True

    def _draw(self, place: Place) -> None:
        """A random direction; the safeguard allows one."""
        assert self.safeguard is not None
        generator = np.random.default_rng([self.seed, place.probes])
        place.probe = place.probe or self.safeguard.probe
        place.direction = {
            name: place.probe * generator.normal(size=u.shape) * np.ones(u.shape)
            for name, u in place.u.items()
        }
        place.probes += 1
        place.length, place.slope, place.fresh = 1.0, 0.0, True

    def _can_probe(self, place: Place) -> bool:
        """Whether random steps may lead on.

        In many numbers they lead nowhere, and longer trainings have other best values.
        """
        few = self.study.problem.num_numbers <= MAX_ENTRIES
        bounded = few and all(can_spread(float_) for float_ in self.space.values())
        probes = self.safeguard is not None and self.safeguard.probe > 0.0
        return place.last and bounded and probes

    def _try(self, place: Place, here: Scored) -> tuple[Scored, bool]:
        assert place.direction is not None
        u = self.steps.move(self.space, place.u, place.direction, place.length)
        values = {name: float_.to_user(u[name]) for name, float_ in self.space.items()}
        under = self.study.history.conditions(here.row)
        trial = self.study.run("step", values, under)
        kept = self.safeguard is None or self.safeguard.keeps(here.loss, trial.loss)
        if kept:
            place.u, place.row = u, trial.row
        else:
            self.study.relabel(trial.row, "rejected")
        return trial, kept

    def _keep(self, place: Place, trial: Scored) -> None:
        if place.probe:
            # The sizes that led to a rest are forgotten.
            place.state = self.steps.init(self.space, place.u)
            place.probe = 0.0
        elif place.fresh:
            place.state = self.steps.settle(place.state, place.length)
        place.fresh = False
        if not math.isfinite(trial.loss):  # without a safeguard
            place.ended = "the objective is not finite any more"

    def _shorten(self, place: Place, here: Scored, trial: Scored) -> None:
        """Prepares the next trial after one that was taken back."""
        guard = self.safeguard
        assert guard is not None and place.direction is not None
        if place.probe:
            place.probe *= guard.fade
            if place.probe < guard.smallest:
                place.ended = TOO_SMALL
                return
            self._draw(place)
            return
        place.length = guard.shorter(place.length, here.loss, trial.loss, place.slope)
        reach = self.steps.longest(place.direction) * place.length
        if self._can_probe(place) and reach < guard.rest:
            self._draw(place)
        elif reach < (guard.smallest if place.last else guard.rest):
            place.ended = TOO_SMALL


def interior(
    space: Mapping[str, Any], start: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
    """The start with what sits on a bound moved inside; None where nothing does."""
    if not any(np.any(f.on_bound(start[name])) for name, f in space.items()):
        return None
    return {name: float_.interior(start[name]) for name, float_ in space.items()}
