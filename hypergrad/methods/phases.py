"""The phases of runs and sweeps over segments, and what their plans keep."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad import backend, unroll
from hypergrad.bound import pull_bound
from hypergrad.methods import back, unrolled
from hypergrad.methods._abstract import Tape
from hypergrad.methods.checkpoints import Checkpoints
from hypergrad.methods.storage import AbstractStorage, OnDisk, OnHost
from hypergrad.methods.work import Phase, Work, nbytes
from hypergrad.problem import Bound, Problem
from hypergrad.unroll import Segment, StepInputs

Units = list[list[Segment]]


class Start(NamedTuple):
    """Where the calls that are timed begin."""

    problem: Problem
    values: Mapping[str, np.ndarray]
    bound: Bound
    state: Any

    @property
    def tape(self) -> Tape:
        """The tape of a run that has not begun."""
        nothing = np.zeros(0)
        return Tape(
            self.values, self.bound, 0.0, {}, [], self.state, self.state, nothing
        )


def start_of(problem: Problem, values: Mapping[str, np.ndarray]) -> Start:
    return Start(problem, values, *unroll.start(problem, values))


def inputs_of(start: Start, segment: Segment, steps: int) -> StepInputs:
    """What the first steps of a segment see; of 0 steps, in a program as large."""
    some = segment._replace(length=max(1, steps))
    inputs = unroll.step_inputs(start.problem, start.bound, some)
    return inputs._replace(length=np.int32(steps))


def longest(segments: Iterable[Segment]) -> Segment:
    return max(segments, key=lambda segment: segment.length)


def phase(call: Any, units: Units, repeats: float = 1.0) -> Phase:
    """That of a call for each segment."""
    segments = [segment for unit in units for segment in unit]
    steps = sum(segment.length for segment in segments)
    length = longest(segments).length if segments else 0
    return Phase(call, length, repeats * len(segments), repeats * steps)


def training(start: Start, units: Units, repeats: float = 1.0) -> dict[str, Phase]:
    """Runs all segments of these units, so many times."""
    if not units:
        return {}
    problem, segment = start.problem, longest(s for unit in units for s in unit)

    def run(steps: int) -> Any:
        inputs = inputs_of(start, segment, steps)
        return unroll.forward_program(problem)(start.state, inputs, problem.data)

    return {"steps": phase(run, units, repeats)}


def ends(start: Start) -> dict[str, Phase]:
    """E, its derivative, and the way from what steps receive to user units."""
    problem = start.problem

    def both(steps: int) -> Any:
        start_of(problem, start.values)
        unroll.validate(problem, start.state, start.bound)
        adjoint = back.Adjoint(problem, start.tape)
        through = back.pull_init(problem, start.bound, adjoint.carry[0])
        return pull_bound(problem, start.values, adjoint.bound(through))

    return {"validation": Phase(both, 0, 1.0)}


def of_plan(
    start: Start, plan: unrolled.Plan, second_order: str, offload: str | None = None
) -> Work:
    """A run that is planned so, and the sweep over its units from ``plan.first`` on.

    ``offload``: where states at starts of units are kept: None, "host" or "disk".
    """
    problem, units = start.problem, plan.units
    leave = back.records_can_leave(problem)
    swept = range(plan.first, len(units))
    kept = set(swept if plan.store_all else swept[-1:]) if leave else set()
    counted = _Counted()
    again = [units[k] for k in _run_again(plan, kept, counted)]
    rest = [units[k] for k in swept if k not in kept]
    run = [unit for k, unit in enumerate(units) if k not in kept] + again
    recorded = [units[k] for k in swept] if leave else []
    phases = training(start, run if leave else run + rest) | ends(start)
    phases |= _sweeping(start, recorded, [units[k] for k in swept], second_order)
    if offload is not None:
        phases |= _moving(start, offload, counted)
    state = nbytes(start.state)
    kept_states = min(plan.places, len(swept)) * state
    at_once = [units[k] for k in swept]
    bytes_kept = {
        "states": 0 if offload else kept_states,
        "records": _records(start, at_once, plan.store_all),
        "adjoint": 2 * state + 2 * nbytes(weights_of(start)),
    }
    return Work(
        phases,
        bytes_kept,
        {"states": kept_states if offload == "host" else 0} | gradient(start),
        kept_states if offload == "disk" else 0,
    )


def weights_of(start: Start) -> Any:
    """The weights of a state where it has any of its own."""
    return () if start.problem.step is not None else start.state.weights


def gradient(start: Start) -> dict[str, int]:
    """Bytes of dE/dλ_t of all steps and examples."""
    bound = start.bound
    size = nbytes((dict(bound.per_step), dict(bound.per_example)))
    return {"gradient": size} if size else {}


class _Counted(AbstractStorage):
    """Counts how often states are put and got; keeps none."""

    def __init__(self) -> None:
        self.puts = self.gets = 0

    def put(self, key: int, state: Any) -> None:
        self.puts += 1

    def get(self, key: int) -> Any:
        self.gets += 1

    def drop(self, key: int) -> None:
        pass


def _run_again(plan: unrolled.Plan, kept: set[int], counted: _Counted) -> list[int]:
    """The units that a sweep runs forwards to reach the starts of others.

    The layout of states itself is asked, without states.
    """
    again = []
    swept = range(plan.first, len(plan.units))
    checkpoints = Checkpoints(swept, plan.places, counted)
    for k in swept:
        checkpoints.offer(k, None)
    for k in reversed(swept):
        if k not in kept:
            checkpoints.take(k, lambda unit, state: again.append(unit))
    return again


def _records(start: Start, units: Units, store_all: bool) -> int:
    """Bytes of the records, and of the starts of segments inside of units.

    The memory of segments that are as long is used again.
    """
    state = nbytes(start.state)
    counts = [Counter(segment.capacity for segment in unit) for unit in units]
    rooms: Counter[int] = Counter()
    for found in counts:
        rooms = rooms + found if store_all else rooms | found
    steps = sum(capacity * number for capacity, number in rooms.items())
    inside = [len(unit) - 1 for unit in units]
    starts = sum(inside) if store_all else max(inside)
    return steps * (state + nbytes(weights_of(start))) + starts * state


def _sweeping(
    start: Start, recorded: Units, swept: Units, second_order: str
) -> dict[str, Phase]:
    """Runs units with records, where these can leave a program, and sweeps units."""
    problem, segment = start.problem, longest(s for unit in swept for s in unit)
    # Memory of its own, which goes when the timing is over.
    rooms = [lambda: unroll.new_room(problem, segment.capacity, start.state)]

    def record(steps: int) -> Any:
        inputs = inputs_of(start, segment, steps)
        program = unroll.record_program(problem)
        state, records, _ = program(rooms.pop()(), start.state, inputs, problem.data)
        rooms.append(lambda: backend.room_of(records))
        return state

    @functools.cache
    def ready() -> tuple[back.Adjoint, Any]:
        adjoint = back.Adjoint(problem, start.tape)
        if not recorded:
            return adjoint, None
        inputs = unroll.step_inputs(problem, start.bound, segment)
        found = back.record_segment(problem, segment, start.state, inputs)
        return adjoint, found[1]

    def sweep(steps: int) -> Any:
        adjoint, records = ready()
        carry, inputs = adjoint.carry, inputs_of(start, segment, steps)
        arguments = (start.state, carry, inputs, second_order)
        if recorded:
            found = back.sweep_records(problem, records, *arguments)
        else:
            found = back.sweep_fused(problem, *arguments)
        adjoint.receive(segment, inputs, *found)
        adjoint.carry = carry
        return found[0]

    phases = {"sweep": phase(sweep, swept)}
    if recorded:
        phases["records"] = phase(record, recorded)
    return phases


def _moving(start: Start, offload: str, counted: _Counted) -> dict[str, Phase]:
    """Puts states to where they are kept, and gets them back."""

    @functools.cache
    def storage() -> AbstractStorage:
        kept = OnHost() if offload == "host" else OnDisk(None, start.state)
        kept.put(0, start.state)
        return kept

    def put(steps: int) -> None:
        storage().put(1, start.state)
        storage().drop(1)

    def get(steps: int) -> Any:
        return storage().get(0)

    return {
        f"to {offload}": Phase(put, 0, counted.puts),
        f"from {offload}": Phase(get, 0, counted.gets),
    }
