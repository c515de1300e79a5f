"""A number for each variable: the same as a rule for each variable."""

import keras
import numpy as np
import pytest
from keras import ops

from hypergrad import backend
from hypergrad.rules import FromKeras, rule_for
from parity import error, make, make_gradients, richest, snapshot
from registry import OWN

FACTORS = np.array([0.5, 1.0, 1.25])


def chosen(kind):
    return (richest(kind), "weight_decay", "clipnorm", "overwriting", "accumulation")


def run(rule, weights, hparams, steps=4, position=None):
    """(weights, state) after some steps, of all variables or of one alone."""
    state = rule.init(weights)
    for grads in make_gradients(steps):
        if position is not None:
            grads = [grads[position]]
        weights, state = rule.update(grads, state, weights, hparams)
    return weights, state


def spread(value):
    """Different numbers that stay inside of (0, 1) where the value does."""
    return value * FACTORS if abs(value) < 0.75 else value * np.array([1.0, 1.125, 1.0])


@pytest.mark.parametrize("kind", OWN)
def test_equal_numbers_are_one_number(kind):
    optimizer, variables = make(kind, chosen(kind))
    rule, weights = rule_for(optimizer, variables), snapshot(variables)
    numbers = rule.hyperparameters
    each = {k: backend.convert(np.full(len(weights), v)) for k, v in numbers.items()}
    expected = run(rule, weights, numbers)
    for a, b in zip(
        keras.tree.flatten(run(rule, weights, each)), keras.tree.flatten(expected)
    ):
        assert error(a, b) <= 1e-12


@pytest.mark.parametrize("kind", OWN)
def test_different_numbers_are_separate_optimizers(kind):
    optimizer, variables = make(kind, chosen(kind))
    rule, weights = rule_for(optimizer, variables), snapshot(variables)
    each = {name: spread(value) for name, value in rule.hyperparameters.items()}
    tensors = {name: backend.convert(value) for name, value in each.items()}
    together, state = run(rule, weights, tensors)
    for i, variable in enumerate(variables):
        alone = rule_for(make(kind, chosen(kind))[0], [variable])
        hparams = {name: float(value[i]) for name, value in each.items()}
        separate, own = run(alone, [weights[i]], hparams, position=i)
        assert error(together[i], separate[0]) <= 1e-12
        for name in own:
            if name != "iterations":
                assert error(state[name][i], own[name][0]) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("kind", OWN)
def test_derivatives_sum_to_that_of_one_number(kind):
    optimizer, variables = make(kind, (richest(kind), "weight_decay", "clipvalue"))
    rule, weights = rule_for(optimizer, variables), snapshot(variables)

    def outer(hparams):
        return sum(ops.sum(ops.sin(w)) for w in run(rule, weights, hparams, 1)[0])

    one = {k: backend.convert(v) for k, v in rule.hyperparameters.items()}
    each = {k: backend.convert(np.full(len(weights), v)) for k, v in one.items()}
    gradient = backend.grad(outer)
    both = backend.jit(lambda one, each: (gradient(one), gradient(each)))
    slopes, parts = backend.to_numpy(both(one, each))
    for name, slope in slopes.items():
        assert parts[name].shape == (len(weights),)
        assert np.sum(parts[name]) == pytest.approx(slope, rel=1e-10, abs=1e-14)


def test_errors():
    optimizer, variables = make("Adam", ("plain", "global_clipnorm"))
    rule, weights = rule_for(optimizer, variables), snapshot(variables)

    def update(rule, **numbers):
        hparams = {**rule.hyperparameters, **numbers}
        rule.update(make_gradients(1)[0], rule.read(optimizer), weights, hparams)

    with pytest.raises(ValueError, match=r"shape \(2,\). Pass shape \(\) or \(3,\)"):
        update(rule, beta_1=backend.convert(np.ones(2)))
    with pytest.raises(ValueError, match="use `clipnorm`"):
        update(rule, global_clipnorm=backend.convert(np.ones(3)))
    fallback = FromKeras.from_optimizer(optimizer, variables)
    for name in ("learning_rate", "beta_1"):
        with pytest.raises(ValueError, match=f"`{name}` has an entry for each .* one"):
            update(fallback, **{name: backend.convert(np.ones(3))})
