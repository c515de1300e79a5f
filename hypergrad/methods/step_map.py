"""The training step at the last state, as a map whose fixed point is differentiated.

``Φ(s, λ) = u(ḡ, s, λ, ā)`` with the rule u, and ḡ and ā the means of the gradient and
of what else the loss returns (new moving statistics) over a `Sample`. Of one chunk it
is the step that training takes.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from keras import ops, tree

from hypergrad import backend, unroll
from hypergrad.linear import Operator
from hypergrad.linear.vectors import dot, scaled
from hypergrad.methods import back
from hypergrad.methods.curvature import receive
from hypergrad.methods.sample import Block
from hypergrad.problem import Problem


class StepMap:
    """``v → (∂Φ/∂s)' v`` at a state.

    Args:
        problem: what was trained.
        state: its last state.
        sample: the rows of the gradient, in blocks.
    """

    def __init__(self, problem: Problem, state: Any, sample: Iterable[Block]):
        self._problem = problem
        self._state = state
        self._sample = sample
        self._block: Block = next(iter(sample))

    @property
    def operator(self) -> Operator:
        return Operator(self.product, self._problem.program, lambda v: v.weights)

    def product(self, v: Any) -> Any:
        """(∂Φ/∂s)' v."""
        return self._pulled(v, None)

    def pull(self, v: Any, adjoint: back.Adjoint) -> float:
        """Adds (∂Φ/∂λ)' v to dE/dλ; gives ‖∂L/∂θ‖."""
        self._pulled(v, adjoint)
        square = self._problem.program("square", lambda: lambda g: dot(g, g))
        return float(backend.to_numpy(square(self._means[0]))) ** 0.5

    @functools.cached_property
    def _means(self) -> tuple[Any, Any]:
        """(ḡ, ā)."""
        problem, state = self._problem, self._state
        first = problem.program("aux", lambda: _aux(problem))
        aux = first(state, self._block.inputs, problem.data)
        program = problem.program("means", lambda: _means(problem))
        grads = backend.zeros_like(state.weights)
        aux = tree.map_structure(
            lambda x: backend.zeros_like(x) if backend.is_inexact(x) else x, aux
        )
        for inputs, shares in self._sample:
            grads, aux = program(grads, aux, state, inputs, shares, problem.data)
        return grads, aux

    def _pulled(self, v: Any, adjoint: back.Adjoint | None) -> Any:
        """(∂Φ/∂s)' v; with an adjoint, (∂Φ/∂λ)' v is added to its dE/dλ."""
        problem, state, data = self._problem, self._state, self._problem.data
        grads, aux = self._means
        rule = problem.program("pull of the rule", lambda: _pull_rule(problem))
        d_grads, d_state, d_hparams, d_aux = rule(
            grads, state, aux, v, self._block.inputs, data
        )
        if adjoint is not None:
            self._receive_rule(adjoint, d_hparams)
        program = problem.program("pull of the means", lambda: _pull_means(problem))
        for block in self._sample:
            shared = (
                backend.zeros_like(block.inputs.shared)
                if adjoint is None
                else adjoint.carry[1]
            )
            d_state, shared, rows = program(
                d_state, shared, state, d_grads, d_aux, *block, data
            )
            if adjoint is not None:
                receive(adjoint, block, shared, rows)
        return d_state

    def _receive_rule(self, adjoint: back.Adjoint, d_hparams: dict) -> None:
        """What a rule does with the rows of examples counts for the first chunk's."""
        inputs = self._block.inputs
        shared = backend.add(adjoint.carry[1], {n: d_hparams[n] for n in inputs.shared})
        rows = {n: ops.expand_dims(d_hparams[n], 0) for n in inputs.per_example}
        one = self._block._replace(inputs=inputs._replace(length=np.int32(1)))
        receive(adjoint, one, shared, rows)


def _aux(problem: Problem) -> Callable:
    def aux(state, inputs, data):
        hparams, batch = unroll.step_arguments(inputs, 0)
        return problem.call_loss(state.weights, state, hparams, batch, data)[1]

    return aux


def _means(problem: Problem) -> Callable:
    def means(grads, aux, state, inputs, shares, data):
        def body(i, loop):
            hparams, batch = unroll.step_arguments(inputs, i)
            part = problem.call_gradient(state, hparams, batch, data)[:2]
            return backend.add(loop, scaled(shares[i], part))

        return backend.fori_loop(inputs.length, body, (grads, aux))

    return means


def _pull_rule(problem: Problem) -> Callable:
    def pull(grads, state, aux, v, inputs, data):
        hparams, _ = unroll.step_arguments(inputs, 0)

        def update(grads, state, hparams, aux):
            return problem.call_update(grads, state, hparams, aux, data)

        return backend.vjp(update, grads, state, hparams, aux).pullback(v)

    return pull


def _pull_means(problem: Problem) -> Callable:
    def pull_all(d_state, shared, state, d_grads, d_aux, inputs, shares, data):
        hparams, _ = unroll.step_arguments(inputs, 0)
        sliced = {n: hparams[n] for n in inputs.per_example}
        rows = backend.buffer(unroll.capacity_of(inputs), sliced)

        def body(i, loop):
            d_state, shared, rows = loop
            hparams, batch = unroll.step_arguments(inputs, i)

            def gradient(state, hparams):
                return problem.call_gradient(state, hparams, batch, data)[:2]

            _, pull = backend.vjp(gradient, state, hparams)
            by_state, found = pull(scaled(shares[i], (d_grads, d_aux)))
            shared = backend.add(shared, {n: found[n] for n in shared})
            rows = backend.buffer_write(rows, i, {n: found[n] for n in rows})
            return backend.add(d_state, by_state), shared, rows

        d_state, shared, rows = backend.fori_loop(
            inputs.length, body, (d_state, shared, rows)
        )
        return d_state, shared, backend.buffer_stack(rows, sliced)

    return pull_all
