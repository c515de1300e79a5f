"""The private parts of Keras' optimizers that rules rely on, each behind a function.

``tests/contract/test_rules_parity.py`` fails loudly when a Keras release moves one.
"""

from typing import Any

import keras
from keras import ops
from keras.src.optimizers.base_optimizer import BaseOptimizer

# ``keras.optimizers.Optimizer(BackendOptimizer, BaseOptimizer)``
BackendOptimizer: type = keras.optimizers.Optimizer.__mro__[1]


def unwrap(optimizer: Any) -> Any:
    """The optimizer inside a ``LossScaleOptimizer``, else the optimizer itself.

    Mixed float16 wraps optimizers in it. Dynamic loss scaling changes an update only
    when a gradient overflows (the step is skipped); here an overflow is a failure that
    the status reports instead.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer


def uses_weight_decay(optimizer: Any, variable: Any) -> bool:
    """Whether ``exclude_from_weight_decay`` leaves this variable decayed.

    Keras keeps the answer in a cache on the optimizer, so a throw-away copy is asked.
    On TensorFlow Keras asks about the native variable, whose name is another one
    (``dense/kernel:0`` for ``kernel``): a pattern may match on one backend only.
    """
    probe = object.__new__(type(optimizer))
    probe.__dict__.update(vars(optimizer))
    probe.__dict__["_exclude_from_weight_decay_cache"] = {}
    asks_native = "_apply_weight_decay" in vars(BackendOptimizer)
    return probe._use_weight_decay(variable.value if asks_native else variable)


def rate_source(optimizer: Any) -> Any:
    """The Keras variable, schedule or callable that holds the learning rate."""
    return optimizer._learning_rate


def iterations(optimizer: Any) -> Any:
    """The step counter, a Keras variable (not divided by accumulation steps)."""
    return optimizer._iterations


def trainable_variables(optimizer: Any) -> list:
    """The model's variables that a built optimizer was built on."""
    return optimizer._trainable_variables


def needs_own_loop(optimizer: Any, variables: list) -> bool:
    """Whether it does more in a step than our rules do (then its own code runs)."""
    return bool(
        optimizer.use_ema
        or optimizer.gradient_accumulation_steps
        or any(getattr(v, "overwrite_with_gradient", False) for v in variables)
    )


def base_methods() -> dict[str, Any]:
    """``BaseOptimizer``'s own form of the methods that the backend's class replaces."""
    return {
        name: vars(BaseOptimizer)[name]
        for name in vars(BackendOptimizer)
        if name in vars(BaseOptimizer) and not name.startswith("__")
    }


def accumulators(optimizer: Any, variables: list) -> list:
    """The variables in which gradients of these variables are summed up."""
    return [
        optimizer._accumulated_gradients[optimizer._get_variable_index(v)]
        for v in variables
    ]


def average_weights(optimizer: Any) -> None:
    """Moving average of the weights (``use_ema``), without ``ops.cond``."""
    variables = trainable_variables(optimizer)
    optimizer._update_model_variables_moving_average(variables)
    if not optimizer.ema_overwrite_frequency:
        return
    due = (optimizer.iterations + 1) % optimizer.ema_overwrite_frequency == 0
    averages = optimizer._model_variables_moving_average
    for variable, average in zip(variables, averages):
        if average is not None:
            variable.assign(ops.where(due, average.value, variable.value))
