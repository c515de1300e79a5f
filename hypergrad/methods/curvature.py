"""Products with second derivatives of the training loss at the last state.

L is the mean over a `Sample`, in training mode. The state beside the weights (moving
statistics, seeds of random layers, slots of the optimizer) is held as the run left it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from hypergrad import backend, unroll
from hypergrad.data import row_index
from hypergrad.linear import Operator
from hypergrad.linear.vectors import dot, scaled
from hypergrad.methods import back
from hypergrad.methods.sample import Block
from hypergrad.problem import Problem
from hypergrad.unroll import Segment


class Hessian:
    """``v → ∂²L/∂θ² v`` at a state.

    Args:
        problem: what was trained.
        state: its last state.
        sample: the rows of L, in blocks.
    """

    def __init__(self, problem: Problem, state: Any, sample: Iterable[Block]):
        self._problem = problem
        self._state = state
        self._sample = sample
        self._zero = backend.zeros_like(state.weights)

    @property
    def operator(self) -> Operator:
        return Operator(self.product, self._problem.program)

    def product(self, v: Any) -> Any:
        """∂²L/∂θ² v."""
        total = self._zero
        program = _product_program(self._problem)
        for inputs, shares in self._sample:
            total = program(total, self._state, v, inputs, shares, self._problem.data)
        return total

    def pull(self, v: Any, adjoint: back.Adjoint) -> float:
        """Adds (∂²L/∂λ∂θ)' v to dE/dλ; gives ‖∂L/∂θ‖."""
        problem = self._problem
        grads = self._zero
        program = _pull_program(problem)
        for block in self._sample:
            shared = adjoint.carry[1]
            grads, shared, rows = program(
                grads, shared, self._state, v, *block, problem.data
            )
            receive(adjoint, block, shared, rows)
        square = problem.program("square", lambda: lambda g: dot(g, g))(grads)
        return float(backend.to_numpy(square)) ** 0.5


def receive(adjoint: back.Adjoint, block: Block, shared: Any, rows: Any) -> None:
    """Takes over what a block gave to dE/dλ."""
    inputs = block.inputs
    if rows:
        index = backend.to_numpy(row_index(inputs.batches))
        inputs = inputs._replace(batches=index)
    segment = Segment(0, int(inputs.length), unroll.capacity_of(inputs))
    adjoint.receive(segment, inputs, (adjoint.carry[0], shared), rows)


def _product_program(problem: Problem) -> Callable:
    def product(total, state, v, inputs, shares, data):
        def body(i, total):
            hparams, batch = unroll.step_arguments(inputs, i)

            def gradient(weights):
                return _gradient(problem, weights, state, hparams, batch, data)

            part = _along(gradient, state.weights, scaled(shares[i], v))
            return backend.add(total, part)

        return backend.fori_loop(inputs.length, body, total)

    return problem.program("hessian product", lambda: product)


def _along(gradient: Callable, weights: Any, v: Any) -> Any:
    """The Hessian times v: symmetric, so forward or reverse over reverse."""
    if backend.second_order() == "mixed":
        return backend.jvp(gradient, (weights,), (v,))[1]
    return backend.vjp(gradient, weights).pullback(v)[0]


def _pull_program(problem: Problem) -> Callable:
    def pull_all(grads, shared, state, v, inputs, shares, data):
        hparams, _ = unroll.step_arguments(inputs, 0)
        sliced = {n: hparams[n] for n in inputs.per_example}
        rows = backend.buffer(unroll.capacity_of(inputs), sliced)

        def body(i, loop):
            grads, shared, rows = loop
            hparams, batch = unroll.step_arguments(inputs, i)

            def gradient(hparams):
                return _gradient(problem, state.weights, state, hparams, batch, data)

            part, pull = backend.vjp(gradient, hparams)
            (found,) = pull(scaled(shares[i], v))
            shared = backend.add(shared, {n: found[n] for n in shared})
            rows = backend.buffer_write(rows, i, {n: found[n] for n in rows})
            return backend.add(grads, scaled(shares[i], part)), shared, rows

        grads, shared, rows = backend.fori_loop(
            inputs.length, body, (grads, shared, rows)
        )
        return grads, shared, backend.buffer_stack(rows, sliced)

    return problem.program("pull of the gradient", lambda: pull_all)


def _gradient(
    problem: Problem, weights: Any, state: Any, hparams: dict, batch: Any, data: Any
) -> Any:
    def loss(weights):
        return problem.call_loss(weights, state, hparams, batch, data)[0]

    return backend.grad(loss)(weights)
