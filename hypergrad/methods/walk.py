"""Steps of gradient descent with momentum, walked forwards and backwards.

What a step does to weights and velocities is undone exactly (`momentum_step`), the
gradient taken at the weights that were restored. Both directions are one compiled
program, so that it is the same code that computes a gradient twice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from hypergrad import backend, unroll
from hypergrad.methods.fixed_point import fixed_point_for
from hypergrad.methods.momentum_step import Factors, MomentumStep, Position
from hypergrad.methods.pull import pull_step
from hypergrad.parts import hparam_dtype
from hypergrad.problem import Bound, Problem, TrainState
from hypergrad.rules import options as opt
from hypergrad.rules.per_variable import of_each_variable, scalar
from hypergrad.unroll import StepInputs

CHUNK = 256
"""Steps whose factors are computed in one call."""


class Walked(NamedTuple):
    """What a segment leaves.

    ``position``, ``model_state``, ``iterations``: where it ended. ``passed``: the
    moving part of the state before each step, leaves (capacity, …). ``losses``: array
    (capacity,). ``inside``: booleans (capacity, variables), whether the numbers were in
    range after each step. ``most_lost``: scalar, the largest of what is lost, in units.
    ``carry``, ``rows``: as of a sweep, where it went backwards.
    """

    position: Position
    model_state: list
    iterations: Any
    passed: Any
    losses: Any
    inside: Any
    most_lost: Any
    carry: tuple
    rows: dict


# Positions


def position_program(problem: Problem) -> Callable:
    """Compiled state → `Position`."""

    @backend.wide()
    def position(state):
        numbers = fixed_point_for(state.weights)
        return Position(
            [numbers.from_float(w) for w in state.weights],
            [numbers.from_float(v) for v in state.optimizer_state["momentums"]],
            [numbers.nothing_lost(w) for w in state.weights],
        )

    return problem.program(("Reversible", "position"), lambda: position)


def state_program(problem: Problem) -> Callable:
    """Compiled (position, state) → the state with its numbers as floats."""

    def as_state(position, like):
        return _state(
            position, like, like.model_state, like.optimizer_state["iterations"]
        )

    return problem.program(("Reversible", "state"), lambda: as_state)


def differing_program(problem: Problem) -> Callable:
    """Compiled (position, position) → how many integers differ."""

    @backend.wide()
    def differing(a, b):
        return sum(
            ops.sum(ops.cast(ops.not_equal(x, y), "int32"))
            for x, y in zip(tree.flatten(a), tree.flatten(b), strict=True)
        )

    return problem.program(("Reversible", "differing"), lambda: differing)


@backend.wide()
def _state(
    position: Position, like: Any, model_state: Any, iterations: Any
) -> TrainState:
    numbers = fixed_point_for(like.weights)
    slots = like.optimizer_state["momentums"]
    weights, velocities = (
        [ops.cast(numbers.to_float(z), x.dtype) for z, x in zip(given, floats)]
        for given, floats in ((position.weights, like.weights), (position[1], slots))
    )
    slots = {"iterations": iterations, "momentums": velocities}
    return TrainState(weights, model_state, slots)


# Factors


def factors(problem: Problem, bound: Bound, state: Any) -> Factors:
    """What is lost by every step and variable, as NumPy arrays of float64."""
    program = problem.program(("Reversible", "factors"), lambda: _factors(problem))
    parts = []
    first = state.optimizer_state["iterations"]
    for start in range(0, problem.num_steps, CHUNK):
        steps = np.minimum(np.arange(start, start + CHUNK), problem.num_steps - 1)
        per_step = {name: rows[steps] for name, rows in bound.per_step.items()}
        found = program(bound.shared, per_step, first, np.int32(start))
        parts.append(backend.to_numpy(found)[: problem.num_steps - start])
    whole = np.concatenate(parts).astype("float64")
    return Factors(1.0 - whole[:, 0], whole[:, 1])


def _factors(problem: Problem) -> Callable:
    rule, tuned = problem.keras.rule, problem.keras.tuned
    dtype = hparam_dtype()
    count = len(rule.options.decay)

    def compute(shared, per_step, first, start):
        like = ops.zeros((2, count), dtype)
        found = backend.buffer(CHUNK, like)

        def body(i, found):
            hparams = {**shared, **{name: rows[i] for name, rows in per_step.items()}}
            numbers = rule.hyperparameters | tuned.optimizer_values(hparams)
            step = first + ops.cast(start + i, first.dtype)
            rate = opt.learning_rate(rule.options, step, numbers)
            each = of_each_variable({**numbers, "learning_rate": rate}, count)
            momentum = [scalar(n["momentum"], dtype) for n in each]
            decay = [
                scalar(0.0, dtype)
                if name is None
                else scalar(n[name], dtype) * scalar(n["learning_rate"], dtype)
                for n, name in zip(each, rule.options.decay, strict=True)
            ]
            row = ops.stack([ops.stack(momentum), ops.stack(decay)])
            return backend.buffer_write(found, i, row)

        found = backend.fori_loop(np.int32(CHUNK), body, found)
        return backend.buffer_stack(found, like)

    return compute


def decays(problem: Problem) -> list[bool]:
    """For each variable, whether its weight is multiplied by 1 − d."""
    rule, tuned = problem.keras.rule, problem.keras.tuned
    names = {target.rule_name for target in tuned.of_kind("optimizer").values()}
    return [
        name is not None and (name in names or rule.hyperparameters[name] != 0.0)
        for name in rule.options.decay
    ]


# The walk


def moving(problem: Problem, state: Any, inputs: StepInputs) -> list[int]:
    """Which parts of the model state a step may change, such as BatchNorm statistics.

    The others, a frozen part of the model, need no keeping.
    """

    def find() -> list[int]:
        found: list[int] = []

        def loss(state, inputs, data):
            hparams, batch = unroll.step_arguments(inputs, 0)
            value, aux = problem.call_loss(state.weights, state, hparams, batch, data)
            pairs = zip(state.model_state, aux, strict=True)
            found[:] = [i for i, (old, new) in enumerate(pairs) if new is not old]
            return ops.zeros_like(value)  # nothing is computed, only traced

        backend.jit(loss)(state, inputs, problem.data)
        return found

    found: list[int] = problem.remember(("Reversible", "moving"), find)
    return found


def walk_program(problem: Problem, second_order: str, indices: list[int]) -> Callable:
    """Compiled walk over a segment, which returns `Walked`; its arguments:

    ``forwards``: boolean. ``state``: model state and step count where it begins, and
    the shapes of the rest. ``passed``: read when it goes backwards. ``carry``: (α,
    dE/dshared). ``losing``: `Factors` (capacity, variables).
    """

    def walk(forwards, position, state, passed, carry, losing, inputs, data):
        walker = _Walker(problem, second_order, indices, forwards, state, losing)
        return walker.run(position, passed, carry, inputs, data)

    return problem.program(("Reversible", "walk", second_order), lambda: walk)


def _when(condition: Any, change: Callable, value: Any) -> Any:
    """The value changed, or as it is: a loop of one round or none."""
    rounds = ops.cast(condition, "int32")
    return backend.fori_loop(rounds, lambda _, value: change(value), value)


class _Walker:
    """The inside of the compiled walk."""

    def __init__(
        self,
        problem: Problem,
        second_order: str,
        indices: list[int],
        forwards: Any,
        state: Any,
        losing: Factors,
    ):
        self.problem, self.second_order = problem, second_order
        self.indices, self.losing, self.state = indices, losing, state
        self.forwards, self.backwards = forwards, ops.logical_not(forwards)
        self.numbers = fixed_point_for(state.weights)
        # Many small operations on integers, which as a graph would each go through
        # memory; compiled they compute the same.
        step = MomentumStep(fixed_point_for(state.weights), decays(problem))
        self._on, self._weights_back, self._back = (
            backend.jit(function, xla=True)
            for function in (step.on, step.weights_back, step.back)
        )

    def run(
        self,
        position: Position,
        passed: Any,
        carry: tuple,
        inputs: StepInputs,
        data: Any,
    ) -> Walked:
        capacity = unroll.capacity_of(inputs)
        hparams, _ = unroll.step_arguments(inputs, 0)
        sliced = {k: hparams[k] for k in (*inputs.per_step, *inputs.per_example)}
        like = (
            self._moving(self.state.model_state, self._iterations),
            ops.zeros((), hparam_dtype()),
            ops.zeros((len(position.weights),), "bool"),
        )
        notes = backend.buffer(capacity, like)

        def body(j, loop):
            place, model_state, iterations, notes, sweep = loop
            i = ops.where(self.forwards, j, inputs.length - 1 - j)
            hparams, batch = unroll.step_arguments(inputs, i)
            before = tree.map_structure(
                lambda now, rows: ops.where(self.forwards, now, rows[i]),
                self._moving(model_state, iterations),
                passed,
            )
            model_state, iterations = self._whole(model_state, before)
            losing = Factors(*(rows[i] for rows in self.losing))
            weights_back = self._weights_back
            place = _when(self.backwards, lambda p: weights_back(p, losing), place)
            state = _state(place, self.state, model_state, iterations)
            grads, aux, loss = self.problem.call_gradient(state, hparams, batch, data)
            after = self._from_rest(state, grads, hparams, aux, data)
            step = losing, after.optimizer_state["momentums"]
            place = _when(self.forwards, lambda p: self._on(p, *step), place)
            place = _when(self.backwards, lambda p: self._back(p, *step), place)

            def pull(sweep):
                (adjoint, d_shared), rows = sweep
                state = _state(place, self.state, model_state, iterations)
                adjoint, d_hparams = pull_step(
                    self.problem,
                    (state, grads),
                    hparams,
                    batch,
                    data,
                    adjoint,
                    self.second_order,
                )
                d_shared = backend.add(d_shared, {k: d_hparams[k] for k in d_shared})
                found = {k: d_hparams[k] for k in rows}
                return (adjoint, d_shared), backend.buffer_write(rows, i, found)

            sweep = _when(self.backwards, pull, sweep)
            note = (before, ops.cast(loss, hparam_dtype()), self._inside(place))
            notes = backend.buffer_write(notes, i, note)
            now = ops.where(
                self.forwards, after.optimizer_state["iterations"], iterations
            )
            return place, self._after(model_state, aux), now, notes, sweep

        begin = (
            position,
            self.state.model_state,
            self._iterations,
            notes,
            (carry, backend.buffer(capacity, sliced)),
        )
        end = backend.fori_loop(inputs.length, body, begin)
        place, model_state, iterations, notes, (carry, rows) = end
        passed, losses, inside = backend.buffer_stack(notes, like)
        rows = backend.buffer_stack(rows, sliced)
        with backend.wide():
            most = ops.max(ops.stack([ops.max(ops.abs(b)) for b in place.lost]))
        return Walked(
            place,
            model_state,
            iterations,
            passed,
            losses,
            inside,
            most,
            carry,
            rows,
        )

    @property
    def _iterations(self) -> Any:
        return self.state.optimizer_state["iterations"]

    def _moving(self, model_state: Any, iterations: Any) -> tuple:
        return [model_state[i] for i in self.indices], iterations

    def _whole(self, model_state: Any, moving: tuple) -> tuple[list, Any]:
        whole = list(model_state)
        for i, value in zip(self.indices, moving[0]):
            whole[i] = value
        return whole, moving[1]

    def _after(self, before: list, aux: Any) -> list:
        """The model state after the step, in the direction of the walk."""
        after = list(before)
        for i in self.indices:
            after[i] = ops.where(self.forwards, aux[i], before[i])
        return after

    def _from_rest(
        self, state: TrainState, grads: Any, hparams: dict, aux: Any, data: Any
    ) -> Any:
        """The rule at weights and velocities of 0: what the gradient alone adds."""
        zeros = backend.zeros_like(state.weights)
        slots = {**state.optimizer_state, "momentums": zeros}
        rest = state._replace(weights=zeros, optimizer_state=slots)
        return self.problem.call_update(grads, rest, hparams, aux, data)

    @backend.wide()
    def _inside(self, position: Position) -> Any:
        inside, fits = self.numbers.in_range, self.numbers.fits
        both = ops.logical_and
        return ops.stack(
            [
                ops.all(both(both(inside(w), inside(v)), fits(b)))
                for w, v, b in zip(*position, strict=True)
            ]
        )
