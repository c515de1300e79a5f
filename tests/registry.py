"""Everything the contract tests are run for, with declared capabilities.

A new method, rule or transform gets all of them by its line here. What does not apply
to it is said by its capabilities, never by a list of names in a test;
``tests/contract/test_registry.py`` holds the lines against what the package exports.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

import hypergrad as hg
from hypergrad import backend, rules
from hypergrad.methods import AbstractMethod
from hypergrad.rules import FromKeras
from hypergrad.space import transforms


@dataclasses.dataclass(frozen=True)
class Method:
    """A method and what it can do.

    ``make``: function → method. ``exact``: its gradient is dE/dλ to rounding.
    ``opaque_step``: it takes a Problem with ``step`` alone. ``needs_convergence``: it
    is right at a solution of the inner problem only. ``least_steps``: the shortest run
    it takes. ``any_length``: another T compiles nothing (a fixed number of checkpoints
    puts T into the length of a segment). ``momentum_only``: it takes Keras models that
    are compiled with ``SGD(momentum=…)``, no others. ``rule_numbers``: it takes numbers
    of the rule, which an implicit method refuses. ``tolerance``: how far from a closed
    form and from the other exact methods it may be, relatively; None: to rounding where
    it is exact, else it makes no claim.
    """

    name: str
    make: Callable[[], AbstractMethod]
    exact: bool = True
    opaque_step: bool = True
    needs_convergence: bool = False
    least_steps: int = 1
    any_length: bool = True
    momentum_only: bool = False
    rule_numbers: bool = True
    tolerance: float | None = None

    def takes(self, problem: hg.Problem) -> bool:
        """Whether it runs on this problem at all."""
        rule = None if problem.keras is None else problem.keras.rule
        return (
            (self.opaque_step or problem.step is None)
            and problem.num_steps >= self.least_steps
            and (
                not self.momentum_only
                or (isinstance(rule, rules.SGD) and rule.has_momentum)
            )
        )

    def applies_to(self, problem: hg.Problem, converged: bool = True) -> bool:
        """Whether it claims to be right, to its tolerance, for this problem."""
        return (
            (self.exact or self.tolerance is not None)
            and self.takes(problem)
            and (converged or not self.needs_convergence)
        )


OTHER = next(way for way in ("reverse", "mixed") if way != backend.second_order())
"""The way to second derivatives that is not the default on this backend."""

METHODS = (
    Method("Reverse()", hg.Reverse),
    Method("Reverse('all')", lambda: hg.Reverse("all")),
    Method("Reverse(3)", lambda: hg.Reverse(3), least_steps=3),
    Method("Reverse('log')", lambda: hg.Reverse("log")),
    Method("Reverse(disk)", lambda: hg.Reverse("log", offload="disk")),
    Method(f"Reverse({OTHER})", lambda: hg.Reverse(second_order=OTHER)),
    Method("Forward(4)", lambda: hg.Forward(4)),
    Method("Auto()", hg.Auto),
    Method("Reversible()", hg.Reversible, momentum_only=True, tolerance=1e-10),
    Method("Truncated(T)", lambda: hg.Truncated(10**6)),
    Method("Truncated(2)", lambda: hg.Truncated(2), exact=False),
    Method("FiniteDifference()", hg.FiniteDifference, exact=False),
    Method("EvolutionStrategies(2)", lambda: hg.EvolutionStrategies(2), exact=False),
    Method("PersistentES(2)", lambda: hg.PersistentES(2, truncation=2), exact=False),
    Method(
        "PersistentES(sum)",
        lambda: hg.PersistentES(2, truncation=2, objective="sum"),
        exact=False,
    ),
    Method(
        "Implicit(CG)",
        lambda: hg.Implicit(hg.linear.CG(tolerance=1e-13)),
        opaque_step=False,
        needs_convergence=True,
        rule_numbers=False,
    ),
    Method(
        "Implicit(FixedPoint)",
        lambda: hg.Implicit(hg.linear.FixedPoint(150)),
        opaque_step=False,
        needs_convergence=True,
        rule_numbers=False,
    ),
)


@dataclasses.dataclass(frozen=True)
class Solver:
    """A solver that is right to rounding on small well-conditioned systems.

    ``make``: function → solver. ``solves``: whether it solves A x = b; without it the
    residual says that it does not.
    """

    make: Callable[[], hg.linear.AbstractSolver]
    solves: bool = True


SOLVERS = {
    "CG": Solver(lambda: hg.linear.CG(tolerance=1e-13)),
    "Neumann": Solver(lambda: hg.linear.Neumann(300)),
    "Neumann(scale)": Solver(lambda: hg.linear.Neumann(300, 0.4)),
    "Nystrom": Solver(lambda: hg.linear.Nystrom(7, rho=1e-13)),
    "FixedPoint": Solver(lambda: hg.linear.FixedPoint(300)),
    "Identity": Solver(hg.linear.Identity, solves=False),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule, the Keras optimizer it is the twin of, and its variants.

    ``optimizer``: the Keras class. ``numbers``: attribute → the value it is tested at:
    one that float32 holds exactly (Keras on TensorFlow rounds some Python floats
    through it), and an epsilon large enough for finite differences.
    ``variants``: name → further arguments of the optimizer; numbers among them are
    tuned too. The last one has most of them. ``zero_gradients``: its derivatives are
    finite where a weight never had a gradient. ``clips``: its clipping thresholds can
    be tuned. ``sees_gradients``: gradients reach the weights differentiably; without
    it only ``direct`` numbers have a derivative other than 0. ``small_steps``: the rate
    bounds a step; those of Lamb and Adafactor are as long as the weights, and on the
    net with biases of −50 kill the units that live. ``idle``: numbers that have no
    effect on this backend.
    """

    rule: type
    optimizer: type
    numbers: Mapping[str, float]
    variants: Mapping[str, Mapping[str, Any]]
    zero_gradients: bool = True
    clips: bool = True
    sees_gradients: bool = True
    direct: tuple[str, ...] = ("learning_rate", "weight_decay")
    small_steps: bool = True
    idle: tuple[str, ...] = ()


RATE = {"learning_rate": 0.0625}
EPSILON = {"epsilon": 2.0**-10}
BETAS = {"beta_1": 0.75, "beta_2": 0.875, **EPSILON}
MOMENTUM = {"momentum": 0.75}
PLAIN: dict[str, dict[str, Any]] = {"plain": {}}


class Signed(keras.optimizers.Optimizer):
    """A user's own optimizer: a step along g / (|g| + soft), with a power of |g|."""

    def __init__(self, learning_rate=0.01, soft=0.5, name="signed", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.soft = soft

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self._steps = self.add_optimizer_variables(variables, "step")

    def update_step(self, gradient, variable, learning_rate):
        slot = self._steps[self._get_variable_index(variable)]
        scaled = gradient / (keras.ops.square(gradient) + self.soft)
        self.assign(slot, 0.5 * slot + scaled)
        self.assign_sub(variable, keras.ops.multiply(slot, learning_rate))

    def get_config(self):
        return {**super().get_config(), "soft": self.soft}


class OwnNadam(keras.optimizers.Nadam):
    """A subclass: Keras' own code runs."""


RULES: dict[str, Rule] = {
    "SGD": Rule(
        rules.SGD,
        keras.optimizers.SGD,
        RATE,
        {
            "plain": {},
            "momentum": MOMENTUM,
            "nesterov": {**MOMENTUM, "nesterov": True},
        },
    ),
    "RMSprop": Rule(
        rules.RMSprop,
        keras.optimizers.RMSprop,
        {**RATE, "rho": 0.875, **EPSILON},
        {
            "plain": {},
            "momentum": MOMENTUM,
            "centered": {"centered": True},
            "centered-momentum": {**MOMENTUM, "centered": True},
        },
    ),
    "Adam": Rule(
        rules.Adam,
        keras.optimizers.Adam,
        {**RATE, **BETAS},
        {"plain": {}, "amsgrad": {"amsgrad": True}},
    ),
    "AdamW": Rule(
        rules.AdamW,
        keras.optimizers.AdamW,
        {**RATE, **BETAS, "weight_decay": 0.0625},
        {"plain": {}, "amsgrad": {"amsgrad": True}},
    ),
    "Adadelta": Rule(
        rules.Adadelta,
        keras.optimizers.Adadelta,
        {"learning_rate": 0.5, "rho": 0.875, "epsilon": 2.0**-6},
        PLAIN,
    ),
    "Adafactor": Rule(
        rules.Adafactor,
        keras.optimizers.Adafactor,
        {
            **RATE,
            "beta_2_decay": -0.75,
            "epsilon_1": 2.0**-10,
            "epsilon_2": 0.5,
            "clip_threshold": 0.5,
        },
        {"plain": {}, "unclipped": {"clip_threshold": 64}},
        small_steps=False,
    ),
    "Adagrad": Rule(
        rules.Adagrad,
        keras.optimizers.Adagrad,
        {**RATE, **EPSILON},
        {"plain": {}, "initial": {"initial_accumulator_value": 1}},
    ),
    "Adamax": Rule(rules.Adamax, keras.optimizers.Adamax, {**RATE, **BETAS}, PLAIN),
    "Ftrl": Rule(
        rules.Ftrl,
        keras.optimizers.Ftrl,
        {**RATE, "learning_rate_power": -0.5, "beta": 0.25},
        {
            "plain": {},
            "regularized": {
                "l1_regularization_strength": 2.0**-6,
                "l2_regularization_strength": 0.25,
                "l2_shrinkage_regularization_strength": 0.125,
                "initial_accumulator_value": 1,
            },
        },
    ),
    "Lamb": Rule(
        rules.Lamb,
        keras.optimizers.Lamb,
        {**RATE, **BETAS},
        PLAIN,
        small_steps=False,
    ),
    "Lion": Rule(
        rules.Lion,
        keras.optimizers.Lion,
        {**RATE, "beta_1": 0.75, "beta_2": 0.875},
        PLAIN,
        sees_gradients=False,
    ),
    "Muon": Rule(
        rules.Muon,
        keras.optimizers.Muon,
        {
            **RATE,
            **MOMENTUM,
            **EPSILON,
            "muon_a": 3.5,
            "muon_b": -4.75,
            "muon_c": 2.0,
            "adam_lr_ratio": 0.5,
            "adam_beta_1": 0.75,
            "adam_beta_2": 0.875,
            "adam_weight_decay": 0.0625,
            "weight_decay": 0.03125,
        },
        {
            "plain": {"nesterov": False, "ns_steps": 2, "rms_rate": 0.25},
            "unscaled": {"rms_rate": None, "ns_steps": 2},
            "nesterov": {"ns_steps": 2, "rms_rate": 0.25},
        },
    ),
    "Nadam": Rule(rules.Nadam, keras.optimizers.Nadam, {**RATE, **BETAS}, PLAIN),
    "ScheduleFreeAdamW": Rule(
        rules.ScheduleFreeAdamW,
        keras.optimizers.ScheduleFreeAdamW,
        {**RATE, **BETAS},
        {"plain": {}, "warmup": {"warmup_steps": 2}},
        # Keras reads a variable late there, and β₁ cancels.
        idle=("beta_1",) if keras.backend.backend() == "tensorflow" else (),
    ),
    "FromKeras-Nadam": Rule(
        FromKeras,
        OwnNadam,
        {**RATE, **BETAS},
        PLAIN,
        zero_gradients=False,
    ),
    "FromKeras-own": Rule(FromKeras, Signed, {**RATE, "soft": 0.5}, PLAIN),
}

# Those whose equation is written in this package.
OWN = {name: r for name, r in RULES.items() if r.rule is not FromKeras}

TRANSFORMS = {
    "linear": (transforms.Linear, hg.Float(-1.0, 2.0)),
    "log": (transforms.Log, hg.Float(1e-4, 1.0, sampling="log")),
    "reverse_log": (
        transforms.ReverseLog,
        hg.Float(0.0, 0.9999, sampling="reverse_log"),
    ),
    "lower": (transforms.Lower, hg.Float(0.5, None)),
    "upper": (transforms.Upper, hg.Float(None, 0.5)),
    "unbounded": (transforms.Unbounded, hg.Float()),
}
