"""The sweep back over the steps of a run.

With s_{t+1} = Φ(s_t, λ_t), the adjoint α_T = ∂E/∂s_T is carried backwards:
``dE/dλ_t += (∂Φ/∂λ_t)' α_{t+1}``, ``α_t = (∂Φ/∂s_t)' α_{t+1}``. The states s_t and the
gradients taken there are read from records that the run made, or that are made again
from the state at the start of a unit.
"""

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.data import row_index
from hypergrad.methods._abstract import Tape
from hypergrad.methods.pull import pull_step
from hypergrad.problem import Bound, Problem
from hypergrad.unroll import Segment, StepInputs


class Adjoint:
    """dE/dstate and dE/dbound while a sweep goes back.

    ``carry``: (α, dE/dshared) on the device; ``per_step``, ``per_example``: dicts of
    NumPy arrays.
    """

    def __init__(self, problem: Problem, tape: Tape):
        bound = tape.bound
        adjoint, d_hparams = unroll.pull_validation(problem, tape.final, bound)
        self.carry = (adjoint, {name: d_hparams[name] for name in bound.shared})
        self.per_step = {
            k: np.zeros(v.shape, v.dtype) for k, v in bound.per_step.items()
        }
        for name, rows in self.per_step.items():
            rows[-1] += backend.to_numpy(d_hparams[name])
        self.per_example = {
            name: _zeros(problem, name, values)
            for name, values in bound.per_example.items()
        }

    def receive(
        self, segment: Segment, inputs: StepInputs, carry: Any, rows: Any
    ) -> None:
        """Takes over what the sweep of a segment gave."""
        # Dispatched ahead of the device, every segment would hold its own adjoint.
        backend.synchronize(carry)
        self.carry = carry
        stop = segment.start + segment.length
        for name, values in backend.to_numpy(rows).items():
            if name in self.per_step:
                self.per_step[name][segment.start : stop] += values[: segment.length]
            else:
                index = row_index(inputs.batches)[: segment.length]
                _scatter(self.per_example[name], index, values)

    def bound(self, d_shared: Any = None) -> Bound:
        """The whole, with what reached the shared numbers another way added."""
        shared = self.carry[1]
        if d_shared is not None:
            shared = backend.add(shared, d_shared)
        return Bound(shared, self.per_step, self.per_example)


def sweep_unit(
    problem: Problem, tape: Tape, k: int, adjoint: Adjoint, second_order: str
) -> None:
    """Carries an adjoint back over one unit of a run."""
    starts, records = unit_records(problem, tape, k)
    for segment, start, record in reversed(
        list(zip(tape.units[k], starts, records, strict=True))
    ):
        inputs = unroll.step_inputs(problem, tape.bound, segment)
        swept = sweep_segment(
            problem, segment, start, record, adjoint.carry, inputs, second_order
        )
        adjoint.receive(segment, inputs, *swept)


def unit_records(problem: Problem, tape: Tape, k: int) -> tuple[list, list]:
    """(starts, records) of the segments of a unit; records None where they cannot be
    returned by a program."""
    assert tape.checkpoints is not None

    def run(unit: int, state: Any) -> Any:
        segments = tape.units[unit]
        *_, (_, state, _) = unroll.forward(problem, state, tape.bound, segments)
        return state

    if k in tape.records:
        # They leave the tape: the next run writes into their memory. Sweeping the tape
        # again makes them again.
        starts, records = tape.records.pop(k)
        return starts, records
    start = tape.checkpoints.take(k, run)
    return record_unit(problem, tape.bound, tape.units[k], start)[:2]


def record_unit(
    problem: Problem, bound: Bound, unit: list[Segment], state: Any
) -> tuple[list, list, Any, list]:
    """Runs a unit with records: (starts, records, state at its end, losses)."""
    starts, records, losses = [], [], []
    for segment in unit:
        starts.append(state)
        inputs = unroll.step_inputs(problem, bound, segment)
        if records_can_leave(problem):
            state, record, part = record_segment(problem, segment, state, inputs)
        else:
            record = None
            program = unroll.forward_program(problem)
            state, part = program(state, inputs, problem.data)
        records.append(record)
        losses.append((segment.length, part))
    return starts, records, state, losses


def record_segment(
    problem: Problem, segment: Segment, start: Any, inputs: StepInputs
) -> tuple[Any, Any, Any]:
    """(state, records, training losses) of a segment, in memory used before."""
    free = problem.remember(_room_key(segment, start), list)
    room = free.pop() if free else unroll.new_room(problem, segment.capacity, start)
    program = unroll.record_program(problem)
    return program(room, start, inputs, problem.data)


def sweep_segment(
    problem: Problem,
    segment: Segment,
    start: Any,
    records: Any,
    carry: tuple,
    inputs: StepInputs,
    second_order: str,
) -> tuple[tuple, dict]:
    """(carry, dE/dλ_t rows) before a segment, from the carry after it."""
    if not records_can_leave(problem):
        return sweep_fused(problem, start, carry, inputs, second_order)
    if records is None:
        records = record_segment(problem, segment, start, inputs)[1]
    swept = sweep_records(problem, records, start, carry, inputs, second_order)
    free = problem.remember(_room_key(segment, start), list)
    free.append(backend.room_of(records))
    return swept


def sweep_records(
    problem: Problem,
    records: Any,
    start: Any,
    carry: tuple,
    inputs: StepInputs,
    second_order: str,
) -> tuple[tuple, dict]:
    """The same, from records that stay what they are."""
    program = _sweep_program(problem, second_order)
    swept: tuple = program(records, start, carry, inputs, problem.data)
    return swept


def sweep_fused(
    problem: Problem, start: Any, carry: tuple, inputs: StepInputs, second_order: str
) -> tuple[tuple, dict]:
    """The same, where records stay inside of a program."""
    program = _fused_program(problem, second_order)
    swept: tuple = program(start, carry, inputs, problem.data)
    return swept


def prepare(
    problem: Problem, bound: Bound, segments: list[Segment], second_order: str
) -> None:
    """Compiles what sweeping these segments needs."""
    state = unroll.initial_state(problem, bound)
    unroll.validate(problem, state, bound)
    unroll.pull_validation(problem, state, bound)
    carry = backend.zeros_like((state, bound.shared))
    seen = set()
    for segment in segments:
        program = problem.form(segment.start), segment.capacity
        if program not in seen:
            # A segment of no steps: compiles, and computes nothing.
            inputs = unroll.step_inputs(problem, bound, segment)
            none = inputs._replace(length=np.int32(0))
            sweep_segment(problem, segment, state, None, carry, none, second_order)
            seen.add(program)


def records_can_leave(problem: Problem) -> bool:
    return backend.buffer_can_leave(problem.uses_xla)


def _room_key(segment: Segment, state: Any) -> tuple:
    leaves = [leaf for leaf in tree.flatten(state) if leaf is not None]
    return "rooms", segment.capacity, *((leaf.shape, leaf.dtype) for leaf in leaves)


def _fused_program(problem: Problem, second_order: str) -> Callable:
    """Records and sweeps a segment in one program."""

    def fused(start, carry, inputs, data):
        records = unroll.new_records(problem, unroll.capacity_of(inputs), start)
        _, records, _ = unroll.run_recorded(problem, records, start, inputs, data)
        return _sweep(problem, records, start, carry, inputs, data, second_order)

    return problem.program(("fused", second_order), lambda: fused)


def _sweep_program(problem: Problem, second_order: str) -> Callable:
    def sweep(records, start, carry, inputs, data):
        return _sweep(problem, records, start, carry, inputs, data, second_order)

    return problem.program(("sweep", second_order), lambda: sweep)


def _sweep(
    problem: Problem,
    records: Any,
    start: Any,
    carry: tuple,
    inputs: StepInputs,
    data: Any,
    second_order: str,
) -> tuple[tuple, dict]:
    """Carries (adjoint, dE/dshared) back over one segment; and dE/dλ_t of its steps."""
    adjoint, d_shared = carry
    capacity = unroll.capacity_of(inputs)
    hparams, _ = unroll.step_arguments(inputs, 0)
    sliced = {n: hparams[n] for n in (*inputs.per_step, *inputs.per_example)}
    rows = backend.buffer(capacity, sliced)

    def body(j, loop):
        adjoint, d_shared, rows = loop
        i = inputs.length - 1 - j
        record = unroll.read_record(problem, records, i, start)
        hparams, batch = unroll.step_arguments(inputs, i)
        adjoint, d_hparams = pull_step(
            problem, record, hparams, batch, data, adjoint, second_order
        )
        d_shared = backend.add(d_shared, {n: d_hparams[n] for n in d_shared})
        rows = backend.buffer_write(rows, i, {n: d_hparams[n] for n in rows})
        return adjoint, d_shared, rows

    adjoint, d_shared, rows = backend.fori_loop(
        inputs.length, body, (adjoint, d_shared, rows)
    )
    rows = backend.buffer_stack(rows, sliced)
    return (adjoint, d_shared), rows


def pull_init(problem: Problem, bound: Bound, adjoint: Any) -> dict:
    """dE/dshared through the initial state."""
    if problem.init_is_constant:
        return backend.zeros_like(bound.shared)

    def pull(shared, adjoint, data):
        def init(shared):
            return problem.call_init(shared, data)

        return backend.vjp(init, shared).pullback(adjoint)[0]

    program = problem.program("pull_init", lambda: pull)
    return program(bound.shared, adjoint, problem.data)


def _zeros(problem: Problem, name: str, like: Any) -> np.ndarray:
    """An array of zeros on the host, in the memory of the last one if it is free.

    Fresh memory as large as the training data costs as much as a good part of a sweep.
    It is free when nothing but the problem refers to it or to a part of it.
    """
    shape, dtype = tuple(like.shape), keras.backend.standardize_dtype(like.dtype)
    kept = problem.remember(("gradient", name), list)
    nobody_else = 2  # the list, and the argument of `getrefcount`
    if not kept or sys.getrefcount(kept[0]) > nobody_else or kept[0].shape != shape:
        kept[:] = [np.zeros(shape, dtype)]
    else:
        kept[0].fill(0.0)
    fresh: np.ndarray = kept[0]
    return fresh


def _scatter(total: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:
    """Adds the rows of each step to those of its examples, in place.

    On the host, where the gradient goes: a step costs its own rows, however many
    examples there are.
    """
    for batch, part in zip(index, rows):
        if len(np.unique(batch)) == len(batch):
            total[batch] += part
        else:
            np.add.at(total, batch, part)
