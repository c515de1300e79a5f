"""Bytes and seconds of a method on a problem, before it is run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad import unroll
from hypergrad.at_once import over_samples
from hypergrad.methods import AbstractMethod, Reverse
from hypergrad.methods.auto import families
from hypergrad.methods.room import (
    Room,
    brief,
    free_room,
    held,
    seconds_text,
    size_text,
    work_text,
)
from hypergrad.methods.work import Clock, Work
from hypergrad.problem import Problem


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What one hypergradient takes, beyond the data and a plain training's memory.

    ``method``: of which. ``bytes``: at the peak, in the memory of device and host (on a
    CPU one and the same), without what compilers take. ``seconds``: when everything is
    compiled. ``disk_bytes``: in temporary files. ``parts``: dict, "device", "host" and
    "seconds" → dict, name → how much of it; the seconds are of phases.
    """

    method: AbstractMethod
    bytes: int
    seconds: float
    disk_bytes: int
    parts: Mapping[str, Mapping[str, float]]

    def __str__(self) -> str:
        lines = [
            f"{brief(self.method)}: {seconds_text(self.seconds)}, "
            f"{size_text(self.bytes)}"
        ]
        if self.disk_bytes:
            lines[0] += f", {size_text(self.disk_bytes)} on disk"
        for part, text in (
            ("seconds", seconds_text),
            ("device", size_text),
            ("host", size_text),
        ):
            for name, amount in self.parts[part].items():
                if amount:
                    lines.append(f"  {part:8}{name:24}{text(amount):>10}")
        return "\n".join(lines)


def estimate(
    problem: Problem,
    method: AbstractMethod | None = None,
    values: Mapping[str, Any] | None = None,
) -> Estimate:
    """Estimates the memory and the time of one hypergradient, without computing it.

    ``seconds = Σ calls · seconds of a call + steps · seconds of a step`` over what the
    method does: steps, steps with tangents, records, a sweep, products with second
    derivatives, the validation, states to disk. Each is timed over a few steps, and the
    plan of the method says how many there are in all. ``bytes`` are those of the
    states, records, tangents or vectors that the plan keeps.

    Args:
        problem: a `Problem`.
        method: a method; None: ``Reverse()``.
        values: dict, name → number or array, as in `hypergradient`.

    Returns:
        An `Estimate`; ``print`` shows its parts.

    Raises:
        ValueError: a method that does not fit the problem.
        TypeError: no problem, or no method.

    Cost: the compilation of the method, which its first call then need not do; of each
        of its phases three to seven times no step and five steps, or all steps of a
        segment where five take less than 20 ms.

    Valid when: steps of one problem take about the same time each. Of
        `FiniteDifference` and `Implicit` the most they may take is estimated.

    Example:
        >>> print(hg.estimate(problem, hg.Forward()))
        >>> hg.estimate(problem).bytes
    """
    if not isinstance(problem, Problem):
        raise TypeError(
            "`estimate` needs a hypergrad.Problem. Received: "
            f"{type(problem).__name__}. Make one with `hg.Problem.from_model(model, …)`"
            " or `hg.Problem(init=…, …)`."
        )
    method = Reverse() if method is None else method
    if not isinstance(method, AbstractMethod):
        raise TypeError(
            f"`method` must be a method such as hg.Reverse(). Received: {method!r}."
        )
    method.check(problem)
    checked = problem.values(values)
    whole = over_samples(problem, method)
    whole.prepare(problem, checked)
    work = whole.work(problem, checked)
    (seconds,) = Clock().seconds([work])
    return Estimate(
        method,
        held(work),
        sum(seconds.values()),
        work.disk,
        {"device": work.device, "host": work.host, "seconds": seconds},
    )


def check_room(
    problem: Problem, method: AbstractMethod, values: Mapping[str, np.ndarray]
) -> None:
    """Raises where the states that a method keeps exceed the free memory.

    Asked once for a problem, a method and a T: later, its own memory is not free.
    """

    def check() -> None:
        room, work = free_room(), method.work(problem, values)
        if not room.holds(work):
            raise ValueError(_too_much(problem, method, work, room))

    unroll.prepare_once(problem, ("room", method, problem.num_steps), check)


def _too_much(problem: Problem, method: AbstractMethod, work: Work, room: Room) -> str:
    exact = [m for family in families(problem, room) for g in family for m in g]
    others = {other: other.work(problem, problem.values()) for other in exact}
    fitting = [
        f"{brief(other)} needs about {work_text(less)}"
        for other, less in others.items()
        if room.holds(less)
    ]
    fix = "No exact method fits"
    if fitting:
        fix = f"{'; '.join(fitting)}. `Auto()` takes the fastest of these"
    return (
        f"{brief(method)} needs about {work_text(work)} on this problem, for T = "
        f"{problem.num_steps}. Received: {room} free. {fix}."
    )
