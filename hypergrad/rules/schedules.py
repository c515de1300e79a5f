"""Learning rate schedules of Keras, with their numbers as arguments."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers import schedules

PREFIX = "learning_rate."
"""What the names of a schedule's numbers begin with among a rule's ``hparams``."""

# Attributes that are real numbers of a curve, though often written as integers.
_REAL = frozenset(
    "initial_learning_rate end_learning_rate warmup_target warmup_steps decay_steps "
    "first_decay_steps decay_rate alpha power t_mul m_mul".split()
)


def schedule_numbers(schedule: Any) -> dict[str, Any]:
    """The numbers a schedule computes with: public name → float or array.

    Those of a user's class are its float attributes; Keras' own integers that stand
    for real numbers (``decay_steps=100``) count, and its lists of values.
    """
    from_keras = is_from_keras(schedule)
    found: dict[str, Any] = {}
    for attribute, held in vars(schedule).items():
        name = attribute.removeprefix("_") if from_keras else attribute
        if name.startswith("_") or isinstance(held, bool):
            continue
        if from_keras and name in _REAL and isinstance(held, (int, float)):
            found[name] = float(held)
        elif from_keras and name == "values":
            found[name] = np.asarray([float(v) for v in held])
        elif type(held) is float or isinstance(held, np.floating):
            found[name] = float(held)
    return found


def is_from_keras(schedule: Any) -> bool:
    """Whether the code is Keras' own, which asks no Python questions of its numbers."""
    return getattr(schedules, type(schedule).__name__, None) is type(schedule)


def evaluate(
    schedule: Callable, iterations: Any, hparams: Mapping[str, Any] | None = None
) -> Any:
    """The learning rate that a schedule gives a step.

    Its code runs on a copy that holds the given numbers.

    Args:
        schedule: a ``LearningRateSchedule``, or a function of the step count.
        iterations: integer scalar.
        hparams: numbers of the rule; those whose name begins with "learning_rate."
            take the place of the schedule's own. None: as compiled.

    Returns:
        scalar tensor.
    """
    given = {
        name.removeprefix(PREFIX): value
        for name, value in (hparams or {}).items()
        if name.startswith(PREFIX)
    }
    if not given:
        return schedule(iterations)
    return with_numbers(schedule, given)(iterations)


def with_numbers(schedule: Any, numbers: Mapping[str, Any]) -> Any:
    """A copy of a schedule with other numbers; public name → number or tensor."""
    twin = copy.copy(schedule)
    from_keras = is_from_keras(schedule)
    numbers = dict(numbers)
    if from_keras:
        # In one precision: Keras would multiply a float64 tensor with a float32 one.
        numbers = schedule_numbers(schedule) | numbers
        dtype = keras.config.floatx()
        numbers = {k: ops.convert_to_tensor(v, dtype) for k, v in numbers.items()}
    for name, value in numbers.items():
        attribute = name if name in vars(schedule) else "_" + name
        if name == "values" and from_keras:
            value = [value[i] for i in range(len(schedule.values))]
        vars(twin)[attribute] = value
    if type(schedule) is schedules.PolynomialDecay:
        return lambda step: _polynomial(twin, step)
    return twin


def _polynomial(twin: Any, step: Any) -> Any:
    """``(η₀ − η₁)(1 − t/d)^p + η₁``, finite after the end.

    From t = d on, Keras raises exactly 0 to the power p, whose derivative is infinite
    for p < 1.
    """
    step = ops.cast(step, twin.decay_steps.dtype)
    decay_steps = twin.decay_steps
    if twin.cycle:
        periods = ops.ceil(step / decay_steps)
        decay_steps = decay_steps * ops.where(ops.equal(step, 0), 1.0, periods)
    else:
        step = ops.where(step < decay_steps, step, decay_steps)
    left = 1 - step / decay_steps
    over = left <= 0
    curve = ops.power(ops.where(over, 1.0, left), twin.power)
    curve = ops.where(over, ops.zeros_like(curve), curve)
    start, end = twin.initial_learning_rate, twin.end_learning_rate
    return (start - end) * curve + end
