"""Rules: Keras optimizers as pure, differentiable updates, one a file."""

from collections.abc import Collection, Mapping
from typing import Any

import keras

from hypergrad.rules._abstract import AbstractRule
from hypergrad.rules.adadelta import Adadelta
from hypergrad.rules.adafactor import Adafactor
from hypergrad.rules.adagrad import Adagrad
from hypergrad.rules.adam import Adam
from hypergrad.rules.adamax import Adamax
from hypergrad.rules.adamw import AdamW
from hypergrad.rules.from_keras import FromKeras
from hypergrad.rules.from_optax import FromOptax
from hypergrad.rules.ftrl import Ftrl
from hypergrad.rules.keras_internals import needs_own_loop, rate_source, unwrap
from hypergrad.rules.lamb import Lamb
from hypergrad.rules.lion import Lion
from hypergrad.rules.muon import Muon
from hypergrad.rules.nadam import Nadam
from hypergrad.rules.optax_optimizer import Optax
from hypergrad.rules.own_rule import OwnRule
from hypergrad.rules.refusals import refusals
from hypergrad.rules.rmsprop import RMSprop
from hypergrad.rules.schedule_free_adamw import ScheduleFreeAdamW
from hypergrad.rules.schedules import PREFIX, schedule_numbers
from hypergrad.rules.sgd import SGD

# Exact types: a subclass may do anything, so its own code is run.
REGISTRY: dict[type, type[OwnRule]] = {
    keras.optimizers.SGD: SGD,
    keras.optimizers.RMSprop: RMSprop,
    keras.optimizers.Adam: Adam,
    keras.optimizers.AdamW: AdamW,
    keras.optimizers.Adadelta: Adadelta,
    keras.optimizers.Adafactor: Adafactor,
    keras.optimizers.Adagrad: Adagrad,
    keras.optimizers.Adamax: Adamax,
    keras.optimizers.Ftrl: Ftrl,
    keras.optimizers.Lamb: Lamb,
    keras.optimizers.Lion: Lion,
    keras.optimizers.Muon: Muon,
    keras.optimizers.Nadam: Nadam,
    keras.optimizers.ScheduleFreeAdamW: ScheduleFreeAdamW,
}

WRAPPERS = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
"""Optimizers of optimizers: one stands for what it wraps, the other is refused."""


def rule_for(
    optimizer: Any,
    variables: list,
    tuned: Collection[str] | Mapping[str, tuple[float, float]] = (),
) -> AbstractRule:
    """The rule that does what this Keras optimizer does to these variables.

    Args:
        optimizer: a Keras optimizer. A ``LossScaleOptimizer`` stands for the one it
            wraps. An `Optax` has its own rule.
        variables: the model's trainable variables, in order.
        tuned: names of the attributes that will be traced: a momentum of 0 that is
            tuned keeps its slot. A mapping name -> (low, high) of the values' ranges
            lets `FromKeras` answer an optimizer's comparisons by them.

    Returns:
        The rule of this package for the exact type, else (a user's own type, float8
        variables that are overwritten with their gradient) `FromKeras`.

    Raises:
        TypeError: not a Keras optimizer.
        ValueError: a ``MultiOptimizer``; a tuned name is no number of this optimizer.
    """
    optimizer = unwrap(optimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "A rule is made from a Keras optimizer, expected an instance of "
            f"keras.optimizers.Optimizer. Received: {optimizer!r} of type "
            f"{type(optimizer).__name__}. Compile the model with one."
        )
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        raise ValueError(
            "A model is trained by one rule, expected one optimizer for all variables. "
            "Received: a MultiOptimizer. Compile with one of its optimizers; a number "
            "may then have a value for each variable (hg.PerVariable)."
        )
    cls = REGISTRY.get(type(optimizer))
    rule: AbstractRule
    if isinstance(optimizer, Optax):
        rule = FromOptax.from_optimizer(optimizer, variables, tuned)
    elif cls is None or needs_own_loop(variables):
        rule = FromKeras.from_optimizer(optimizer, variables, tuned)
    else:
        rule = cls.from_optimizer(optimizer, variables, tuned)
    known = {*rule.hyperparameters, "learning_rate"}
    source = rate_source(optimizer)
    if isinstance(source, keras.optimizers.schedules.LearningRateSchedule):
        known |= {PREFIX + name for name in schedule_numbers(source)}
    for name in tuned:
        if name not in known:
            raise ValueError(
                f"`{name}` cannot be tuned, expected a number that this optimizer "
                f"uses. Received: {type(optimizer).__name__} with "
                f"{sorted(rule.hyperparameters)}. Set `{name}` in the optimizer before "
                "compiling, or leave it out."
            )
    return rule


__all__ = [
    "REGISTRY",
    "WRAPPERS",
    "AbstractRule",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "FromKeras",
    "FromOptax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Muon",
    "Nadam",
    "Optax",
    "OwnRule",
    "RMSprop",
    "SGD",
    "ScheduleFreeAdamW",
    "refusals",
    "rule_for",
]
