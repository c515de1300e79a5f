"""One update of a rule is one ``optimizer.apply`` of Keras, option by option."""

import keras
import numpy as np
import pytest

from hypergrad import backend
from hypergrad.rules import Adafactor, FromKeras, Muon, rule_for
from hypergrad.traced import Traced
from parity import (
    cases,
    changed,
    error,
    identify,
    make,
    make_gradients,
    make_variables,
    pairs,
    richest,
    single,
    snapshot,
    together,
    worst_error,
)
from registry import OWN

TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
# On JAX Keras compiles its accumulation anew in every step: a second for each case.
PAIRED = ("SGD",)
"""Optimizers whose pairs of options are tested in every run. All of them share the
code of the options, and each runs every option alone and all together."""

PAIRS = [
    pytest.param(
        *case,
        marks=()
        if case[0] in PAIRED and "accumulation" not in case[1]
        else pytest.mark.slow,
    )
    for case in cases(pairs)
]
SLOW_PAIRS = [pytest.param(*case, marks=pytest.mark.slow) for case in cases(pairs)]
PRODUCT = pytest.mark.parametrize(
    ("kind", "chosen"),
    [*cases(single), *cases(together), *PAIRS],
    ids=identify,
)


def check_parity(kind, chosen, floatx, record_property):
    optimizer, variables = make(kind, chosen)
    rule = rule_for(optimizer, variables)
    assert type(rule) is OWN[kind].rule
    found = worst_error(optimizer, variables, rule)
    record_property("relative_error", found)
    assert found <= TOLERANCE[floatx]


@PRODUCT
def test_parity_in_float64(kind, chosen, floatx, record_property):
    check_parity(kind, chosen, floatx, record_property)


@pytest.mark.float32
@pytest.mark.parametrize(
    ("kind", "chosen"),
    [*cases(single), *cases(together), *SLOW_PAIRS],
    ids=identify,
)
def test_parity_in_float32(kind, chosen, floatx, record_property):
    check_parity(kind, chosen, floatx, record_property)


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [c for c in cases(together) if c[1][-1] == "clipnorm"],
    ids=identify,
)
def test_the_fallback_is_keras(kind, chosen, record_property):
    """`FromKeras`, the judge of what no rule is written for, is judged too."""
    optimizer, variables = make(kind, chosen)
    rule = FromKeras.from_optimizer(optimizer, variables)
    if kind == "ScheduleFreeAdamW" and rule_for(optimizer, variables).x_from_new:
        pytest.skip("Keras' code computes another thing in and out of a scope")
    found = worst_error(optimizer, variables, rule)
    record_property("relative_error", found)
    assert found <= 1e-12


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in ("SGD", "Adam") else pytest.param(kind, marks=pytest.mark.slow)
        for kind in OWN
    ],
)
def test_the_measure_sees_a_wrong_number(kind):
    """Each number matters to some variant."""
    seen, names = set(), set()
    for variant in OWN[kind].variants:
        chosen = (variant, "weight_decay", "clipnorm", "overwriting")
        rule = rule_for(*make(kind, chosen))
        names |= set(rule.hyperparameters)
        for name, value in rule.hyperparameters.items():
            optimizer, variables = make(kind, chosen)
            wrong = changed(rule, {name: value * (1 + 1e-5)})
            if worst_error(optimizer, variables, rule, wrong) > 1e-10:
                seen.add(name)
    if not OWN[kind].sees_gradients:
        names &= {*OWN[kind].direct, "ema_momentum"}
    assert names - {*OWN[kind].idle} <= seen


def test_the_measure_sees_nan():
    optimizer, variables = make("Adam")
    rule = rule_for(optimizer, variables)
    with pytest.raises(AssertionError):
        worst_error(
            optimizer,
            variables,
            rule,
            changed(rule, new_weights=lambda w: w * float("nan")),
        )


@pytest.mark.parametrize(
    ("kind", "chosen"),
    cases(lambda kind: [(richest(kind), "exclude", "overwriting", "clipvalue")]),
    ids=identify,
)
def test_parity_compiled_and_with_tensors_as_numbers(kind, chosen):
    """Every number an argument: what a tuned run does."""
    optimizer, variables = make(kind, chosen)
    rule = rule_for(optimizer, variables)
    rule = rule_for(optimizer, variables, tuned=tuple(rule.hyperparameters))
    check_compiled(optimizer, variables, rule)


def test_the_fallback_compiled_and_with_tensors_as_numbers():
    optimizer, variables = make("AdamW", ("amsgrad", "overwriting", "accumulation"))
    numbers = rule_for(optimizer, variables).hyperparameters
    rule = FromKeras.from_optimizer(optimizer, variables, tuned=tuple(numbers))
    check_compiled(optimizer, variables, rule)


def check_compiled(optimizer, variables, rule):
    jitted = backend.jit(rule.update)

    def update(grads, state, weights, hparams):
        dtype = keras.config.floatx()
        tensors = {k: backend.convert(v, dtype) for k, v in hparams.items()}
        return jitted(grads, state, weights, tensors)

    assert worst_error(optimizer, variables, rule, update) <= 1e-12
    assert jitted.traces == 1


@pytest.mark.parametrize("kind", OWN)
def test_traced_numbers_are_numbers_of_a_rule(kind):
    optimizer, variables = make(kind, (richest(kind), "weight_decay", "clipvalue"))
    rule = rule_for(optimizer, variables)
    grads, weights = make_gradients(1)[0], snapshot(variables)
    traced = {
        name: Traced(backend.convert(value), name=name)
        for name, value in rule.hyperparameters.items()
    }
    plain, _ = rule.update(grads, rule.init(weights), weights, rule.hyperparameters)
    ours, _ = rule.update(grads, rule.init(weights), weights, traced)
    for a, b in zip(ours, plain):
        assert error(a, b) <= 1e-12


@pytest.mark.parametrize("kind", OWN)
def test_a_missing_gradient_leaves_its_variable_alone(kind):
    chosen = (richest(kind), "weight_decay", "global_clipnorm", "overwriting")
    optimizer, variables = make(kind, chosen)
    rule = rule_for(optimizer, variables)
    grads = [make_gradients(1)[0][0], None, make_gradients(1)[0][2]]
    weights, state = snapshot(variables), rule.init(snapshot(variables))
    for _ in range(2):
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            optimizer.apply(grads)
        weights, state = rule.update(grads, state, weights, rule.hyperparameters)
    for a, v in zip(weights, variables):
        assert error(a, v.value) <= 1e-12
    rule.write(optimizer, state)
    for a, b in zip(_flat(rule.read(optimizer)), _flat(state)):
        assert error(a, b) <= 1e-12


def _flat(state: dict) -> list:
    """Leaves, without the entries of a variable that never had a gradient."""
    return [
        np.asarray(leaf)
        for name, slot in state.items()
        for leaf in ([] if name == "iterations" else [slot[0], slot[2]])
    ]


def test_adafactor_of_more_axes_than_two():
    optimizer = keras.optimizers.Adafactor(
        0.0625, beta_2_decay=-0.75, epsilon_1=2.0**-10, epsilon_2=0.5
    )
    draw = np.random.default_rng(4)
    variables = [keras.Variable(draw.normal(size=(2, 3, 2)))]
    optimizer.build(variables)
    rule = rule_for(optimizer, variables)
    assert type(rule) is Adafactor
    check_steps(optimizer, variables, rule, draw)


def test_muon_leaves_layers_to_adam_by_name_and_by_shape():
    optimizer = keras.optimizers.Muon(
        0.0625,
        exclude_layers=["out"],
        adam_weight_decay=0.25,
        weight_decay=0.125,
        adam_beta_1=0.75,
        adam_beta_2=0.875,
        momentum=0.75,
        muon_a=3.5,
        muon_b=-4.75,
        muon_c=2.0,
        rms_rate=0.25,
        epsilon=2.0**-10,
        ns_steps=2,
    )
    draw = np.random.default_rng(5)
    variables = [
        keras.Variable(draw.normal(size=shape), name=name)
        for name, shape in [
            ("hidden", (3, 2)),
            ("output", (2, 2)),
            ("embedding", (4, 2)),
            ("filter", (2, 2, 1)),
        ]
    ]
    optimizer.build(variables)
    rule = rule_for(optimizer, variables)
    assert type(rule) is Muon and rule.by_adam == (False, True, True, True)
    check_steps(optimizer, variables, rule, draw)


def check_steps(optimizer, variables, rule, draw):
    weights, state = snapshot(variables), rule.read(optimizer)
    for _ in range(3):
        grads = [backend.convert(draw.normal(size=v.shape)) for v in variables]
        weights, state = rule.update(grads, state, weights, rule.hyperparameters)
        optimizer.apply(grads)
    for a, v in zip(weights, variables):
        assert error(a, v.value) <= 1e-12


def test_dtypes_may_differ_between_variables():
    variables = [*make_variables()[:2], keras.Variable([1.0, 2.0], dtype="float32")]
    optimizer = keras.optimizers.Adam(0.0625, beta_1=0.75, beta_2=0.875)
    optimizer.build(variables)
    rule = rule_for(optimizer, variables)
    grads = [backend.convert(np.ones(v.shape), v.dtype) for v in variables]
    weights, _ = rule.update(
        grads, rule.read(optimizer), snapshot(variables), rule.hyperparameters
    )
    optimizer.apply(grads)
    for a, v in zip(weights, variables):
        assert error(a, v.value) <= (1e-6 if v.dtype == "float32" else 1e-12)
