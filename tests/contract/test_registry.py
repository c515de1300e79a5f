"""What the package exports is what the contract tests are run for."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad import backend, linear, methods, rules
from hypergrad.rules import rule_for
from hypergrad.space import transforms
from problems import constant_rate
from registry import METHODS, RULES, SOLVERS, TRANSFORMS

PROBLEM = constant_rate().problem


def concrete(module, base) -> set[type]:
    """Classes of a module, its own or imported, below ``base``."""
    return {
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and issubclass(cls, base)
        and not inspect.isabstract(cls)
        and cls is not base
    }


def test_every_public_name_is_there_and_sorted():
    assert list(hg.__all__) == sorted(hg.__all__)
    missing = [name for name in hg.__all__ if not hasattr(hg, name)]
    assert not missing
    undocumented = [name for name in hg.__all__ if not getattr(hg, name).__doc__]
    assert not undocumented


def test_every_method_is_registered_and_exported():
    exported = concrete(methods, methods.AbstractMethod)
    assert {type(m.make()) for m in METHODS} == exported
    assert exported <= {getattr(hg, name) for name in hg.__all__}
    assert len({m.name for m in METHODS}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_method_states_its_cost_and_its_conditions(method):
    made = method.make()
    assert made.runs(PROBLEM) > 0
    assert dataclasses.is_dataclass(made) and made.__dataclass_params__.frozen
    for section in ("Cost:", "Valid when:", "References:"):
        assert section in type(made).__doc__


def test_every_solver_is_registered_and_states_its_cost_and_its_conditions():
    exported = concrete(linear, linear.AbstractSolver)
    assert {type(s.make()) for s in SOLVERS.values()} == exported
    assert exported <= {getattr(linear, name) for name in linear.__all__}
    for solver in exported:
        assert solver.__dataclass_params__.frozen
        for section in ("Cost:", "Valid when:", "References:"):
            assert section in solver.__doc__


def test_every_rule_is_registered():
    found = concrete(rules, rules.AbstractRule)
    # What it runs is a user's, and exists on one backend: see test_optax.py.
    assert {r.rule for r in RULES.values()} == found - {rules.FromOptax}
    tested = {r.optimizer: r.rule for r in RULES.values()}
    for optimizer, rule in rules.REGISTRY.items():
        assert tested[optimizer] is rule


@pytest.mark.parametrize("name", RULES)
def test_a_registered_rule_is_what_the_optimizer_gets(name):
    declared = RULES[name]
    for arguments in declared.variants.values():
        optimizer = declared.optimizer(**{**declared.numbers, **arguments})
        variables = [keras.Variable(np.ones(2))]
        optimizer.build(variables)
        rule = rule_for(optimizer, variables, tuned=tuple(declared.numbers))
        assert type(rule) is declared.rule
        numbers = {k for k, v in arguments.items() if type(v) is float}
        assert {*declared.numbers, *numbers} <= set(rule.hyperparameters)
        if declared.rule is not rules.FromKeras:
            # Every number of the rule is tuned somewhere in the product.
            of_variants = [k for a in declared.variants.values() for k in a]
            all_tuned = {*declared.numbers, *of_variants, "weight_decay"}
            assert set(rule.hyperparameters) <= all_tuned


def test_every_transform_is_registered():
    found = concrete(transforms, transforms.AbstractTransform)
    assert {cls for cls, _ in TRANSFORMS.values()} == found


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_inverses_with_the_right_slope(name):
    cls, float_ = TRANSFORMS[name]
    assert type(float_._transform) is cls
    u = np.linspace(-4.0, 4.0, 9)
    v = float_.to_user(u)
    assert np.all(np.diff(v) > 0)
    assert float_.to_unconstrained(v) == pytest.approx(u, abs=1e-9)
    slope = (float_.to_user(u + 1e-6) - float_.to_user(u - 1e-6)) / 2e-6
    found = float_.to_unconstrained_gradient(v, np.ones(9))
    assert found == pytest.approx(slope, rel=1e-6)
    traced = backend.jit(
        lambda u: backend.jvp(float_.to_user, (u,), (keras.ops.ones_like(u),))
    )
    value, tangent = backend.to_numpy(traced(u))
    assert value == pytest.approx(v, rel=1e-12)
    assert tangent == pytest.approx(found, rel=1e-9)
