"""One cell of the product rule × option × net: its derivatives against two judges."""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

import finite_differences
import hypergrad as hg
from hand_written import UPDATES, TwoLayers, complex_step, train
from nets import CLIPS, NETS, cnn, data_of, optimizer_of, problem_of
from registry import RULES

OPTIONS = ("bare", "decay", *CLIPS)
HAND_WRITTEN = {"tanh": TwoLayers("tanh"), "relu-dead": TwoLayers("relu", branches=2)}
"""Nets that `hand_written` has an independent run for; rules are its ``UPDATES``."""

FIXED = {"l1": 0.02, "l2": 0.03}
"""The penalty of these nets, where it is not tuned."""


UNKNOWABLE = (
    "cnn-batchnorm-Ftrl",
    "layernorm-Ftrl-regularized-clipvalue",
)
"""Cells that differences cannot judge. The first step of Ftrl all but forgets the
initial weights, and leaves nets near zero with derivatives of 1e-9 to 1e-7 (or dead, at
larger rates)."""

OF_SIGNS = {"cnn-batchnorm": functools.partial(cnn, use_bias=False)}
"""Nets for rules that take the sign of a gradient: that of a bias in front of a
BatchNormalization is made of rounding errors."""


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
        if str(self).startswith(UNKNOWABLE):
            return False
        rule = RULES[self.rule]
        return not NETS[self.net].dead or (rule.zero_gradients and rule.small_steps)

    @property
    def is_hand_written(self) -> bool:
        return self.net in HAND_WRITTEN and self.rule in UPDATES


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


WITHOUT_EFFECT = {("Muon", "clipvalue"): ("adam_beta_1",)}
"""Where all that Muon's Adam updates, biases, is clipped to one value in every step,
its corrected mean is that value for any beta."""


@functools.lru_cache(maxsize=4)
def made(cell: Cell) -> tuple[hg.Problem, dict[str, float]]:
    """(problem, values): everything that has a derivative is tuned, at once."""
    keras.utils.set_random_seed(0)
    rule, net = RULES[cell.rule], NETS[cell.net]
    optimizer, tuned = optimizer_of(rule, cell.variant, cell.option)
    idle = (*rule.idle, *WITHOUT_EFFECT.get((cell.rule, cell.option), ()))
    tuned = {name: v for name, v in tuned.items() if name not in idle}
    if not rule.sees_gradients:
        tuned = {name: v for name, v in tuned.items() if name in rule.direct}
        build = OF_SIGNS.get(cell.net, net.build)
        net = dataclasses.replace(net, numbers={}, build=build)
    return problem_of(net, optimizer, tuned)


RATE = "optimizer.learning_rate"
MOVED = (1.0, 1.02, 0.97)
"""Factors of the learning rate that are tried where differences know nothing.

An L1 penalty or a ReLU makes kinks: where a weight crosses zero right at the point,
differences over any step see both sides. Two per cent away they know ten digits.
"""


def check_against_differences(
    problem: hg.Problem,
    values: dict[str, float],
    method: Any = None,
    elsewhere: tuple[str, ...] = (),
) -> float:
    """Within 1e-6 relative + 3 × the error of the differences, itself at most 1e-6.

    Returns the largest relative distance between the two.

    ``elsewhere``: numbers that finite differences cannot judge here, each of which a
    test with a hand-written run does.
    """
    method = method or hg.Reverse("all")
    for factor in MOVED if RATE in values else (1.0,):
        here = {n: v * factor if n == RATE else v for n, v in values.items()}
        h = hg.hypergradient(problem, here, method)
        assert h.status.ok, h.status
        differences = finite_differences.of_problem(
            lambda v: method.run(problem, problem.values(v)).loss,
            {name: v for name, v in here.items() if name not in elsewhere},
        )
        if all(d.relative_error <= 1e-6 for d in differences.values()):
            break
    wrong, worst = [], 0.0
    for name, expected in differences.items():
        found = float(h.gradient[name])
        worst = max(worst, abs(found - expected.value) / abs(expected.value or 1.0))
        allowed = 1e-6 * abs(expected.value) + 3 * expected.error
        # A derivative of 0 would agree with a target that is not reached.
        known = expected.relative_error <= 1e-6 and abs(expected.value) > 1e-8
        if not known or not abs(found - expected.value) <= allowed:
            wrong.append(f"{name}: {found!r} where differences say {expected}")
    assert not wrong, "\n".join(wrong)
    return worst


def hand_written(
    cell: Cell, problem: hg.Problem, values: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """(E, dE/dvalues) of the run written by hand."""
    net, rule = HAND_WRITTEN[cell.net], RULES[cell.rule]
    x, y, x_val, y_val = data_of(NETS[cell.net])
    rows = [problem.batch(t) for t in range(problem.num_steps)]
    batches = [(x[r], y[r]) for r in rows]
    start = [np.array(v.value) for v in problem.keras.model.trainable_variables]
    clip = {cell.option: CLIPS[cell.option]} if cell.option in CLIPS else {}
    settings = {**rule.numbers, **rule.variants[cell.variant], **clip}

    def loss(values: dict[str, Any]) -> complex:
        numbers = {name.rpartition(".")[2]: v for name, v in values.items()}
        numbers = {**FIXED, **numbers}
        end = train(net, cell.rule, settings, numbers, start, batches)
        return net.loss(end, x_val, y_val)

    return complex_step(loss, values)


def check_against_hand_written(cell: Cell, epsilon: float | None = None) -> float:
    """To 1e-8 of each number: no truncation error excuses anything.

    Returns the largest relative distance.
    """
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
    return max(
        float(abs(h.gradient[name] - expected) / abs(expected))
        for name, expected in gradient.items()
        if expected
    )
