"""After the first hypergradient nothing is traced any more."""

import numpy as np
import pytest

import hypergrad as hg
from hypergrad.backend import Traces
from nets import BATCH, NETS, data_of, optimizer_of, problem_of
from problems import constant_rate, rate_per_step, ridge
from registry import METHODS, RULES

NET = NETS["tanh"]
ANY_LENGTH = [m for m in METHODS if m.any_length]
FUNCTIONAL = [m for m in ANY_LENGTH if not m.momentum_only]


def traces(function, *args) -> int:
    """How many traces a call makes."""
    before = Traces.total
    function(*args)
    return Traces.total - before


def warmed(optimizer, tuned, methods: list) -> tuple:
    """(problem, values), one hypergradient of each of these methods computed."""
    problem, values = problem_of(NET, optimizer, tuned)
    for method in methods:
        hg.hypergradient(problem, values, method.make())
    return problem, values


@pytest.fixture(scope="module")
def warm():
    methods = [m for m in METHODS if m.rule_numbers and not m.momentum_only]
    return warmed(*optimizer_of(RULES["Adam"], "plain", "decay"), methods)


@pytest.fixture(scope="module")
def warm_momentum():
    methods = [m for m in METHODS if m.momentum_only]
    return warmed(*optimizer_of(RULES["SGD"], "momentum", "decay"), methods)


@pytest.fixture(scope="module")
def warm_without_rule():
    """No numbers of the rule are tuned."""
    optimizer, _ = optimizer_of(RULES["Adam"], "plain", "decay")
    return warmed(optimizer, {}, [m for m in METHODS if not m.rule_numbers])


@pytest.fixture
def suited(warm, warm_momentum, warm_without_rule, method):
    """The problem that the method of the test is warm on."""
    if not method.rule_numbers:
        return warm_without_rule
    return warm_momentum if method.momentum_only else warm


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(float, id="floats"),
        pytest.param(np.float32, id="np.float32", marks=pytest.mark.slow),
        pytest.param(np.float64, id="np.float64", marks=pytest.mark.slow),
        pytest.param(np.asarray, id="arrays", marks=pytest.mark.slow),
        pytest.param(lambda v: np.asarray(v, "float32"), id="arrays of float32"),
    ],
)
def test_other_values_of_any_kind(suited, method, kind):
    problem, values = suited
    for factor in (1.0, 1.01):
        given = {name: kind(v * factor) for name, v in values.items()}
        assert traces(hg.hypergradient, problem, given, method.make()) == 0


def test_a_part_of_the_values_and_none(warm):
    problem, values = warm
    for given in (None, {}, {"optimizer.learning_rate": 0.05}):
        assert traces(hg.hypergradient, problem, given) == 0


@pytest.mark.parametrize("method", ANY_LENGTH, ids=lambda m: m.name)
def test_another_number_of_steps(suited, method):
    problem, values = suited
    for num_steps in (3, 6, 11):
        longer = problem.replace(num_steps=num_steps)
        assert traces(hg.hypergradient, longer, values, method.make()) == 0, num_steps


def test_new_data_of_the_same_shape(warm):
    problem, values = warm
    x, y, x_val, y_val = data_of(NET, seed=1)
    data = {
        **problem.data,
        "train": {**problem.data["train"], "x": x, "y": y},
        "validation": {**problem.data["validation"], "x": x_val, "y": y_val},
    }
    other = problem.replace(data=data)
    found = []
    assert traces(lambda: found.append(hg.hypergradient(other, values))) == 0
    assert found[0].loss != hg.hypergradient(problem, values).loss
    optimizer, tuned = optimizer_of(RULES["Adam"], "plain", "decay")
    afresh = hg.Problem.from_model(
        problem.keras.model,
        x,
        y,
        validation_data=(x_val, y_val),
        batch_size=BATCH,
        steps=problem.num_steps,
        hyperparameters=problem.space,
    )
    assert found[0].loss == pytest.approx(hg.hypergradient(afresh, values).loss)


def test_a_run_before_its_sweep_and_a_rejected_run(warm):
    problem, values = warm
    method = hg.Reverse()
    checked = problem.values(values)
    assert traces(method.run, problem, checked) == 0
    tape = method.run(problem, checked)
    assert traces(method.sweep, problem, tape) == 0


def test_another_range_and_another_default(warm):
    problem, values = warm
    # A regularizer of Keras asks whether its strength is 0: its range may only shrink.
    space = {
        name: hg.Float(-10.0, 10.0, default=v)
        if name.startswith("optimizer.")
        else hg.Float(0.75 * v, 1.25 * v, default=v)
        for name, v in values.items()
    }
    other = problem.replace(space=space)
    assert traces(hg.hypergradient, other, values) == 0


def test_partial_batches_cost_one_program_for_each_shape():
    optimizer, tuned = optimizer_of(RULES["SGD"], "plain", "bare")
    problem, values = problem_of(NET, optimizer, tuned, rows=7, steps=5)
    hg.hypergradient(problem, values)
    for num_steps in (2, 4, 9):
        longer = problem.replace(num_steps=num_steps)
        assert traces(hg.hypergradient, longer, values) == 0


@pytest.mark.parametrize("method", FUNCTIONAL, ids=lambda m: m.name)
def test_functional_problems(method):
    form = constant_rate() if method.rule_numbers else ridge()
    problem = form.problem.replace(num_steps=7)
    hg.hypergradient(problem, form.values, method.make())
    (name,) = form.values
    for num_steps in (3, 20):
        other = problem.replace(num_steps=num_steps)
        assert traces(hg.hypergradient, other, {name: 0.1}, method.make()) == 0


def test_per_step_values_of_the_same_length():
    form = rate_per_step()
    hg.hypergradient(form.problem, form.values)
    other = {"rate": np.linspace(0.3, 0.1, 7).astype("float32")}
    assert traces(hg.hypergradient, form.problem, other) == 0
    as_list = {"rate": np.linspace(0.3, 0.1, 7).tolist()}
    assert traces(hg.hypergradient, form.problem, as_list) == 0


def test_a_problem_of_its_own_starts_afresh():
    """Programs live on the Problem: another one cannot be served a wrong one."""
    first, second = constant_rate(), constant_rate()
    hg.hypergradient(first.problem, first.values)
    assert traces(hg.hypergradient, second.problem, second.values) > 0
    changed = first.problem.replace(val_loss=lambda s, h, data: s.weights[0] ** 2)
    found = hg.hypergradient(changed, first.values)
    assert found.loss >= 0.0 and found.loss != first.loss
