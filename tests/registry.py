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
from hypergrad.methods import AbstractMethod
from hypergrad.rules import SGD, Adam, AdamW, FromKeras, RMSprop
from hypergrad.space import transforms


@dataclasses.dataclass(frozen=True)
class Method:
    """A method and what it can do.

    ``make``: function → method. ``exact``: its gradient is dE/dλ to rounding.
    ``opaque_step``: it takes a Problem with ``step`` alone. ``needs_convergence``: it
    is right at a solution of the inner problem only. ``least_steps``: the shortest run
    it takes. ``any_length``: another T compiles nothing (a fixed number of checkpoints
    puts T into the length of a segment).
    """

    name: str
    make: Callable[[], AbstractMethod]
    exact: bool = True
    opaque_step: bool = True
    needs_convergence: bool = False
    least_steps: int = 1
    any_length: bool = True

    def applies_to(self, problem: hg.Problem, converged: bool = True) -> bool:
        """Whether its exactness is claimed for this problem."""
        return (
            self.exact
            and (self.opaque_step or problem.step is None)
            and (converged or not self.needs_convergence)
            and problem.num_steps >= self.least_steps
        )


METHODS = (
    Method("Reverse()", hg.Reverse),
    Method("Reverse('all')", lambda: hg.Reverse("all")),
    Method("Reverse(3)", lambda: hg.Reverse(3), least_steps=3),
)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule, the Keras optimizer it is the twin of, and its variants.

    ``optimizer``: the Keras class. ``numbers``: attribute → the value it is tested at
    (epsilon at 1e-3: smaller ones differ too little for finite differences).
    ``variants``: name → further arguments of the optimizer; numbers among them are
    tuned too. ``zero_gradients``: its derivatives are finite where a weight never had a
    gradient. ``clips``: its clipping thresholds can be tuned.
    """

    rule: type
    optimizer: type
    numbers: Mapping[str, float]
    variants: Mapping[str, Mapping[str, Any]]
    zero_gradients: bool = True
    clips: bool = True


RATE = {"learning_rate": 0.0625}
BETAS = {"beta_1": 0.75, "beta_2": 0.875, "epsilon": 1e-3}
MOMENTUM = {"momentum": 0.75}


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


RULES: dict[str, Rule] = {
    "SGD": Rule(
        SGD,
        keras.optimizers.SGD,
        RATE,
        {
            "plain": {},
            "momentum": MOMENTUM,
            "nesterov": {**MOMENTUM, "nesterov": True},
        },
    ),
    "RMSprop": Rule(
        RMSprop,
        keras.optimizers.RMSprop,
        {**RATE, "rho": 0.875, "epsilon": 1e-3},
        {
            "plain": {},
            "momentum": MOMENTUM,
            "centered": {"centered": True},
            "centered-momentum": {**MOMENTUM, "centered": True},
        },
    ),
    "Adam": Rule(
        Adam,
        keras.optimizers.Adam,
        {**RATE, **BETAS},
        {"plain": {}, "amsgrad": {"amsgrad": True}},
    ),
    "AdamW": Rule(
        AdamW,
        keras.optimizers.AdamW,
        {**RATE, **BETAS, "weight_decay": 0.05},
        {"plain": {}, "amsgrad": {"amsgrad": True}},
    ),
    "FromKeras-Nadam": Rule(
        FromKeras,
        keras.optimizers.Nadam,
        {**RATE, **BETAS},
        {"plain": {}},
        zero_gradients=False,
    ),
    "FromKeras-own": Rule(FromKeras, Signed, {**RATE, "soft": 0.5}, {"plain": {}}),
}

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
