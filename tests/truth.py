"""One cell of the product rule × option × net: its derivatives against two judges."""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

import finite_differences
import hypergrad as hg
from hand_written import TwoLayers, complex_step, train
from nets import CLIPS, NETS, data_of, optimizer_of, problem_of
from registry import RULES

OPTIONS = ("bare", "decay", *CLIPS)
HAND_WRITTEN = {"tanh": TwoLayers("tanh"), "relu-dead": TwoLayers("relu", branches=2)}
"""Nets and (below) rules that `hand_written` has an independent run for."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A net, a rule with its variant, and an option of the optimizer."""

    net: str
    rule: str
    variant: str
    option: str

    def __str__(self) -> str:
        return f"{self.net}-{self.rule}-{self.variant}-{self.option}"

    @property
    def is_possible(self) -> bool:
        rule = RULES[self.rule]
        return rule.zero_gradients or not NETS[self.net].dead

    @property
    def is_hand_written(self) -> bool:
        return self.net in HAND_WRITTEN and not self.rule.startswith("FromKeras")


def product(*nets: str) -> list[Cell]:
    """Every rule, variant and option on these nets."""
    return [
        cell
        for net in nets
        for rule in RULES
        for variant in RULES[rule].variants
        for option in OPTIONS
        if (cell := Cell(net, rule, variant, option)).is_possible
    ]


@functools.lru_cache(maxsize=4)
def made(cell: Cell) -> tuple[hg.Problem, dict[str, float]]:
    """(problem, values): everything that can be tuned is, at once."""
    keras.utils.set_random_seed(0)
    optimizer, tuned = optimizer_of(RULES[cell.rule], cell.variant, cell.option)
    return problem_of(NETS[cell.net], optimizer, tuned)


def check_against_differences(
    problem: hg.Problem,
    values: dict[str, float],
    method: Any = None,
    elsewhere: tuple[str, ...] = (),
) -> None:
    """Within 1e-6 relative + 3 × the error of the differences, itself at most 1e-6.

    ``elsewhere``: numbers that finite differences cannot judge here, each of which a
    test with a hand-written run does.
    """
    method = method or hg.Reverse("all")
    h = hg.hypergradient(problem, values, method)
    assert h.status.ok, h.status
    differences = finite_differences.of_problem(
        lambda v: method.run(problem, problem.values(v)).loss,
        {name: v for name, v in values.items() if name not in elsewhere},
    )
    wrong = []
    for name, expected in differences.items():
        found = float(h.gradient[name])
        allowed = 1e-6 * abs(expected.value) + 3 * expected.error
        # A derivative of 0 would agree with a target that is not reached.
        known = expected.relative_error <= 1e-6 and abs(expected.value) > 1e-8
        if not known or not abs(found - expected.value) <= allowed:
            wrong.append(f"{name}: {found!r} where differences say {expected}")
    assert not wrong, "\n".join(wrong)


def hand_written(
    cell: Cell, problem: hg.Problem, values: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """(E, dE/dvalues) of the run written by hand."""
    net, rule = HAND_WRITTEN[cell.net], RULES[cell.rule]
    x, y, x_val, y_val = data_of(NETS[cell.net])
    rows = [problem.batch(t) for t in range(problem.num_steps)]
    batches = [(x[r], y[r]) for r in rows]
    start = [np.array(v.value) for v in problem.keras.model.trainable_variables]
    settings = {**rule.numbers, **rule.variants[cell.variant]}

    def loss(values: dict[str, Any]) -> complex:
        numbers = {name.rpartition(".")[2]: v for name, v in values.items()}
        end = train(net, cell.rule, settings, numbers, start, batches)
        return net.loss(end, x_val, y_val)

    return complex_step(loss, values)


def check_against_hand_written(cell: Cell, epsilon: float | None = None) -> None:
    """To 1e-8 of each number: no truncation error excuses anything."""
    problem, values = made(cell)
    name = "optimizer.epsilon"
    if epsilon is not None:
        values = {**values, name: epsilon}
        around = hg.Float(0.1 * epsilon, 10 * epsilon, default=epsilon)
        problem = problem.replace(space={**problem.space, name: around})
    loss, gradient = hand_written(cell, problem, values)
    h = hg.hypergradient(problem, values, hg.Reverse("all"))
    assert abs(h.loss - loss) <= 1e-12 * abs(loss)
    wrong = [
        f"{name}: {float(h.gradient[name])!r} where a complex step says {expected!r}"
        for name, expected in gradient.items()
        if not abs(h.gradient[name] - expected) <= 1e-8 * abs(expected)
    ]
    assert not wrong, "\n".join(wrong)
