"""Which numbers of an optimizer have no useful derivative, and why."""

from typing import Any

import keras

from hypergrad.rules.keras_internals import reads_momentum_after_the_step, unwrap

_CANCELS = "has no effect on training: the gradient is scaled back."
_INITIAL = (
    "acts on the initial state only, before the first step, and is no number of an "
    "update."
)
_SIGN = (
    "acts through the sign of the step only: its derivative is 0 almost everywhere, "
    "and says nothing of the jumps."
)
_NO_EMA = "has no effect: the optimizer was compiled with `use_ema=False`."
_NO_OVERWRITING = (
    "has no effect on the weights that are validated: without "
    "`ema_overwrite_frequency` the averages replace them after the last epoch only."
)
_CANCELS_LATE = (
    "has no effect here: this backend's Keras reads the momentum of ScheduleFreeAdamW "
    "after the step, and `beta_1` cancels."
)


def refusals(optimizer: Any) -> dict[str, str]:
    """Attribute → why it cannot be tuned by gradient, for a compiled Keras optimizer.

    Only numbers that look as if they could: every other number of `rule_for`'s
    ``hyperparameters`` has a derivative.
    """
    optimizer = unwrap(optimizer)
    found = {"loss_scale_factor": _CANCELS}
    if not optimizer.use_ema:
        found["ema_momentum"] = _NO_EMA
    elif not optimizer.ema_overwrite_frequency:
        found["ema_momentum"] = _NO_OVERWRITING
    if isinstance(optimizer, (keras.optimizers.Adagrad, keras.optimizers.Ftrl)):
        found["initial_accumulator_value"] = _INITIAL
    if isinstance(optimizer, keras.optimizers.Lion):
        names = ("beta_1", "beta_2", "clipnorm", "clipvalue", "global_clipnorm")
        found |= dict.fromkeys(names, _SIGN)
    if isinstance(optimizer, keras.optimizers.ScheduleFreeAdamW):
        if reads_momentum_after_the_step():
            found["beta_1"] = _CANCELS_LATE
    return found
