"""Which step and which variable first went non-finite.

The end of a segment says whether something went wrong inside it; the first such segment
is then run once more, noting for each step which leaves are finite. A run that ends
well pays nothing.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.problem import Problem
from hypergrad.status import Status


def all_finite(problem: Problem, state: Any) -> bool:
    """Whether a state is finite; one boolean leaves the device."""
    if not _inexact(state):
        return True
    return bool(backend.to_numpy(_is_finite(problem)(state)))


def run_status(problem: Problem, tape: Any) -> Status:
    """The status of a run before its sweep."""
    if not tape.status.ok:
        failed: Status = tape.status
        return failed
    if np.isfinite(tape.loss) and all_finite(problem, tape.final):
        return Status()
    return locate(problem, tape)


def gradient_status(gradient: Mapping[str, np.ndarray]) -> Status:
    for name, value in gradient.items():
        # The sum says it without another array of that size, but for an overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.sum(value)
        if not np.isfinite(total) and not np.isfinite(value).all():
            reason = f"The hypergradient of {name!r} is not finite."
            return Status(False, reason, None, "hypergradient")
    return Status()


def locate(problem: Problem, tape: Any) -> Status:
    """The status of a run whose final state or loss may not be finite.

    Args:
        problem: the problem.
        tape: the `Tape` of a run.
    """
    # An opaque step that reports no loss has NaN for all of them.
    reported = problem.step is None or np.isfinite(tape.train_losses).any()
    all_losses = tape.train_losses if reported else np.zeros(problem.num_steps)
    for start, end, segment in tape.spans(problem):
        stop = segment.start + segment.length
        losses = all_losses[segment.start : stop]
        if all_finite(problem, end) and np.isfinite(losses).all():
            continue
        inputs = unroll.step_inputs(problem, tape.bound, segment)
        flags = backend.to_numpy(_flags(problem)(start, inputs, problem.data))
        for i in range(segment.length):
            step = segment.start + i
            if not np.isfinite(losses[i]):
                return _status(step, "training loss")
            if not flags[i].all():
                names = leaf_names(problem, start)
                return _status(step, names[int(np.argmin(flags[i]))])
        # A second run of the same steps may round differently on an accelerator.
        finite = [np.isfinite(leaf).all() for leaf in backend.to_numpy(_inexact(end))]
        names = [*leaf_names(problem, start), "training loss"]
        return _status(stop - 1, names[int(np.argmin([*finite, False]))])
    if not np.isfinite(tape.loss):
        return _status(problem.num_steps - 1, "validation loss")
    return Status()


def _status(step: int, variable: str) -> Status:
    reason = (
        f"{variable} is not finite from step {step} on: lower the learning rate, or "
        "narrow the range of what is tuned."
    )
    return Status(False, reason, step, variable)


def _is_finite(problem: Problem) -> Any:
    def is_finite(state):
        return keras.ops.all(keras.ops.stack(_finite(state)))

    return problem.program("finite", lambda: is_finite)


def _flags(problem: Problem) -> Any:
    def flags(state, inputs, data):
        example = keras.ops.stack(_finite(state))
        notes = backend.buffer(unroll.capacity_of(inputs), example)

        def body(i, carry):
            state, notes = carry
            hparams, batch = unroll.step_arguments(inputs, i)
            state, _ = problem.call_step(state, hparams, batch, data)
            note = keras.ops.stack(_finite(state))
            return state, backend.buffer_write(notes, i, note)

        _, notes = backend.fori_loop(inputs.length, body, (state, notes))
        return backend.buffer_stack(notes, example)

    return problem.program("flags", lambda: flags)


def _finite(state: Any) -> list:
    return [keras.ops.all(keras.ops.isfinite(leaf)) for leaf in _inexact(state)]


def _inexact(state: Any) -> list:
    return [leaf for leaf in tree.flatten(state) if backend.is_inexact(leaf)]


def leaf_names(problem: Problem, state: Any) -> list[str]:
    """A path for each inexact leaf of a state, in the order of ``tree.flatten``."""
    if problem.keras is not None:
        return problem.keras.leaf_names(state)
    return [
        f"state leaf {i} of shape {tuple(leaf.shape)}"
        for i, leaf in enumerate(tree.flatten(state))
        if backend.is_inexact(leaf)
    ]
