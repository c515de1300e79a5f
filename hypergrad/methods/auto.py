"""The exact method that is estimated to be fastest in the memory there is."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad import backend, unroll
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.forward import Forward
from hypergrad.methods.reverse import Reverse
from hypergrad.methods.room import (
    Room,
    brief,
    free_room,
    held,
    seconds_text,
    work_text,
)
from hypergrad.methods.work import Clock, Work
from hypergrad.problem import Problem

PART = 0.8
"""The part of what is free that is used unless asked otherwise."""

FAR = 4.0
"""What costs this many times more by the committed ratios is not timed."""

FAMILIES: tuple[tuple[tuple[AbstractMethod, ...], ...], ...] = (
    (
        (Reverse("all"), Reverse("sqrt"), Reverse("log")),
        (Reverse("sqrt", offload="host"),),
        (Reverse("sqrt", offload="disk"), Reverse("log", offload="disk")),
    ),
    ((Forward(),), (Forward(chunk=1),)),
)
"""Of each family the first group is looked at of which something fits."""


class Choice(NamedTuple):
    """``method``: the one that is used; ``why``: a sentence with the figures."""

    method: AbstractMethod
    why: str


@dataclasses.dataclass(frozen=True)
class Auto(AbstractMethod):
    """The exact hypergradient, by the method that is estimated to be fastest here.

    Of ``Reverse("all"|"sqrt"|"log")``, these with states on the host or on disk, and
    `Forward`, those that fit into the memory are timed over a few steps, and
    ``argmin Σ calls · seconds of a call + steps · seconds of a step`` is taken, a sum
    over the phases of each (`estimate` shows them). ``h.info["method"]`` is that
    method, ``h.info["why"]`` a sentence with the figures of all.

    Args:
        memory: float > 0, bytes that the hypergradient may need beyond a plain
            training, in the memory of the device (on a CPU that of the host). None:
            0.8 of what is free when it is chosen.

    Cost: that of the method; and once a problem the compilation of those that are
        timed, and about five steps of each of their phases, three to seven times. What
        costs four times more than another by the committed ratios of
        ``benchmarks/speed`` is not timed. The choice is kept beside the programs of the
        problem, and stays for another T that is less than eight times longer or
        shorter, where it fits. `tune` keeps it in its ``directory``, and a resumed one
        does not choose again.

    Valid when: every step is differentiable almost everywhere.

    Example:
        >>> h = hg.hypergradient(problem, method=hg.Auto())
        >>> h.info["method"], h.info["why"]

    References: Griewank & Walther 2000 (checkpointing, Alg. 799); Franceschi et al.
    2017, arXiv:1703.01785, for forward against reverse.
    """

    memory: float | None = None

    def __post_init__(self) -> None:
        given = self.memory
        if given is None:
            return
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not (number and given > 0 and not math.isnan(given)):
            raise ValueError(
                "`memory` of Auto must be a number of bytes above 0, or None for what "
                f"is free. Received: {given!r}. For 2 GB, write Auto(memory=2e9)."
            )

    def check(self, problem: Problem) -> None:
        if problem.num_steps in self._known(problem):
            return

        def look() -> None:
            self._looked_at(problem, problem.values())

        unroll.prepare_once(problem, ("look", self.memory, problem.num_steps), look)

    @property
    def exact(self) -> bool:
        return True

    def runs(self, problem: Problem) -> float:
        known = self._known(problem).get(problem.num_steps)
        return known.method.runs(problem) if known else backend.run_cost("Reverse")

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        return self.choice(problem, values).method.work(problem, values)

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        choice = self.choice(problem, values)
        choice.method.prepare(problem, values)
        self.keep(problem, choice)  # where XLA refused, all decisions were let go

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        method = self.choice(problem, values).method
        return method.run(problem, values, sweep_follows)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        choice = self.choice(problem, tape.values)
        found = choice.method.sweep(problem, tape)
        return found._replace(info={**found.info, **choice._asdict()})

    # The choice

    def choice(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Choice:
        """Made once for a problem and a T."""
        known = self._known(problem).get(problem.num_steps)
        if known:
            return known

        def choose() -> None:
            self.keep(problem, self._fastest(problem, values))

        unroll.prepare_once(problem, ("Auto", self.memory, problem.num_steps), choose)
        return self._known(problem)[problem.num_steps]

    def keep(self, problem: Problem, choice: Choice) -> None:
        """From now on this is the choice for the problem and its T."""
        self._known(problem)[problem.num_steps] = choice

    def _known(self, problem: Problem) -> dict[int, Choice]:
        """T → the choice that was made for it."""
        known: dict[int, Choice] = problem.remember(("choice", self.memory), dict)
        return known

    def _near(self, problem: Problem) -> AbstractMethod | None:
        """What was chosen for a T that is not far: its programs are there."""
        T = problem.num_steps
        for other, choice in self._known(problem).items():
            if T <= unroll.FAR * other and other <= unroll.FAR * T:
                return choice.method
        return None

    def _fastest(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Choice:
        works, room = self._looked_at(problem, values)
        fitting = {m: work for m, work in works.items() if room.holds(work)}
        least = min(method.runs(problem) for method in fitting)
        timed = [m for m in fitting if m.runs(problem) <= FAR * least]
        clock = problem.remember("clock", Clock)
        parts = clock.seconds(fitting[method] for method in timed)
        seconds = {m: sum(part.values()) for m, part in zip(timed, parts)}
        fastest = min(seconds, key=lambda m: seconds[m])
        near = self._near(problem)
        method = fastest if near is None or near not in seconds else near
        others = []
        for other, work in works.items():
            if other not in fitting:
                cost = "which does not fit"
            elif other not in seconds:
                cost = f"about {other.runs(problem):.0f} plain trainings"
            else:
                cost = seconds_text(seconds[other])
            if other != method:
                others.append(f"{brief(other)} {work_text(work)}, {cost}")
        why = (
            f"{brief(method)} needs about {work_text(works[method])} of {room} and "
            f"takes about {seconds_text(seconds[method])}"
        )
        return Choice(method, "; ".join([why, *others]) + ".")

    def _looked_at(
        self, problem: Problem, values: Mapping[str, np.ndarray]
    ) -> tuple[dict[AbstractMethod, Work], Room]:
        """(the work of each method that comes into question, the room for it)."""
        room = self._room()
        works: dict[AbstractMethod, Work] = {}
        for family in families(problem, room):
            for group in family:
                found = {m: m.work(problem, values) for m in group}
                works |= found
                if any(room.holds(work) for work in found.values()):
                    break
        if not any(room.holds(work) for work in works.values()):
            least, work = min(works.items(), key=lambda item: held(item[1]))
            raise ValueError(
                "No exact method fits: a hypergradient of this problem needs at least "
                f"{work_text(work)}, by {brief(least)}. Received: {room}. Free some "
                "memory, give more in `memory`, or use Truncated(num_steps) with few "
                "steps, which is not exact."
            )
        return works, room

    def _room(self) -> Room:
        if self.memory is None:
            return free_room(PART)
        free = free_room()
        if free.device is None:
            return free._replace(host=self.memory)
        return free._replace(device=self.memory)


def families(problem: Problem, room: Room) -> list[list[list[AbstractMethod]]]:
    """`FAMILIES` without what is not valid for a problem, or moves nothing."""

    def valid(method: AbstractMethod) -> bool:
        moved = isinstance(method, Reverse) and method.offload == "host"
        if moved and room.device is None:
            return False  # that is where they are
        try:
            method.check(problem)
        except ValueError:
            return False
        return True

    return [[[m for m in g if valid(m)] for g in family] for family in FAMILIES]


# A choice on disk


def stored_choice(method: AbstractMethod, problem: Problem) -> Any:
    """What `restore_choice` takes, plain values; None where nothing was chosen."""
    known = method._known(problem) if isinstance(method, Auto) else {}
    if problem.num_steps not in known:
        return None
    chosen, why = known[problem.num_steps]
    return {"name": type(chosen).__name__, "why": why, **dataclasses.asdict(chosen)}


def restore_choice(method: AbstractMethod, problem: Problem, stored: Any) -> None:
    """Lets a method go on with what it chose in another process."""
    if stored is None or not isinstance(method, Auto):
        return
    settings = {k: v for k, v in stored.items() if k not in ("name", "why")}
    chosen = {"Reverse": Reverse, "Forward": Forward}[stored["name"]](**settings)
    method.keep(problem, Choice(chosen, stored["why"]))
