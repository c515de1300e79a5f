"""Numbers of the compiled optimizer. The rule takes them as hyperparameters."""

import re
from collections.abc import Iterator
from typing import Any

import keras

from hypergrad.targets import verdicts
from hypergrad.targets.names import quote
from hypergrad.targets.target import Target
from hypergrad.targets.values import is_choice, is_integer, real_value

_BOOKKEEPING = frozenset({"name", "built"})
# Real numbers, though a user may have written them as an integer: momentum=0.
_REAL = re.compile(
    r"(adam_)?(momentum|rho|beta(_\d|_\d_decay)?|epsilon(_\d)?|weight_decay|lr_ratio)"
    r"|clipnorm|clipvalue|global_clipnorm|l[12]_.*strength|rms_rate"
)
_NO_EMA = "has no effect: the optimizer was compiled with `use_ema=False`."
_REFUSED = {
    "ema_momentum": "the average of the weights is not differentiated yet.",
    "initial_accumulator_value": (
        f"acts before the first step, and is not differentiated yet. {verdicts.TUNER}."
    ),
    "loss_scale_factor": "has no effect on training: the gradient is scaled back.",
}


def optimizer_targets(optimizer: Any) -> Iterator[Target]:
    """Every number of an optimizer, the learning rate first."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    yield from _learning_rate(optimizer)
    for attribute, held in vars(optimizer).items():
        if attribute.startswith("_") or attribute in _BOOKKEEPING:
            continue
        yield from _target(optimizer, attribute, held)


def _learning_rate(optimizer: Any) -> Iterator[Target]:
    held = optimizer._learning_rate  # the property would evaluate a schedule
    path = "optimizer.learning_rate"
    if not isinstance(held, keras.optimizers.schedules.LearningRateSchedule):
        value = float(keras.ops.convert_to_numpy(held))
        yield Target(path, "optimizer", optimizer, "learning_rate", value, form="rule")
        return
    kind = type(held).__name__
    yield Target(
        path,
        "optimizer",
        optimizer,
        "learning_rate",
        kind,
        f"it is a schedule ({kind}), which is followed as compiled. Compile the "
        "optimizer with a number, `learning_rate=1e-3`, to tune one constant rate.",
    )
    for attribute, value in vars(held).items():
        if not attribute.startswith("_") and real_value(value) is not None:
            yield Target(
                f"{path}.{quote(attribute)}",
                "optimizer",
                held,
                attribute,
                real_value(value),
                f"numbers of a schedule are not differentiated yet. {verdicts.TUNER}.",
            )


def _target(optimizer: Any, attribute: str, held: Any) -> Iterator[Target]:
    path = f"optimizer.{quote(attribute)}"
    value = real_value(held)
    if value is None and _REAL.fullmatch(attribute) and is_integer(held):
        value = float(held)
    if attribute == "weight_decay" and held is None:
        value = 0.0
    if value is not None:
        reason = _REFUSED.get(attribute)
        if attribute == "ema_momentum" and not optimizer.use_ema:
            reason = _NO_EMA
        yield Target(
            path,
            "optimizer",
            optimizer,
            attribute,
            value,
            reason,
            form="rule",
            idle=reason is not None and reason.startswith("has no effect"),
        )
    elif _REAL.fullmatch(attribute) and held is None:
        reason = "it is None, which is off. Compile the optimizer with a number."
        yield Target(
            path, "structure", optimizer, attribute, None, reason, listed=False
        )
    elif is_integer(held):
        yield Target(path, "structure", optimizer, attribute, held, verdicts.INTEGER)
    elif is_choice(held):
        yield Target(
            path,
            "structure",
            optimizer,
            attribute,
            held,
            verdicts.CHOICE,
            listed=False,
        )
