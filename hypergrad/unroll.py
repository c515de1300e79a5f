"""Segments of training: the unit of compilation.

A run of T steps is a host loop over segments. One compiled program runs the steps of
one segment; how many it runs is an argument, so that no shape knows T. A segment ends
where the shape of the batch changes (the last, partial batch of an epoch), since a
program has the shapes of its arguments.

Nothing here knows a method: methods say what a program does with a step.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.bound import bind_values, seen_by_validation
from hypergrad.data import row_index
from hypergrad.problem import Bound, Problem

TRAVELLING = 2**28
"""Bytes of the batches that are sent to the device for one segment."""


class Segment(NamedTuple):
    """Steps ``start … start + length - 1``, in a program with room for ``capacity``."""

    start: int
    length: int
    capacity: int


class StepInputs(NamedTuple):
    """The arguments of the steps of one segment, beside state and data.

    ``shared``: dict of arrays every step sees. ``per_step``: dict of arrays
    (capacity, …), step i sees row i. ``per_example``: dict of arrays (examples, …), a
    step sees the rows of its batch. ``batches``: tree of arrays (capacity, …).
    ``length``: int32 scalar, how many of the ``capacity`` steps are run.
    """

    shared: dict
    per_step: dict
    per_example: dict
    batches: Any
    length: Any


def plan(
    problem: Problem, capacity: int, start: int = 0, stop: int | None = None
) -> list[Segment]:
    """Splits steps ``start … stop - 1`` into segments of at most ``capacity`` steps.

    ``stop`` None: ``num_steps``.
    """
    segments = []
    steps = range(start, problem.num_steps if stop is None else stop)
    for form, run in itertools.groupby(steps, problem.form):
        alike = list(run)
        start, length = alike[0], len(alike)
        room = min(capacity, max(1, TRAVELLING // max(1, bytes_of(form))))
        room = min(room, problem.longest_run(start) or room)
        for first in range(start, start + length, room):
            segments.append(Segment(first, min(room, start + length - first), room))
    return segments


def units(segments: list[Segment], capacity: int) -> list[list[Segment]]:
    """Groups segments into units of at most ``capacity`` steps, if of several.

    Where shapes of batches alternate, segments are short: a state for each would be one
    for nearly every step.
    """
    groups: list[list[Segment]] = []
    for segment in segments:
        steps = sum(other.length for other in groups[-1]) if groups else capacity
        if steps + segment.length > capacity:
            groups.append([])
        groups[-1].append(segment)
    return groups


def bytes_of(form: tuple) -> int:
    """Of a batch whose leaves have these shapes and dtypes."""
    return sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in form)


def step_inputs(problem: Problem, bound: Bound, segment: Segment) -> StepInputs:
    """What the steps of a segment see."""
    steps = range(segment.start, segment.start + segment.length)
    batches = tree.map_structure(
        lambda *leaves: _padded(np.stack(leaves), segment.capacity),
        *[problem.batch(t) for t in steps],
    )
    return sliced(bound, segment, batches)


def sliced(bound: Bound, segment: Segment, batches: Any) -> StepInputs:
    """The same with batches at hand; ``bound.per_step`` is in NumPy here."""
    steps = slice(segment.start, segment.start + segment.length)
    return StepInputs(
        shared=bound.shared,
        per_step={
            name: _padded(values[steps], segment.capacity)
            for name, values in bound.per_step.items()
        },
        per_example=bound.per_example,
        batches=batches,
        length=np.int32(segment.length),
    )


def _padded(rows: np.ndarray, capacity: int) -> np.ndarray:
    if len(rows) == capacity:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], capacity - len(rows), axis=0)])


def capacity_of(inputs: StepInputs) -> int:
    return tree.flatten(inputs.batches)[0].shape[0]


def step_arguments(inputs: StepInputs, i: Any, axis: int = 0) -> tuple[dict, Any]:
    """(hparams, batch) of step ``i`` of a segment; inside compiled code.

    ``axis``: the one of the examples in ``per_example``.
    """
    batch = tree.map_structure(lambda leaf: leaf[i], inputs.batches)
    hparams = dict(inputs.shared)
    hparams |= {name: values[i] for name, values in inputs.per_step.items()}
    hparams |= {
        name: keras.ops.take(values, row_index(batch), axis=axis)
        for name, values in inputs.per_example.items()
    }
    return hparams, batch


def start(problem: Problem, values: Mapping[str, np.ndarray]) -> tuple[Bound, Any]:
    """(what the steps receive, the state before the first) of a run with values."""
    bound = bind_values(problem, values)
    return bound, initial_state(problem, bound)


def prepare_once(problem: Problem, key: Any, compile_all: Callable[[], None]) -> None:
    """Compiles what a method needs, as a graph where XLA refuses; once a problem."""
    if problem.remember(("prepared", key), list):
        return
    try:
        compile_all()
    except backend.XlaRefused as error:
        problem.leave_xla(error)
        compile_all()
    problem.remember(("prepared", key), list).append(True)


def initial_state(problem: Problem, bound: Bound) -> Any:
    """The state before the first step."""
    if problem.init_is_constant:
        return problem.call_init(bound.shared, problem.data)
    program = problem.program("init", lambda: problem.call_init)
    return program(bound.shared, problem.data)


def forward_program(problem: Problem) -> Callable:
    """Compiled ``(state, inputs, data) -> (state, training losses (capacity,))``."""

    def forward(state, inputs, data):
        losses = backend.buffer(capacity_of(inputs), loss_zero())

        def body(i, carry):
            state, losses = carry
            hparams, batch = step_arguments(inputs, i)
            state, loss = problem.call_step(state, hparams, batch, data)
            return state, backend.buffer_write(losses, i, loss_scalar(loss))

        state, losses = backend.fori_loop(inputs.length, body, (state, losses))
        return state, backend.buffer_stack(losses, loss_zero())

    return problem.program("forward", lambda: forward)


class Records(NamedTuple):
    """Buffers with what is kept of the steps of a segment.

    ``states``: the state before each step. ``grads``: the gradient taken there; () for
    opaque steps.
    """

    states: Any
    grads: Any


def new_records(problem: Problem, capacity: int, state: Any, room: Any = ()) -> Records:
    """Buffers inside compiled code, in the memory of ``room`` if there is any."""
    grads = () if problem.step is not None else state.weights
    return backend.buffer(capacity, Records(state, grads), room)


def new_room(problem: Problem, capacity: int, state: Any) -> Any:
    """Memory for `new_records`, made outside of compiled code."""
    grads = () if problem.step is not None else state.weights
    return backend.room(capacity, Records(state, grads))


def read_record(
    problem: Problem, records: Records, i: Any, state: Any
) -> tuple[Any, Any]:
    """(state, grads) of step ``i``; ``state`` is an example of its shapes."""
    grads = () if problem.step is not None else state.weights
    return (
        backend.buffer_read(records.states, i, state),
        backend.buffer_read(records.grads, i, grads),
    )


def run_recorded(
    problem: Problem, records: Records, state: Any, inputs: StepInputs, data: Any
) -> tuple[Any, Records, Any]:
    """Runs a segment inside compiled code: (state, records, losses (capacity,))."""
    losses = backend.buffer(capacity_of(inputs), loss_zero())

    def body(i, carry):
        state, (states, grads), losses = carry
        states = backend.buffer_write(states, i, state)
        hparams, batch = step_arguments(inputs, i)
        if problem.step is not None:
            state, loss = problem.call_step(state, hparams, batch, data)
        else:
            gradient, aux, loss = problem.call_gradient(state, hparams, batch, data)
            grads = backend.buffer_write(grads, i, gradient)
            state = problem.call_update(gradient, state, hparams, aux, data)
        losses = backend.buffer_write(losses, i, loss_scalar(loss))
        return state, Records(states, grads), losses

    state, records, losses = backend.fori_loop(
        inputs.length, body, (state, records, losses)
    )
    return state, records, backend.buffer_stack(losses, loss_zero())


def record_program(problem: Problem) -> Callable:
    """Compiled ``(room, state, inputs, data) -> (state, records, losses)``."""

    def record(room, state, inputs, data):
        records = new_records(problem, capacity_of(inputs), state, room)
        return run_recorded(problem, records, state, inputs, data)

    return problem.program("record", lambda: record, donate=(0,))


def loss_zero() -> Any:
    return backend.convert(0.0, _loss_dtype())


def loss_scalar(loss: Any) -> Any:
    return keras.ops.cast(loss, _loss_dtype())


def _loss_dtype() -> str:
    return "float64" if keras.config.floatx() == "float64" else "float32"


def forward(
    problem: Problem, state: Any, bound: Bound, segments: list[Segment]
) -> Iterator[tuple[Segment, Any, Any]]:
    """Runs segments; yields each with the state after it and its training losses."""
    program = forward_program(problem)
    for segment in segments:
        inputs = step_inputs(problem, bound, segment)
        state, losses = program(state, inputs, problem.data)
        yield segment, state, losses


FAR = 8
"""A segment this many times shorter or longer than it should be is compiled anew."""


def lasting_capacity(problem: Problem, key: Any, wanted: int) -> int:
    """A capacity used before that is not far from what is wanted, else that.

    Problems that share programs share it: another T compiles nothing, unless it is so
    much longer (64 times, for √T) that the old segments would waste memory.
    """
    known = problem.remember(key, list)
    for capacity in known:
        if capacity <= FAR * wanted and wanted <= FAR * capacity:
            return capacity
    known.append(wanted)
    return wanted


def sqrt_capacity(problem: Problem, state: Any, num_steps: int) -> int:
    """The steps of a segment that need the least memory when each is run twice.

    T/S states at segment starts and S records inside one segment are least at
    S = √(T · size of a state / size of a record) (Griewank & Walther 2000).
    """
    ratio = (_numbers(state) or 1) / (_record_numbers(problem, state) or 1)
    return max(1, math.ceil(math.sqrt(ratio * num_steps)))


def record_bytes(problem: Problem, state: Any) -> int:
    """About the bytes that `Records` keep of one step."""
    return _record_numbers(problem, state) * np.dtype(_loss_dtype()).itemsize


def _record_numbers(problem: Problem, state: Any) -> int:
    grads = () if problem.step is not None else state.weights
    return _numbers(state) + _numbers(grads)


def _numbers(value: Any) -> int:
    leaves = [leaf for leaf in tree.flatten(value) if leaf is not None]
    return sum(math.prod(leaf.shape) for leaf in leaves)


def validate(problem: Problem, state: Any, bound: Bound) -> tuple[Any, dict]:
    """(E, metrics) at a state; E a NumPy scalar, metrics plain floats."""
    program = problem.program("validate", lambda: problem.call_validation)
    hparams = seen_by_validation(bound)
    validation = problem.validation
    metric_state = () if validation is None else validation.metric_state
    parts = []
    for weight, chunk in problem.validation_chunks:
        loss, metric_state = program(state, hparams, chunk, metric_state, problem.data)
        parts.append((weight, loss))
    loss = sum(weight * float(backend.to_numpy(part)) for weight, part in parts)
    metrics = {}
    if validation is not None and validation.metrics is not None:
        metrics = validation.metrics(metric_state)
    return np.asarray(loss, _loss_dtype())[()], metrics


def pull_validation(problem: Problem, state: Any, bound: Bound) -> tuple[Any, dict]:
    """(dE/dstate, dE/dhparams) of the validation alone.

    ``hparams`` are those of `seen_by_validation`: the shared ones, and the last row of
    those per step.
    """

    def pull(state, hparams, chunk, weight, metric_state, data):
        def chunk_loss(state, hparams):
            return problem.call_validation(state, hparams, chunk, metric_state, data)[0]

        out, pullback = backend.vjp(chunk_loss, state, hparams)
        return pullback(keras.ops.cast(weight, out.dtype))

    program = problem.program("pull_validation", lambda: pull)
    metric_state = () if problem.validation is None else problem.validation.metric_state
    hparams = seen_by_validation(bound)
    total = None
    for weight, chunk in problem.validation_chunks:
        part = program(
            state,
            hparams,
            chunk,
            np.asarray(weight, _loss_dtype()),
            metric_state,
            problem.data,
        )
        total = part if total is None else backend.add(total, part)
    assert total is not None
    return total
