"""Exact reverse mode through a run that is undone step by step."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.bound import pull_bound
from hypergrad.methods import back, phases, walk
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.fixed_point import LOST_BITS, fixed_point_for
from hypergrad.methods.momentum_step import Factors, Position
from hypergrad.methods.pull import check_second_order, second_order_of
from hypergrad.methods.work import Work, nbytes
from hypergrad.problem import Bound, Problem
from hypergrad.rules import SGD
from hypergrad.rules.keras_internals import unwrap
from hypergrad.status import Status
from hypergrad.unroll import Segment, StepInputs

STEPS = 64
"""Steps of a segment: enough that calling its program costs nothing."""

LEAST = 2.0**-6
"""The smallest factor; below it a step loses more than a number has to spare."""

GROWTH = 10.0
"""Bits that a segment may lose: a margin of what a word has room for."""


@dataclasses.dataclass(frozen=True)
class Reversible(AbstractMethod):
    """The exact hypergradient of SGD with momentum, by undoing the run.

    With w, v the weights and velocities, a ``learning_rate``, μ ``momentum`` and d the
    learning rate times ``weight_decay``, a step ``v ← μ v − a g(w); w ← (1 − d) w + v``
    is undone by ``w ← (w − v) / (1 − d); v ← (v + a g(w)) / μ``, and the sweep of
    `Reverse` is carried along. Weights and velocities are fixed-point numbers, so that
    nothing is rounded away: the digits that a multiplication by μ shifts out are kept,
    log₂(1/μ) bits for each weight and step, and the run is restored bit for bit.

    The loss and the hypergradient are those of the run in fixed point, and rounding
    counts as the identity in derivatives. A number is an int64: for float64 weights of
    resolution 2^-50 and range ±2^11, about as fine as float64 rounds; for float32 of
    2^-40 and ±2^21, where float32 itself resolves a weight of 0.05 to 2^-28. JAX is
    asked for 64 bits in this arithmetic alone: the process need not enable them.

    Args:
        second_order: as in `Reverse`.

    Cost: the time of `Reverse` with recomputation, and of integer arithmetic on the
    weights in both directions, which counts where layers are small; memory of about 20
    arrays like the weights, whatever T is, and what is lost: log₂(1/μ) bits for each
    weight and step (0.152 at μ = 0.9, 210 times less than a float32), in words of 8
    bytes of which at least 43 bits are used. What else moves in a model
    (BatchNormalization statistics, seeds of random layers) does not run backwards: its
    T values are kept on the host. ``info["kept_bytes"]`` is all that grew with T.

    Valid when: the problem is made of a Keras model that is compiled with
    ``SGD(momentum=…)``, μ ≥ 2^-6, without ``nesterov``, ``use_ema``, gradient
    accumulation and weight constraints; clipping and weight decay may be on. A gradient
    that is computed twice must be the same to the last bit: it is on a CPU; a GPU may
    need ``XLA_FLAGS=--xla_gpu_deterministic_ops=true``. Where a run was not restored,
    or leaves the range, the status says so.

    Example:
        >>> hg.hypergradient(problem, method=hg.Reversible())

    References: Maclaurin et al. 2015, Alg. 2 and 3, arXiv:1502.03492; with shears of
    any factor in place of fractions, what is lost put aside in words, not in an integer
    of any size, and Keras' form of the momentum.
    """

    second_order: str | None = None

    def __post_init__(self) -> None:
        check_second_order(self.second_order)

    def check(self, problem: Problem) -> None:
        reason = _unsuited(problem)
        if reason is not None:
            needed, received, fix = reason
            raise ValueError(
                f"`Reversible` needs {needed} to run steps backwards. Received: "
                f"{received}. Use `Reverse()`{fix}."
            )

    @property
    def exact(self) -> bool:
        return True

    def runs(self, problem: Problem) -> float:
        return backend.run_cost("Reversible")

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        start = phases.start_of(problem, values)
        second_order = second_order_of(self.second_order)
        trip = _Trip(problem, start.bound, start.state, second_order)
        segments = trip.segments()
        segment = phases.longest(segments)

        indices = walk.moving(problem, start.state, trip.inputs(segment))

        def walked(steps: int, backwards: bool) -> Any:
            trip.begin_at(start.state, trip.origin)
            inputs = phases.inputs_of(start, segment, steps)
            carry = trip._nothing(indices) if backwards else None
            return trip.walk(segment, inputs, carry).carry

        found = {
            "walk ahead": phases.phase(lambda n: walked(n, False), [segments]),
            "walk back": phases.phase(lambda n: walked(n, True), [segments]),
        }
        weights = nbytes(start.state.weights)
        passing = [start.state.model_state[i] for i in indices]
        passed = nbytes((passing, start.state.optimizer_state["iterations"]))
        return Work(
            found | phases.ends(start),
            {"positions": 20 * weights, "lost": trip.words * nbytes(trip.origin.lost)},
            {"passed": problem.num_steps * passed} | phases.gradient(start),
        )

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        def compile_walk() -> None:
            bound, state = unroll.start(problem, values)
            unroll.validate(problem, state, bound)
            unroll.pull_validation(problem, state, bound)
            trip = _Trip(problem, bound, state, second_order_of(self.second_order))
            seen = set()
            for segment in unroll.plan(problem, trip.capacity):
                form = problem.form(segment.start), segment.capacity
                if form not in seen:
                    # A segment of no steps: compiles, and computes nothing.
                    none = trip.inputs(segment)._replace(length=np.int32(0))
                    trip.walk(segment, none)
                    seen.add(form)

        unroll.prepare_once(problem, ("Reversible", self.second_order), compile_walk)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        bound, start = unroll.start(problem, values)
        trip = _Trip(problem, bound, start, second_order_of(self.second_order))
        units: list[list[Segment]] = [[]]
        lost, passed, losses, inside = [], [], [], []
        for segment in trip.segments():
            if units[-1] and not trip.has_room:
                lost.append(trip.put_lost_aside())
                units.append([])
            walked = trip.walk(segment, trip.inputs(segment))
            units[-1].append(segment)
            passed.append(_rows(walked.passed, segment))
            losses.append(_rows(walked.losses, segment))
            inside.append(_rows(walked.inside, segment))
        lost.append(trip.put_lost_aside())
        final = trip.state()
        loss, metrics = unroll.validate(problem, final, bound)
        status = trip.status(np.concatenate(inside))
        if not status.ok:
            loss = loss * np.nan
        return Tape(
            values,
            bound,
            loss,
            metrics,
            units,
            start,
            final,
            np.concatenate(losses),
            extra=_Kept(trip.position, lost, passed),
            status=status,
        )

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        second_order = second_order_of(self.second_order)
        adjoint = back.Adjoint(problem, tape)
        trip = _Trip(problem, tape.bound, tape.start, second_order)
        trip.begin_at(tape.final, tape.extra.position)
        passed = iter(reversed(tape.extra.passed))
        differing = 0
        for unit, lost in zip(reversed(tape.units), reversed(tape.extra.lost)):
            trip.take_lost(lost)
            for segment in reversed(unit):
                inputs = trip.inputs(segment)
                walked = trip.walk(segment, inputs, (next(passed), adjoint.carry))
                adjoint.receive(segment, inputs, walked.carry, walked.rows)
            differing += trip.differing(whole=False)
        differing += trip.differing(whole=True)
        through_init = back.pull_init(problem, tape.bound, adjoint.carry[0])
        gradient = pull_bound(problem, tape.values, adjoint.bound(through_init))
        return Swept(gradient, _restored(differing), {"kept_bytes": tape.extra.nbytes})


class _Kept(NamedTuple):
    """What a run keeps: ``position``, where it ended; ``lost``: for each unit, the
    digits lost in it; ``passed``: for each segment, what does not run backwards."""

    position: Position
    lost: list
    passed: list

    @property
    def nbytes(self) -> int:
        leaves = tree.flatten((self.lost, self.passed))
        kinds = [keras.backend.standardize_dtype(leaf.dtype) for leaf in leaves]
        return sum(
            math.prod(leaf.shape) * np.dtype(kind).itemsize
            for leaf, kind in zip(leaves, kinds)
        )


class _Trip:
    """Where a run is while it goes over its segments, forwards or backwards."""

    def __init__(self, problem: Problem, bound: Bound, start: Any, second_order: str):
        self.problem, self.bound, self.second_order = problem, bound, second_order
        self.numbers = fixed_point_for(start.weights)
        self._room = 2.0**LOST_BITS
        self.losing = _checked(walk.factors(problem, bound, start))
        steps = min(STEPS, problem.num_steps)
        self.capacity = unroll.lasting_capacity(problem, "Reversible", steps)
        self.origin = walk.position_program(problem)(start)
        self.begin_at(start, self.origin)

    def begin_at(self, state: Any, position: Position) -> None:
        self._state, self.position = state, position
        self._most_lost = 0.0
        self._zeros: list = []

    def segments(self) -> list[Segment]:
        """The segments of the run, none of which loses more than ``GROWTH`` bits."""
        losing = np.maximum(self.losing.momentum.max(axis=1), 0.0)
        bits = -np.log2(1.0 - losing) - np.log2(1.0 - self.losing.decay.max(axis=1))
        found = []
        for segment in unroll.plan(self.problem, self.capacity):
            start, stop, held = segment.start, segment.start + segment.length, 0.0
            for t in range(start, stop):
                held += bits[t]
                if held > GROWTH and t > start:
                    found.append(Segment(start, t - start, segment.capacity))
                    start, held = t, bits[t]
            found.append(Segment(start, stop - start, segment.capacity))
        return found

    @property
    def words(self) -> int:
        """About how many words each number loses in a run."""
        bits = -np.log2(1.0 - np.maximum(self.losing.momentum, 0.0))
        bits = (bits - np.log2(1.0 - self.losing.decay)).sum(axis=0)
        return math.ceil(bits.max() / (LOST_BITS - GROWTH - 1.0))

    @property
    def has_room(self) -> bool:
        """Whether the next segment surely loses no more than a word has room for."""
        return (self._most_lost + 16.0) * 2.0 ** (GROWTH + 1) < self._room

    def put_lost_aside(self) -> list:
        """What was lost so far, as words; from here on it is counted from 0."""
        words: list = self.position.lost
        self.position = self.position._replace(lost=self.origin.lost)
        self._most_lost = 0.0
        return words

    def take_lost(self, words: list) -> None:
        self.position = self.position._replace(lost=words)

    def inputs(self, segment: Segment) -> StepInputs:
        return unroll.step_inputs(self.problem, self.bound, segment)

    def walk(
        self, segment: Segment, inputs: StepInputs, back: tuple | None = None
    ) -> walk.Walked:
        """Over one segment; ``back``: (what passed there, the carry of a sweep)."""
        problem, state = self.problem, self._state
        indices = walk.moving(problem, state, inputs)
        passed, carry = self._nothing(indices) if back is None else back
        program = walk.walk_program(problem, self.second_order, indices)
        walked: walk.Walked = program(
            np.asarray(back is None),
            self.position,
            state,
            _padded(passed, range(segment.capacity)),
            carry,
            self._factors(segment),
            inputs,
            problem.data,
        )
        # Dispatched ahead of the device, every segment would hold its own position.
        backend.synchronize(walked.position)
        self.position = walked.position
        self._most_lost = float(backend.to_numpy(walked.most_lost))
        slots = {**state.optimizer_state, "iterations": walked.iterations}
        self._state = state._replace(
            model_state=walked.model_state, optimizer_state=slots
        )
        return walked

    @backend.wide()
    def _factors(self, segment: Segment) -> Factors:
        """What the steps of a segment lose, on the device."""
        steps = range(segment.start, segment.start + segment.capacity)
        return tree.map_structure(backend.convert, _padded(self.losing, steps))

    def _nothing(self, indices: list[int]) -> tuple:
        """What a walk forwards receives in place of what a sweep has."""
        if not self._zeros:
            state = self._state
            moving = [state.model_state[i] for i in indices]
            passed = backend.to_numpy((moving, state.optimizer_state["iterations"]))
            rows = tree.map_structure(lambda x: np.zeros_like(x)[None], passed)
            carry = backend.zeros_like((state, self.bound.shared))
            self._zeros = [(rows, carry)]
        return self._zeros[0]

    def state(self) -> Any:
        """The state as the model would hold it."""
        return walk.state_program(self.problem)(self.position, self._state)

    def differing(self, whole: bool) -> int:
        """How many integers are not those of the beginning; else, of those lost."""
        program = walk.differing_program(self.problem)
        here, there = self.position, self.origin
        pair = (here, there) if whole else (here.lost, there.lost)
        return int(backend.to_numpy(program(*pair)))

    def status(self, inside: np.ndarray) -> Status:
        """Whether all numbers stayed in range; ``inside`` (T, variables)."""
        if inside.all():
            return Status()
        t, k = np.argwhere(~inside)[0]
        name = self.problem.keras.model.trainable_variables[k].path
        reason = (
            f"{name} or its velocity leaves ±{self.numbers.range:.0f} at step {t}, "
            "the range of the fixed-point numbers of `Reversible`, or is not finite: "
            "use `Reverse()`, or lower the learning rate."
        )
        return Status(False, reason, int(t), name)


def _checked(losing: Factors) -> Factors:
    """Refuses factors that leave too little of a number."""
    momentum = 1.0 - losing.momentum
    if (small := ~(momentum >= LEAST)).any():
        raise ValueError(
            "`Reversible` needs momentum > 0 to run steps backwards (at least 2^-6). "
            f"Received: SGD(momentum={momentum[small][0]:.6g}). Use `Reverse()` or set "
            "`momentum`."
        )
    if (large := ~(1.0 - losing.decay >= LEAST)).any():
        raise ValueError(
            "`Reversible` needs a learning rate times weight decay below 1 to run "
            f"steps backwards. Received: {losing.decay[large][0]:.6g}. Use `Reverse()` "
            "or lower one of the two."
        )
    return losing


def _padded(rows: Any, wanted: range) -> Any:
    """These rows of each array; beyond its end the last one."""
    index = np.asarray(wanted)
    return tree.map_structure(lambda a: a[np.minimum(index, len(a) - 1)], rows)


def _rows(rows: Any, segment: Segment) -> Any:
    """The rows of the steps that were run, on the host, without the memory of all."""
    return tree.map_structure(
        lambda a: a[: segment.length].copy(), backend.to_numpy(rows)
    )


def _restored(differing: int) -> Status:
    if differing == 0:
        return Status()
    reason = (
        f"The run was not restored: {differing} integers of its start differ, since a "
        "gradient computed again at the same weights was not the same. Ask for "
        "deterministic programs (on GPUs XLA_FLAGS=--xla_gpu_deterministic_ops=true), "
        "or use `Reverse()`."
    )
    return Status(False, reason, None, "weights")


def _unsuited(problem: Problem) -> tuple[str, str, str] | None:
    """(what is needed, what was received, another fix), or None where all is well."""
    if problem.keras is None:
        kind = "an opaque `step`" if problem.step is not None else "`update` functions"
        return "a Keras model, whose rule it knows,", kind, ""
    rule, optimizer = problem.keras.rule, unwrap(problem.keras.model.optimizer)
    name = type(optimizer).__name__
    if not isinstance(rule, SGD):
        return "SGD with momentum", name, ", or compile with `SGD(momentum=0.9)`"
    if not rule.has_momentum:
        return "momentum > 0", f"{name}(momentum=0.0)", " or set `momentum`"
    options = rule.options
    refused = {
        "nesterov=True": rule.nesterov,
        "use_ema=True": options.averages,
        f"gradient_accumulation_steps={options.accumulation}": options.accumulation > 1,
    }
    for setting in itertools.compress(refused, refused.values()):
        return f"SGD without `{setting}`", f"{name}({setting})", ""
    if any(constraint is not None for constraint in options.constraints):
        return "weights without constraints", "a constraint, which forgets", ""
    return None
