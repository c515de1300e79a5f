"""Exact forward mode: tangents of the state travel with the run."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from hypergrad import backend, unroll
from hypergrad.bound import push_bound
from hypergrad.methods import phases, plain, unrolled
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.work import Phase, Work, nbytes
from hypergrad.problem import Bound, Problem
from hypergrad.unroll import Segment, StepInputs

AT_ONCE = 8
"""Tangents that are carried together unless asked otherwise."""

MOST = 1000
"""Hyperparameters beyond which this method is refused."""


@dataclasses.dataclass(frozen=True)
class Forward(AbstractMethod):
    """The exact hypergradient, by carrying dstate/dλ along the run.

    With s_{t+1} = Φ(s_t, λ_t), the tangent Z_t = ds_t/dλ obeys
    ``Z_{t+1} = ∂Φ/∂s_t Z_t + ∂Φ/∂λ_t dλ_t/dλ``, and
    ``dE/dλ = ∂E/∂s_T Z_T + ∂E/∂λ``.

    Args:
        chunk: int ≥ 1, how many columns of Z are carried together; each chunk is a run
            of its own. None: all, at most 8.

    Cost: for each hyperparameter (each entry of an array counts) the time of one to two
    plain trainings; memory of 2 (1 + chunk) states, whatever T is.
    ``benchmarks/speed`` measures it. On TensorFlow a tangent is a vjp of a vjp, since
    its own forward mode has no LSTM.

    Valid when: every step is differentiable almost everywhere, and hyperparameters are
    few. More than 1000 are refused.

    Example:
        >>> hg.hypergradient(problem, method=hg.Forward())

    References: Franceschi et al. 2017, Alg. 2, arXiv:1703.01785; Micaelli & Storkey
    2021, arXiv:2007.07869.
    """

    chunk: int | None = None

    def __post_init__(self) -> None:
        given = self.chunk
        number = isinstance(given, int) and not isinstance(given, bool) and given > 0
        if not (number or given is None):
            raise ValueError(
                "`chunk` of Forward must be None or an int of at least 1. Received: "
                f"{given!r}."
            )

    def check(self, problem: Problem) -> None:
        number = problem.num_numbers
        if number > MOST:
            raise ValueError(
                f"`Forward` carries a tangent for each of the {number} numbers of this "
                f"problem, which costs about {self.runs(problem):.0f} plain trainings; "
                f"at most {MOST} are accepted. Use `Reverse()`, which costs about "
                f"{backend.run_cost('Reverse'):.0f}, however many there are."
            )

    @property
    def exact(self) -> bool:
        return True

    def runs(self, problem: Problem) -> float:
        number = problem.num_numbers
        again = -(-number // self._together(problem)) - 1
        return 1.0 + again + number * backend.run_cost("Forward")

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        tape, start = _at_start(problem, values), phases.start_of(problem, values)
        together, chunks = self._together(problem), self._chunks(problem)
        segment = phases.longest(tape.units[0])

        begun: list[tuple[Any, Bound]] = []

        def carry(steps: int) -> Any:
            # The program gives up its tangents: each call has the last one's.
            Z, directions = begun.pop() if begun else _start(problem, tape, *chunks[0])
            inputs = phases.inputs_of(start, segment, steps)
            pushed = unroll.sliced(directions, segment, inputs.batches)
            program = _tangent_program(problem)
            Z = program(start.state, Z, inputs, pushed, problem.data)[1]
            begun.append((Z, directions))
            return Z

        def begin(steps: int) -> Any:
            return _start(problem, tape, *chunks[0])[0]

        found = {
            f"steps with {together} tangents": phases.phase(
                carry, tape.units, len(chunks)
            ),
            f"start of {together} tangents": Phase(begin, 0, len(chunks)),
        }
        state, bound = nbytes(start.state), start.bound
        moved = nbytes((bound.shared, dict(bound.per_step), dict(bound.per_example)))
        device = {"tangents": together * (2 * state + moved), "adjoint": state}
        return Work(found | phases.ends(start), device)

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        def compile_all() -> None:
            tape = _at_start(problem, values)
            tangents = _start(problem, tape, *self._chunks(problem)[0])
            _carry(problem, tape, tangents, steps=0)
            unroll.validate(problem, tape.final, tape.bound)
            unroll.pull_validation(problem, tape.final, tape.bound)

        unroll.prepare_once(problem, ("Forward", self._together(problem)), compile_all)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        if not sweep_follows:
            return plain.train(problem, values)
        tape = _at_start(problem, values)
        tangents = _start(problem, tape, *self._chunks(problem)[0])
        state, tangents, losses = _carry(problem, tape, tangents)
        loss, metrics = unroll.validate(problem, state, tape.bound)
        return tape._replace(
            final=state,
            loss=loss,
            metrics=metrics,
            train_losses=losses,
            extra=tangents,
        )

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        pulled = unroll.pull_validation(problem, tape.final, tape.bound)
        columns: list[np.ndarray] = []
        for k, (first, stop) in enumerate(self._chunks(problem)):
            tangents = tape.extra if k == 0 else None
            if tangents is None:
                tangents = _start(problem, tape, first, stop)
                _, tangents, _ = _carry(problem, tape, tangents)
            state_tangents, directions = tangents
            seen = {n: rows[-1] for n, rows in directions.per_step.items()}
            columns.append(
                _contract(problem)(pulled, (state_tangents, directions.shared | seen))
            )
        flat = np.concatenate([backend.to_numpy(column) for column in columns])
        return Swept(_unflattened(problem, flat[: problem.num_numbers]))

    def _together(self, problem: Problem) -> int:
        return min(problem.num_numbers, self.chunk or AT_ONCE)

    def _chunks(self, problem: Problem) -> list[tuple[int, int]]:
        """(first, stop) of the directions of each chunk; all of one length."""
        together = self._together(problem)
        return [
            (first, first + together)
            for first in range(0, problem.num_numbers, together)
        ]


def _at_start(problem: Problem, values: Mapping[str, np.ndarray]) -> Tape:
    """The tape of a run that has not begun."""
    bound, state = unroll.start(problem, values)
    segments = unroll.plan(problem, plain.capacity(problem, state))
    return Tape(values, bound, None, {}, [segments], state, state, np.zeros(0))


def _unflattened(problem: Problem, flat: np.ndarray) -> dict[str, np.ndarray]:
    found, first = {}, 0
    for name, float_ in problem.space.items():
        stop = first + int(np.prod(float_.shape))
        found[name] = flat[first:stop].reshape(float_.shape)
        first = stop
    return found


def _start(problem: Problem, tape: Tape, first: int, stop: int) -> tuple[Any, Bound]:
    """(Z_0, directions of what steps receive), for columns ``first … stop - 1``.

    Columns beyond the last hyperparameter are zero: all chunks have one shape.
    """
    columns = np.eye(stop, problem.num_numbers, dtype="float64")[first:]
    units, at = {}, 0
    for name, float_ in problem.space.items():
        size = int(np.prod(float_.shape))
        units[name] = columns[:, at : at + size].reshape(-1, *float_.shape)
        at += size
    directions = push_bound(problem, tape.values, units)
    bound = tape.bound

    def push_init(shared, directions, data):
        def init(shared):
            return problem.call_init(shared, data)

        return backend.jvps(init, (shared,), (directions,))[1]

    if bound.shared and not problem.init_is_constant:
        program = problem.program("push_init", lambda: push_init)
        return program(bound.shared, directions.shared, problem.data), directions
    number = stop - first
    return tree.map_structure(lambda leaf: _zeros(leaf, number), tape.start), directions


def _zeros(leaf: Any, number: int) -> Any:
    if leaf is None:
        return None
    if not backend.is_inexact(leaf):
        return ops.zeros_like(leaf)
    dtype = keras.backend.standardize_dtype(leaf.dtype)
    return ops.zeros((number, *leaf.shape), dtype)


def _carry(
    problem: Problem, tape: Tape, tangents: tuple[Any, Bound], steps: int | None = None
) -> tuple[Any, tuple[Any, Bound], np.ndarray]:
    """(final state, (Z_T, directions), losses) of a run from the start of a tape.

    With ``steps=0`` nothing is run, but compiled.
    """
    state, (Z, directions) = tape.start, tangents
    losses = []
    segments = [segment for unit in tape.units for segment in unit]
    for segment, inputs, pushed in _inputs(problem, tape.bound, directions, segments):
        if steps == 0:
            inputs = inputs._replace(length=np.int32(0))
        program = _tangent_program(problem)
        state, Z, part = program(state, Z, inputs, pushed, problem.data)
        # Dispatched ahead of the device, every segment would hold its own tangents.
        backend.synchronize(Z)
        losses.append((segment.length, part))
    return state, (Z, directions), unrolled.joined(losses)


def _inputs(
    problem: Problem, bound: Bound, directions: Bound, segments: list[Segment]
) -> Iterator[tuple[Segment, StepInputs, StepInputs]]:
    """Each segment with what its steps see, and the derivative of that."""
    for segment in segments:
        inputs = unroll.step_inputs(problem, bound, segment)
        yield segment, inputs, unroll.sliced(directions, segment, inputs.batches)


def _tangent_program(problem: Problem) -> Any:
    """Compiled ``(state, Z, inputs, directions, data) -> (state, Z, losses)``.

    Z is given up.
    """

    def carry(state, Z, inputs, directions, data):
        losses = backend.buffer(unroll.capacity_of(inputs), unroll.loss_zero())

        def body(i, loop):
            state, Z, losses = loop
            hparams, batch = unroll.step_arguments(inputs, i)
            pushed, _ = unroll.step_arguments(directions, i, axis=1)

            def step(state, hparams):
                return problem.call_step(state, hparams, batch, data)

            (state, loss), (Z, _) = backend.jvps(step, (state, hparams), (Z, pushed))
            losses = backend.buffer_write(losses, i, unroll.loss_scalar(loss))
            return state, Z, losses

        state, Z, losses = backend.fori_loop(inputs.length, body, (state, Z, losses))
        return state, Z, backend.buffer_stack(losses, unroll.loss_zero())

    return problem.program("tangents", lambda: carry, donate=(1,))


def _contract(problem: Problem) -> Any:
    """Compiled: cotangents, tangents (k, …) of the same tree → k products."""

    def contract(cotangents, tangents):
        total = 0.0
        flat = zip(tree.flatten(cotangents), tree.flatten(tangents), strict=True)
        for cotangent, tangent in flat:
            if backend.is_inexact(cotangent):
                rows = ops.reshape(tangent, (tangent.shape[0], -1))
                total = total + ops.matmul(rows, ops.reshape(cotangent, (-1,)))
        return total

    return problem.program("contract", lambda: contract)
