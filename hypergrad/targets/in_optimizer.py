"""Numbers of the compiled optimizer. The rule takes them as hyperparameters."""

import re
from collections.abc import Iterator
from typing import Any

import keras

from hypergrad.rules import Optax, refusals
from hypergrad.rules.schedules import is_from_keras, schedule_numbers
from hypergrad.targets import verdicts
from hypergrad.targets.names import quote
from hypergrad.targets.target import Form, Target
from hypergrad.targets.values import is_choice, is_integer, real_value

_BOOKKEEPING = frozenset({"name", "built"})
# Real numbers, though a user may have written them as an integer: momentum=0.
_REAL = re.compile(
    r"(adam_)?(momentum|rho|beta(_\d|_\d_decay)?|epsilon(_\d)?|weight_decay|lr_ratio)"
    r"|clipnorm|clipvalue|global_clipnorm|l[12]_.*strength|rms_rate"
)


def optimizer_targets(optimizer: Any) -> Iterator[Target]:
    """Every number of an optimizer, the learning rate first."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if isinstance(optimizer, Optax):
        yield from _injected(optimizer)
        return
    yield from _learning_rate(optimizer)
    for attribute, held in vars(optimizer).items():
        if attribute.startswith("_") or attribute in _BOOKKEEPING:
            continue
        yield from _target(optimizer, attribute, held)


def _injected(optimizer: Optax) -> Iterator[Target]:
    numbers = optimizer.numbers
    for name in sorted(numbers, key=lambda name: name != "learning_rate"):
        path = f"optimizer.{quote(name)}"
        yield Target(path, "optimizer", optimizer, name, numbers[name], form="rule")
    if "learning_rate" not in numbers:
        yield Target(
            "optimizer.learning_rate",
            "structure",
            optimizer,
            "learning_rate",
            None,
            "it is fixed inside the optax transformation. Make the transformation with "
            "`optax.inject_hyperparams(…)(learning_rate=…)`.",
        )


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
        f"it is a schedule ({kind}): tune its numbers, {path}.<name>, or compile the "
        "optimizer with a number, `learning_rate=1e-3`, to tune one rate or an "
        "hg.Schedule of it.",
    )
    # A user's class may ask questions of its numbers, Keras' own do not.
    form: Form = "rule" if is_from_keras(held) else "traced"
    for name, value in schedule_numbers(held).items():
        attribute = name if name in vars(held) else "_" + name
        reason = _jumps(held, name)
        yield Target(
            f"{path}.{quote(name)}", "optimizer", held, attribute, value, reason, form
        )


def _jumps(schedule: Any, name: str) -> str | None:
    """Why a number of a schedule has no sound derivative; None where it has one."""
    stepped = getattr(schedule, "staircase", False) or getattr(schedule, "cycle", False)
    restarts = isinstance(schedule, keras.optimizers.schedules.CosineDecayRestarts)
    if (name == "decay_steps" and stepped and is_from_keras(schedule)) or (
        restarts and name in ("first_decay_steps", "t_mul")
    ):
        return (
            "the learning rate jumps at steps that it moves, without a derivative "
            f"there. {verdicts.TUNER}."
        )
    return None


def _target(optimizer: Any, attribute: str, held: Any) -> Iterator[Target]:
    path = f"optimizer.{quote(attribute)}"
    value = real_value(held)
    if value is None and _REAL.fullmatch(attribute) and is_integer(held):
        value = float(held)
    if attribute == "weight_decay" and held is None:
        value = 0.0
    if value is not None:
        reason = refusals(optimizer).get(attribute)
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
