"""Runs that keep what a sweep over their last steps needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad import backend, unroll
from hypergrad.methods import back
from hypergrad.methods._abstract import Tape
from hypergrad.methods.checkpoints import Checkpoints
from hypergrad.methods.resume import Resumption
from hypergrad.methods.storage import AbstractStorage
from hypergrad.problem import Bound, Problem
from hypergrad.unroll import Segment

SMALL = 100_000_000
"""Bytes of all records of a run that are stored without being asked to."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a run is cut, and what is kept of it.

    ``units``: all steps; ``first``: the first unit that is swept; ``places``: for how
    many states there is room; ``store_all``: whether the records of all swept steps are
    kept.
    """

    units: list[list[Segment]]
    first: int
    places: int
    store_all: bool


def stores_all(
    problem: Problem, state: Any, checkpoints: str | int | None, num_steps: int
) -> bool:
    """Whether the records of all swept steps are kept."""
    if not back.records_can_leave(problem) or checkpoints not in (None, "all"):
        return False
    size = num_steps * unroll.record_bytes(problem, state)
    return checkpoints == "all" or size <= SMALL


def train(
    problem: Problem,
    values: Mapping[str, np.ndarray],
    beginning: tuple[Bound, Any],
    plan: Plan,
    storage: AbstractStorage,
    resumption: Resumption | None = None,
) -> Tape:
    """Trains T steps from ``beginning = unroll.start(problem, values)``.

    The last unit leaves its records: it is swept first.
    """
    bound, start = beginning
    state = start
    swept = range(plan.first, len(plan.units))
    losses: list[np.ndarray] = []
    begin, kept = 0, []
    if resumption is not None:
        lengths = [sum(segment.length for segment in unit) for unit in plan.units]
        begin, known = resumption.begin(lengths)
        losses.append(known)
        kept = resumption.storage.keys()
        state = resumption.storage.get(begin) if begin else start
    checkpoints = Checkpoints(swept, plan.places, storage, kept)
    leave = back.records_can_leave(problem)
    records: dict[int, list] = {}
    for k, unit in enumerate(plan.units[begin:], begin):
        checkpoints.offer(k, state)
        if leave and k in swept and (plan.store_all or k == swept[-1]):
            *found, state, parts = back.record_unit(problem, bound, unit, state)
            records[k] = found
        else:
            state, parts = forward(problem, bound, unit, state)
        losses.append(joined(parts))
        if resumption is not None:
            resumption.ran(k, losses[-1], state)
            if not checkpoints.holds(k):
                storage.drop(k)
    loss, metrics = unroll.validate(problem, state, bound)
    return Tape(
        values,
        bound,
        loss,
        metrics,
        plan.units,
        start,
        state,
        np.concatenate(losses),
        checkpoints,
        records,
        resumption,
    )


def forward(
    problem: Problem, bound: Bound, unit: list[Segment], state: Any
) -> tuple[Any, list]:
    """(state after a unit, (length, training losses) of its segments)."""
    losses = []
    for segment, end, part in unroll.forward(problem, state, bound, unit):
        losses.append((segment.length, part))
        state = end
    return state, losses


def joined(losses: list[tuple[int, Any]]) -> np.ndarray:
    """(length, losses with padding) of each segment as one array (T,)."""
    return np.concatenate([backend.to_numpy(part)[:n] for n, part in losses])
