"""Exact reverse mode through the whole run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend, unroll
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
            states at segment starts, from which each segment is recomputed once; an
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
        # The committed ratio of the MLP row of benchmarks/speed, default memory.
        return {"jax": 5.0, "tensorflow": 4.3}[backend.name]

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        if problem.remember("prepared", list):
            return
        try:
            self._prepare(problem, values)
        except backend.XlaRefused as error:
            problem.leave_xla(error)
            self._prepare(problem, values)

    def _prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        bound = unroll.on_host(problem.bound(values))
        state = unroll.initial_state(problem, bound)
        unroll.validate(problem, state, bound)
        unroll.pull_validation(problem, state, bound)
        carry = backend.zeros_like((state, bound.shared, bound.per_example))
        seen = set()
        for segment in unroll.plan(problem, self._capacity(problem, state)):
            batch = tree.flatten(problem.batch(segment.start))
            shapes = tuple(leaf.shape for leaf in batch)
            if (shapes, segment.capacity) not in seen:
                # A segment of no steps: compiles, and computes nothing.
                inputs = unroll.step_inputs(problem, bound, segment)
                none = inputs._replace(length=np.int32(0))
                self._sweep_segment(problem, segment, state, None, carry, none)
                seen.add((shapes, segment.capacity))
        problem.remember("prepared", list).append(True)

    def run(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Tape:
        bound = unroll.on_host(problem.bound(values))
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
            for segment, end, part in unroll.forward(problem, state, bound, segments):
                starts.append(state)
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
        adjoint, d_shared = unroll.pull_validation(problem, tape.final, bound)
        d_per_step = {k: np.zeros(v.shape, v.dtype) for k, v in bound.per_step.items()}
        d_per_example = backend.zeros_like(bound.per_example)
        for k in reversed(range(len(tape.segments))):
            segment = tape.segments[k]
            inputs = unroll.step_inputs(problem, bound, segment)
            carry = (adjoint, d_shared, d_per_example)
            records = None
            if tape.stored:
                # They leave the tape: the next run writes into their memory. Sweeping
                # the tape again recomputes them.
                records, tape.stored[k] = tape.stored[k], None
            carry, rows = self._sweep_segment(
                problem, segment, tape.starts[k], records, carry, inputs
            )
            # Dispatched ahead of the device, every segment would hold its own adjoint.
            backend.synchronize(carry)
            adjoint, d_shared, d_per_example = carry
            stop = segment.start + segment.length
            for name, values in rows.items():
                d_per_step[name][segment.start : stop] = backend.to_numpy(values)[
                    : segment.length
                ]
        d_shared = backend.add(d_shared, _pull_init(problem, bound, adjoint))
        return problem.pull_bound(
            tape.values, Bound(d_shared, d_per_step, d_per_example)
        )

    def _capacity(self, problem: Problem, state: Any) -> int:
        number = self.checkpoints
        if isinstance(number, int):
            wanted = -(-problem.num_steps // number)
            return unroll.lasting_capacity(problem, ("capacity", number), wanted)
        wanted = unroll.sqrt_capacity(problem, state)
        return unroll.lasting_capacity(problem, "capacity", wanted)

    def _stores_all(self, problem: Problem, state: Any) -> bool:
        if _lists_stay_inside(problem) or self.checkpoints not in (None, "all"):
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
        """(carry, dE/dper_step rows) before a segment, from the carry after it."""
        if _lists_stay_inside(problem):
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


def _lists_stay_inside(problem: Problem) -> bool:
    # A tensor list of TensorFlow cannot leave a program that XLA compiles.
    return backend.name == "tensorflow" and problem.uses_xla


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
    """Carries (adjoint, dE/dshared, dE/dper_example) back over one segment."""
    adjoint, d_shared, d_per_example = carry
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
    # One scatter for the segment instead of one for each step.
    d_per_example = {
        name: total + _scatter(rows[name], inputs.batches, total)
        for name, total in d_per_example.items()
    }
    return (adjoint, d_shared, d_per_example), {n: rows[n] for n in inputs.per_step}


def _scatter(rows: Any, batches: Any, like: Any) -> Any:
    flat = keras.ops.reshape(rows, (-1, *like.shape[1:]))
    index = keras.ops.reshape(batches, (-1,))
    return keras.ops.segment_sum(flat, index, num_segments=like.shape[0])


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
