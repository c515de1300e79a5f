"""Hypergradients are derivatives: a covering part of rule × option × number × net.

Each cell tunes every number of its optimizer and its net at once, in float64. The whole
product is in ``test_truth_mlps.py`` and ``test_truth_norms.py``.
"""

import keras
import pytest

import hypergrad as hg
from nets import BATCH, NETS, NOISY, optimizer_of, problem_of
from registry import RULES
from truth import (
    OPTIONS,
    Cell,
    check_against_differences,
    check_against_hand_written,
    made,
)

CELLS = [
    Cell("tanh", "SGD", "plain", "bare"),
    Cell("tanh", "RMSprop", "centered-momentum", "clipnorm"),
    Cell("tanh", "FromKeras-Nadam", "plain", "global_clipnorm"),
    Cell("relu-dead", "Adam", "amsgrad", "clipnorm"),
    Cell("relu-dead", "SGD", "momentum", "global_clipnorm"),
    Cell("relu-dead", "RMSprop", "plain", "decay"),
    Cell("cnn-batchnorm", "SGD", "nesterov", "clipvalue"),
    Cell("cnn-batchnorm", "AdamW", "plain", "decay"),
    Cell("layernorm", "Adam", "plain", "global_clipnorm"),
    Cell("layernorm", "RMSprop", "momentum", "bare"),
    Cell("groupnorm", "AdamW", "amsgrad", "clipvalue"),
    Cell("groupnorm", "RMSprop", "centered", "decay"),
    Cell("groupnorm", "FromKeras-own", "plain", "clipnorm"),
    Cell("relu-dead", "Adadelta", "plain", "decay"),
    Cell("tanh", "Adafactor", "plain", "clipnorm"),
    Cell("layernorm", "Adafactor", "unclipped", "bare"),
    Cell("relu-dead", "Adagrad", "plain", "global_clipnorm"),
    Cell("layernorm", "Adagrad", "initial", "clipvalue"),
    Cell("relu-dead", "Adamax", "plain", "decay"),
    Cell("relu-dead", "Ftrl", "plain", "bare"),
    Cell("tanh", "Ftrl", "regularized", "clipnorm"),
    Cell("tanh", "Lamb", "plain", "decay"),
    Cell("relu-dead", "Lion", "plain", "decay"),
    Cell("relu-dead", "Muon", "nesterov", "bare"),
    Cell("tanh", "Muon", "plain", "clipnorm"),
    Cell("cnn-batchnorm", "Muon", "unscaled", "bare"),
    Cell("relu-dead", "Nadam", "plain", "clipnorm"),
    Cell("relu-dead", "ScheduleFreeAdamW", "plain", "decay"),
    Cell("tanh", "ScheduleFreeAdamW", "warmup", "global_clipnorm"),
]


MORE = {
    Cell("cnn-batchnorm", "AdamW", "plain", "decay"),
    Cell("tanh", "FromKeras-Nadam", "plain", "global_clipnorm"),
    Cell("relu-dead", "SGD", "momentum", "global_clipnorm"),
    Cell("relu-dead", "RMSprop", "plain", "decay"),
    Cell("layernorm", "RMSprop", "momentum", "bare"),
    Cell("groupnorm", "RMSprop", "centered", "decay"),
    Cell("groupnorm", "FromKeras-own", "plain", "clipnorm"),
    Cell("layernorm", "Adafactor", "unclipped", "bare"),
    Cell("layernorm", "Adagrad", "initial", "clipvalue"),
    Cell("tanh", "Ftrl", "regularized", "clipnorm"),
    Cell("tanh", "Muon", "plain", "clipnorm"),
    Cell("cnn-batchnorm", "Muon", "unscaled", "bare"),
    Cell("tanh", "ScheduleFreeAdamW", "warmup", "global_clipnorm"),
}
"""Further variants of a rule: the first of each runs every time."""


def judged(cell: Cell) -> list:
    """The tests of one cell, side by side: they share what is compiled."""
    marks = [pytest.mark.slow] if cell in MORE else []
    tests = [pytest.param(cell, None, id=f"{cell}-finite-differences", marks=marks)]
    if cell.is_hand_written:
        tests += [pytest.param(cell, "as-is", id=f"{cell}-hand-written")]
        if "epsilon" in RULES[cell.rule].numbers:
            id_ = f"{cell}-hand-written-epsilon-1e-7"
            tests += [pytest.param(cell, 1e-7, id=id_)]
    return tests


@pytest.mark.parametrize("cell, judge", [t for cell in CELLS for t in judged(cell)])
def test_truth(cell, judge, record_property):
    if judge is None:
        error = check_against_differences(*made(cell))
    else:
        error = check_against_hand_written(cell, None if judge == "as-is" else judge)
    record_property("relative_error", error)


def test_the_cells_cover_every_net_rule_variant_and_option():
    assert {c.net for c in CELLS} == set(NETS)
    assert {c.option for c in CELLS} == set(OPTIONS)
    variants = {(name, v) for name, rule in RULES.items() for v in rule.variants}
    assert {(c.rule, c.variant) for c in CELLS} == variants


def test_the_relu_net_has_dead_units_and_a_dead_layer():
    problem, values = made(Cell("relu-dead", "Adam", "amsgrad", "clipnorm"))
    final = hg.hypergradient(problem, values).info["final_state"]
    second_moments = [abs(keras.ops.convert_to_numpy(v)) for v in _velocities(final)]
    assert all(v.max() == 0.0 for v in second_moments[2:4])  # the dead layer
    assert second_moments[1].max() > 0.0 == second_moments[1].min()


def _velocities(state):
    return state.optimizer_state["velocities"]


def test_numbers_of_layers():
    """Noise, activity regularisation, slopes: everything that is not in `NETS`."""
    check_against_differences(*_problem(NOISY, "SGD", "plain", "bare"))


def test_a_schedule_and_constraints():
    """The rate is a schedule of the step count; two kinds of weights are projected."""
    rule = RULES["SGD"]
    schedule = keras.optimizers.schedules.ExponentialDecay(0.125, 2, 0.5)
    optimizer = rule.optimizer(schedule, momentum=0.75, weight_decay=0.05)

    def constrain(model):
        model.layers[0].kernel_constraint = keras.constraints.MaxNorm(0.9)
        model.layers[0].kernel.constraint = keras.constraints.MaxNorm(0.9)
        model.layers[1].kernel.constraint = keras.constraints.UnitNorm()

    check_against_differences(
        *problem_of(
            NETS["tanh"],
            optimizer,
            {"momentum": 0.75, "weight_decay": 0.05},
            prepare=constrain,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_partial_batches(drop_remainder):
    optimizer, tuned = optimizer_of(RULES["Adam"], "plain", "clipnorm")
    problem, values = problem_of(
        NETS["layernorm"],
        optimizer,
        tuned,
        rows=2 * BATCH + 3,
        steps=7,
        drop_remainder=drop_remainder,
    )
    for method in (hg.Reverse("all"), hg.Reverse()):
        check_against_differences(problem, values, method)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["cnn-batchnorm", "groupnorm"])
def test_under_xla(net):
    """TensorFlow compiles as the model says; on JAX nothing changes."""
    optimizer, tuned = optimizer_of(RULES["Adam"], "amsgrad", "clipnorm")
    check_against_differences(
        *problem_of(NETS[net], optimizer, tuned, jit_compile=True)
    )


OPTIONS_OF_BASE = {
    "use_ema": {"use_ema": True, "ema_overwrite_frequency": 2, "ema_momentum": 0.75},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("rule", ["Adam", "FromKeras-own"])
@pytest.mark.parametrize("option", OPTIONS_OF_BASE)
def test_averages_and_accumulation(option, rule, record_property):
    """The objective is that of the raw weights, in the run as in its derivative."""
    declared = RULES[rule]
    numbers = dict(declared.numbers)
    optimizer = declared.optimizer(**numbers, **OPTIONS_OF_BASE[option])
    problem = problem_of(NETS["tanh"], optimizer, numbers)
    record_property("relative_error", check_against_differences(*problem))


def _problem(net, rule, variant, option):
    optimizer, tuned = optimizer_of(RULES[rule], variant, option)
    return problem_of(net, optimizer, tuned)
