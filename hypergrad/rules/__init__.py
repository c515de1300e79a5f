"""Rules: Keras optimizers as pure, differentiable updates, one a file."""

from collections.abc import Collection, Mapping
from typing import Any

import keras

from hypergrad.rules._abstract import AbstractRule
from hypergrad.rules.adam import Adam
from hypergrad.rules.adamw import AdamW
from hypergrad.rules.from_keras import FromKeras
from hypergrad.rules.keras_internals import needs_own_loop, unwrap
from hypergrad.rules.rmsprop import RMSprop
from hypergrad.rules.sgd import SGD

# Exact types: a subclass may do anything, so its own code is run.
REGISTRY: dict[type, type[SGD] | type[RMSprop] | type[Adam] | type[AdamW]] = {
    keras.optimizers.SGD: SGD,
    keras.optimizers.RMSprop: RMSprop,
    keras.optimizers.Adam: Adam,
    keras.optimizers.AdamW: AdamW,
}


def rule_for(
    optimizer: Any,
    variables: list,
    tuned: Collection[str] | Mapping[str, tuple[float, float]] = (),
) -> AbstractRule:
    """The rule that does what this Keras optimizer does to these variables.

    Args:
        optimizer: a Keras optimizer. A ``LossScaleOptimizer`` stands for the one it
            wraps.
        variables: the model's trainable variables, in order.
        tuned: names of the attributes that will be traced: a momentum of 0 that is
            tuned keeps its slot. A mapping name -> (low, high) of the values' ranges
            lets `FromKeras` answer an optimizer's comparisons by them.

    Returns:
        The rule of this package for the exact type, else (other types, ``use_ema``,
        ``gradient_accumulation_steps``) `FromKeras`.

    Raises:
        TypeError: not a Keras optimizer.
        ValueError: a tuned name is no number of this optimizer.
    """
    optimizer = unwrap(optimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "A rule is made from a Keras optimizer, expected an instance of "
            f"keras.optimizers.Optimizer. Received: {optimizer!r} of type "
            f"{type(optimizer).__name__}. Compile the model with one."
        )
    cls = REGISTRY.get(type(optimizer))
    rule: AbstractRule
    if cls is None or needs_own_loop(optimizer, variables):
        rule = FromKeras.from_optimizer(optimizer, variables, tuned)
    else:
        rule = cls.from_optimizer(optimizer, variables, tuned)
    for name in tuned:
        if name not in rule.hyperparameters and name != "learning_rate":
            raise ValueError(
                f"`{name}` cannot be tuned, expected a number that this optimizer "
                f"uses. Received: {type(optimizer).__name__} with "
                f"{sorted(rule.hyperparameters)}. Set `{name}` in the optimizer before "
                "compiling, or leave it out."
            )
    return rule


__all__ = [
    "REGISTRY",
    "AbstractRule",
    "Adam",
    "AdamW",
    "FromKeras",
    "RMSprop",
    "SGD",
    "rule_for",
]
