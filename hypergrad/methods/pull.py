"""The adjoint of one step, and the two ways to its second derivatives.

A step is a gradient g = ∂L/∂θ and a rule u, s_{t+1} = u(g, s_t, λ). The rule is pulled
first; the cotangent ḡ that it has for g goes through the gradient, a product with
second derivatives of L: ``ḡ' ∂²L/∂θ∂(θ, model state, λ)``.
"""

from typing import Any

from keras import ops

from hypergrad import backend
from hypergrad.problem import Problem

SECOND_ORDER = ("reverse", "mixed")


def pull_step(
    problem: Problem,
    record: tuple[Any, Any],
    hparams: dict,
    batch: Any,
    data: Any,
    adjoint: Any,
    second_order: str = "reverse",
) -> tuple[Any, dict]:
    """Pulls an adjoint through one step: (α_t, dE/dλ_t).

    Args:
        problem: what the step belongs to.
        record: (state before the step, the gradient taken there): the recorded g saves
            computing it again.
        hparams, batch, data: what the step saw.
        adjoint: α_{t+1}.
        second_order: how ḡ goes through the gradient: "reverse" over reverse, or
            "mixed", forward over reverse.
    """
    state, grads = record
    if problem.step is not None:

        def step(state, hparams):
            return problem.call_step(state, hparams, batch, data)[0]

        return backend.vjp(step, state, hparams).pullback(adjoint)
    pull = _PULLS[second_order]
    return pull(problem, state, grads, hparams, batch, data, adjoint)


def _reverse(problem, state, grads, hparams, batch, data, adjoint):
    """The vjp of the gradient, itself a vjp."""

    def gradient(state, hparams):
        return problem.call_gradient(state, hparams, batch, data)[:2]

    (_, aux), pull_gradient = backend.vjp(gradient, state, hparams)

    def update(grads, state, hparams, aux):
        return problem.call_update(grads, state, hparams, aux, data)

    _, pull_update = backend.vjp(update, grads, state, hparams, aux)
    d_grads, d_state, d_hparams, d_aux = pull_update(adjoint)
    return backend.add((d_state, d_hparams), pull_gradient((d_grads, d_aux)))


def _mixed(problem, state, grads, hparams, batch, data, adjoint):
    """One jvp of the pullback of L, since second derivatives are symmetric.

    P(ε, c) = (∂(L, aux)/∂(s, λ))' (1, c) at weights θ + ε pulls the loss and a
    cotangent c of what else the loss function returns (BatchNorm statistics). Its
    derivative at (0, 0) in direction (ḡ, ā) is ``∂²L/∂(s, λ)∂θ ḡ + (∂aux/∂(s, λ))' ā``,
    all that ḡ and ā contribute.

    References: Kemaev et al. 2025 (MixFlow-MG), arXiv:2505.00793; with aux outputs.
    """
    aux = problem.call_loss(state.weights, state, hparams, batch, data)[1]

    def update(grads, state, hparams, aux):
        return problem.call_update(grads, state, hparams, aux, data)

    _, pull_update = backend.vjp(update, grads, state, hparams, aux)
    d_grads, d_state, d_hparams, d_aux = pull_update(adjoint)

    def pulled(shift, cotangent):
        def loss(state, hparams):
            weights = backend.add(state.weights, shift)
            return problem.call_loss(weights, state, hparams, batch, data)

        (value, _), pull_loss = backend.vjp(loss, state, hparams)
        return pull_loss((ops.ones_like(value), cotangent))

    zeros = backend.zeros_like((d_grads, d_aux))
    _, through_gradient = backend.jvp(pulled, zeros, (d_grads, d_aux))
    return backend.add((d_state, d_hparams), through_gradient)


_PULLS = {"reverse": _reverse, "mixed": _mixed}


def check_second_order(given: str | None) -> None:
    if given not in (None, *SECOND_ORDER):
        raise ValueError(
            f'`second_order` must be None, "reverse" or "mixed". Received: {given!r}.'
        )


def second_order_of(given: str | None) -> str:
    return backend.second_order() if given is None else given
