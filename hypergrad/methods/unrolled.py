"""Runs that keep what a sweep over their last steps needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad import backend, unroll
from hypergrad.bound import bind_values
from hypergrad.methods import back
from hypergrad.methods._abstract import Tape
from hypergrad.methods.checkpoints import Checkpoints
from hypergrad.methods.storage import AbstractStorage
from hypergrad.problem import Bound, Problem
from hypergrad.unroll import Segment


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a run is cut, and what is kept of it.

    ``units``: all steps; ``first``: the first unit that is swept; ``places``: for how
    many states there is room; ``storage``: where; ``store_all``: whether the records of
    all swept steps are kept.
    """

    units: list[list[Segment]]
    first: int
    places: int
    storage: AbstractStorage
    store_all: bool


def train(problem: Problem, values: Mapping[str, np.ndarray], plan: Plan) -> Tape:
    """Trains T steps. The last unit leaves its records: it is swept first."""
    bound = bind_values(problem, values)
    start = state = unroll.initial_state(problem, bound)
    swept = range(plan.first, len(plan.units))
    checkpoints = Checkpoints(swept, plan.places, plan.storage)
    leave = back.records_can_leave(problem)
    records: dict[int, list] = {}
    losses: list[tuple[int, Any]] = []
    for k, unit in enumerate(plan.units):
        checkpoints.offer(k, state)
        if leave and k in swept and (plan.store_all or k == swept[-1]):
            *found, state, parts = back.record_unit(problem, bound, unit, state)
            records[k] = found
            losses += parts
            continue
        state, parts = forward(problem, bound, unit, state)
        losses += parts
    loss, metrics = unroll.validate(problem, state, bound)
    return Tape(
        values,
        bound,
        loss,
        metrics,
        plan.units,
        start,
        state,
        joined(losses),
        checkpoints,
        records,
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
