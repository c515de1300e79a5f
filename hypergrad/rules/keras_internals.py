"""The private parts of Keras' optimizers that rules rely on, each behind a function.

``tests/contract/test_rules_parity.py`` fails loudly when a Keras release moves one.
"""

import functools
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
    backends = vars(BackendOptimizer).get("_apply_weight_decay")
    asks_native = type(optimizer)._apply_weight_decay is backends
    return probe._use_weight_decay(variable.value if asks_native else variable)


def decay_attribute(optimizer: Any, variable: Any) -> str | None:
    """The attribute of an optimizer of Keras that decays this variable, or None."""
    if not uses_weight_decay(optimizer, variable):
        return None
    if uses_adam(optimizer, variable):
        return "adam_weight_decay"
    return "weight_decay"


def uses_adam(optimizer: Any, variable: Any) -> bool:
    """Whether Muon leaves this variable to Adam."""
    return isinstance(optimizer, keras.optimizers.Muon) and bool(
        optimizer._should_use_adamw(variable)
    )


@functools.cache
def reads_momentum_after_the_step() -> bool:
    """Whether ScheduleFreeAdamW takes its old momentum after the step, not before.

    It keeps ``momentum.value`` before it assigns to ``momentum``. On TensorFlow that
    is the variable itself, so that Keras 3.15 computes with the new value there. Asked
    of Keras' own code: one weight at 1, a step to 0 with a weight of the average that
    differs in the two readings.
    """
    # Names of their own: automatic ones would renumber the user's next objects.
    optimizer = keras.optimizers.ScheduleFreeAdamW(
        1.0, beta_1=0.5, epsilon=0.0, name="probe"
    )
    variable = keras.Variable(1.0, name="probe")
    optimizer.build([variable])
    optimizer._iterations.assign(1)
    optimizer._velocities[0].assign(1.0)
    optimizer.apply([ops.ones((), dtype=variable.dtype)])
    # z = 1 → 1 − 1/√(1/(1 − β₂²)); x = y = 1 before, if the old momentum is read.
    z = float(ops.convert_to_numpy(optimizer._momentums[0].value))
    before = 0.5 * z + 0.5 * (0.5 * 1.0 + 0.5 * z)
    return abs(float(ops.convert_to_numpy(variable.value)) - before) > 1e-6


def rate_source(optimizer: Any) -> Any:
    """The Keras variable, schedule or callable that holds the learning rate."""
    return optimizer._learning_rate


def iterations(optimizer: Any) -> Any:
    """The step counter, a Keras variable (not divided by accumulation steps)."""
    return optimizer._iterations


def trainable_variables(optimizer: Any) -> list:
    """The model's variables that a built optimizer was built on."""
    return optimizer._trainable_variables


def needs_own_loop(variables: list) -> bool:
    """Whether Keras overwrites one with its gradient (float8); no rule of ours does."""
    return any(getattr(v, "overwrite_with_gradient", False) for v in variables)


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


def moving_averages(optimizer: Any) -> list:
    """The variables of ``use_ema``, one for each trainable variable, or None."""
    return optimizer._model_variables_moving_average


def average_weights(optimizer: Any) -> None:
    """Moving average of the weights (``use_ema``), without ``ops.cond``."""
    variables = trainable_variables(optimizer)
    optimizer._update_model_variables_moving_average(variables)
    if not optimizer.ema_overwrite_frequency:
        return
    due = (optimizer.iterations + 1) % optimizer.ema_overwrite_frequency == 0
    averages = moving_averages(optimizer)
    for variable, average in zip(variables, averages):
        if average is not None:
            variable.assign(ops.where(due, average.value, variable.value))
