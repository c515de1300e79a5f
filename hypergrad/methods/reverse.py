"""Exact reverse mode through the whole run."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.bound import bind_values, pull_bound
from hypergrad.data import row_index
from hypergrad.methods._abstract import AbstractMethod, Tape
from hypergrad.problem import Bound, Problem
from hypergrad.unroll import Segment, StepInputs

SMALL = 100_000_000
"""Bytes of all records of a run that are stored without being asked to."""


@dataclasses.dataclass(frozen=True)
class Reverse(AbstractMethod):
    """The exact hypergradient, by sweeping back over the steps of the run.

    With s_{t+1} = Φ(s_t, λ_t) and E = E(s_T, λ), the adjoint α_T = ∂E/∂s_T is carried
    backwards: ``dE/dλ_t += (∂Φ/∂λ_t)' α_{t+1}``, ``α_t = (∂Φ/∂s_t)' α_{t+1}``. The
    states s_t are stored during the run, or recomputed from the state at the start of
    their segment.

    Args:
        checkpoints: ``"all"`` stores every state and gradient; ``"sqrt"`` about √T
            states at segment starts, from which each segment is recomputed once (of
            short segments, where shapes of batches alternate, at the start of some); an
            int, that many segment starts. None: ``"all"`` where that is less than
            100 MB, else ``"sqrt"``.

    Cost: the time of about 1 + 1 + 3 plain trainings with recomputation, 1 + 3 without
    (``benchmarks/speed`` measures it); memory of about 2 √T states, or of T states and
    gradients. Problems that share programs share the length of a segment, which an
    earlier T decided, so that another T compiles nothing.

    Valid when: every step is differentiable almost everywhere.

    Example:
        >>> hg.hypergradient(problem, method=hg.Reverse(checkpoints="all"))

    References: Griewank & Walther 2000 (checkpointing, Alg. 799); Franceschi et al.
    2017, Alg. 1, arXiv:1703.01785.
    """

    checkpoints: str | int | None = None

    def __post_init__(self) -> None:
        given = self.checkpoints
        number = isinstance(given, int) and not isinstance(given, bool) and given > 0
        if not (number or given in (None, "all", "sqrt")):
            raise ValueError(
                '`checkpoints` must be None, "all", "sqrt" or an int of at least 1. '
                f"Received: {self.checkpoints!r}."
            )

    def check(self, problem: Problem) -> None:
        if isinstance(self.checkpoints, int) and self.checkpoints > problem.num_steps:
            raise ValueError(
                f"`checkpoints` must not exceed the {problem.num_steps} steps of the "
                f'problem. Received: {self.checkpoints}. Use `checkpoints="all"` to '
                "store every state."
            )

    @property
    def runs(self) -> float:
        return backend.run_cost("Reverse")

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        if problem.remember("prepared", list):
            return
        try:
            self._prepare(problem, values)
        except backend.XlaRefused as error:
            problem.leave_xla(error)
            self._prepare(problem, values)

    def _prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        bound = bind_values(problem, values)
        state = unroll.initial_state(problem, bound)
        unroll.validate(problem, state, bound)
        unroll.pull_validation(problem, state, bound)
        carry = backend.zeros_like((state, bound.shared))
        seen = set()
        for segment in unroll.plan(problem, self._capacity(problem, state)):
            program = problem.form(segment.start), segment.capacity
            if program not in seen:
                # A segment of no steps: compiles, and computes nothing.
                inputs = unroll.step_inputs(problem, bound, segment)
                none = inputs._replace(length=np.int32(0))
                self._sweep_segment(problem, segment, state, None, carry, none)
                seen.add(program)
        problem.remember("prepared", list).append(True)

    def run(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Tape:
        bound = bind_values(problem, values)
        state = unroll.initial_state(problem, bound)
        segments = unroll.plan(problem, self._capacity(problem, state))
        starts, stored, losses = [], [], []
        if self._stores_all(problem, state):
            for segment in segments:
                starts.append(state)
                inputs = unroll.step_inputs(problem, bound, segment)
                state, records, part = self._record(problem, segment, state, inputs)
                stored.append(records)
                losses.append((segment.length, part))
        else:
            kept = unroll.kept_starts(segments, self._capacity(problem, state))
            for segment, end, part in unroll.forward(problem, state, bound, segments):
                starts.append(state if len(starts) in kept else None)
                losses.append((segment.length, part))
                state = end
        loss, metrics = unroll.validate(problem, state, bound)
        return Tape(
            values,
            bound,
            loss,
            metrics,
            segments,
            starts,
            stored or None,
            state,
            np.concatenate([backend.to_numpy(part)[:n] for n, part in losses]),
        )

    def sweep(self, problem: Problem, tape: Tape) -> dict[str, np.ndarray]:
        bound = tape.bound
        adjoint, d_hparams = unroll.pull_validation(problem, tape.final, bound)
        d_shared = {name: d_hparams[name] for name in bound.shared}
        d_per_step = {k: np.zeros(v.shape, v.dtype) for k, v in bound.per_step.items()}
        d_per_example = {
            name: _zeros(problem, name, values)
            for name, values in bound.per_example.items()
        }
        again: dict[int, tuple[Any, Any]] = {}
        for k in reversed(range(len(tape.segments))):
            segment = tape.segments[k]
            inputs = unroll.step_inputs(problem, bound, segment)
            carry = (adjoint, d_shared)
            if tape.starts[k] is None and k not in again:
                again = self._run_again(problem, tape, k)
            start, records = again.pop(k, (tape.starts[k], None))
            if tape.stored:
                # They leave the tape: the next run writes into their memory. Sweeping
                # the tape again recomputes them.
                records, tape.stored[k] = tape.stored[k], None
            carry, rows = self._sweep_segment(
                problem, segment, start, records, carry, inputs
            )
            # Dispatched ahead of the device, every segment would hold its own adjoint.
            backend.synchronize(carry)
            adjoint, d_shared = carry
            stop = segment.start + segment.length
            for name, values in backend.to_numpy(rows).items():
                if name in d_per_step:
                    d_per_step[name][segment.start : stop] = values[: segment.length]
                else:
                    index = row_index(inputs.batches)[: segment.length]
                    _scatter(d_per_example[name], index, values)
        for name, per_step in d_per_step.items():
            per_step[-1] += backend.to_numpy(d_hparams[name])
        d_shared = backend.add(d_shared, _pull_init(problem, bound, adjoint))
        return pull_bound(
            problem, tape.values, Bound(d_shared, d_per_step, d_per_example)
        )

    def _run_again(
        self, problem: Problem, tape: Tape, last: int
    ) -> dict[int, tuple[Any, Any]]:
        """(start, records) of the segments from the last kept state to ``last``."""
        first = max(k for k in range(last) if tape.starts[k] is not None)
        state, found = tape.starts[first], {}
        for k in range(first, last + 1):
            segment, start, records = tape.segments[k], state, None
            inputs = unroll.step_inputs(problem, tape.bound, segment)
            if _records_can_leave(problem):
                state, records, _ = self._record(problem, segment, start, inputs)
            elif k < last:
                program = unroll.forward_program(problem)
                state, _ = program(start, inputs, problem.data)
            found[k] = (start, records)
        return found

    def _capacity(self, problem: Problem, state: Any) -> int:
        number = self.checkpoints
        if isinstance(number, int):
            wanted = -(-problem.num_steps // number)
            return unroll.lasting_capacity(problem, ("capacity", number), wanted)
        wanted = unroll.sqrt_capacity(problem, state)
        return unroll.lasting_capacity(problem, "capacity", wanted)

    def _stores_all(self, problem: Problem, state: Any) -> bool:
        if not _records_can_leave(problem) or self.checkpoints not in (None, "all"):
            return False
        size = problem.num_steps * unroll.record_bytes(problem, state)
        return self.checkpoints == "all" or size <= SMALL

    def _record(
        self, problem: Problem, segment: Segment, start: Any, inputs: StepInputs
    ) -> tuple[Any, Any, Any]:
        """(state, records, training losses) of a segment, in memory used before."""
        free = problem.remember(_room_key(segment, start), list)
        room = free.pop() if free else unroll.new_room(problem, segment.capacity, start)
        program = unroll.record_program(problem)
        return program(room, start, inputs, problem.data)

    def _sweep_segment(
        self,
        problem: Problem,
        segment: Segment,
        start: Any,
        records: Any,
        carry: tuple,
        inputs: StepInputs,
    ) -> tuple[tuple, dict]:
        """(carry, dE/dλ_t rows) before a segment, from the carry after it."""
        if not _records_can_leave(problem):
            return _fused_program(problem)(start, carry, inputs, problem.data)
        if records is None:
            records = self._record(problem, segment, start, inputs)[1]
        swept = _sweep_program(problem)(records, start, carry, inputs, problem.data)
        free = problem.remember(_room_key(segment, start), list)
        free.append(backend.room_of(records))
        return swept


def _room_key(segment: Segment, state: Any) -> tuple:
    leaves = [leaf for leaf in tree.flatten(state) if leaf is not None]
    return "rooms", segment.capacity, *((leaf.shape, leaf.dtype) for leaf in leaves)


def _records_can_leave(problem: Problem) -> bool:
    return backend.buffer_can_leave(problem.uses_xla)


def _fused_program(problem: Problem) -> Callable:
    """Records and sweeps a segment in one program."""

    def fused(start, carry, inputs, data):
        records = unroll.new_records(problem, unroll.capacity_of(inputs), start)
        _, records, _ = unroll.run_recorded(problem, records, start, inputs, data)
        return _sweep(problem, records, start, carry, inputs, data)

    return problem.program("fused", lambda: fused)


def _sweep_program(problem: Problem) -> Callable:
    def sweep(records, start, carry, inputs, data):
        return _sweep(problem, records, start, carry, inputs, data)

    return problem.program("sweep", lambda: sweep)


def _sweep(
    problem: Problem,
    records: Any,
    start: Any,
    carry: tuple,
    inputs: StepInputs,
    data: Any,
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
        adjoint, d_hparams = pull_step(problem, record, hparams, batch, data, adjoint)
        d_shared = backend.add(d_shared, {n: d_hparams[n] for n in d_shared})
        rows = backend.buffer_write(rows, i, {n: d_hparams[n] for n in rows})
        return adjoint, d_shared, rows

    adjoint, d_shared, rows = backend.fori_loop(
        inputs.length, body, (adjoint, d_shared, rows)
    )
    rows = backend.buffer_stack(rows, sliced)
    return (adjoint, d_shared), rows


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


def pull_step(
    problem: Problem,
    record: tuple[Any, Any],
    hparams: dict,
    batch: Any,
    data: Any,
    adjoint: Any,
) -> tuple[Any, dict]:
    """Pulls an adjoint through one step: (α_t, dE/dλ_t).

    The step is a gradient g = ∂L/∂θ and a rule u: the rule is pulled first, and what
    it says of g goes through the gradient, a Hessian-vector product. The recorded g
    saves computing it again.
    """
    state, grads = record
    if problem.step is not None:

        def step(state, hparams):
            return problem.call_step(state, hparams, batch, data)[0]

        return backend.vjp(step, state, hparams).pullback(adjoint)

    def gradient(state, hparams):
        return problem.call_gradient(state, hparams, batch, data)[:2]

    (_, aux), pull_gradient = backend.vjp(gradient, state, hparams)

    def update(grads, state, hparams, aux):
        return problem.call_update(grads, state, hparams, aux, data)

    _, pull_update = backend.vjp(update, grads, state, hparams, aux)
    d_grads, d_state, d_hparams, d_aux = pull_update(adjoint)
    through_gradient = pull_gradient((d_grads, d_aux))
    return backend.add((d_state, d_hparams), through_gradient)


def _pull_init(problem: Problem, bound: Bound, adjoint: Any) -> dict:
    if problem.init_is_constant:
        return backend.zeros_like(bound.shared)

    def pull(shared, adjoint, data):
        def init(shared):
            return problem.call_init(shared, data)

        return backend.vjp(init, shared).pullback(adjoint)[0]

    program = problem.program("pull_init", lambda: pull)
    return program(bound.shared, adjoint, problem.data)
