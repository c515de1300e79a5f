"""Finding out how numbers of a user's own classes have to be written."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from hypergrad import backend
from hypergrad.targets.injection import Assignment, inject
from hypergrad.targets.probing import complaint
from hypergrad.targets.target import Target
from hypergrad.targets.verdicts import TUNER


def settle(
    assignments: Sequence[Assignment], run: Callable[[Any], Any]
) -> list[Target]:
    """Targets with their form decided, by tracing the code that reads them.

    A plain tensor is tried first, then a `Traced`. Then the loss is compared with its
    derivative around the value. Targets whose form is known are returned as they are.

    Args:
        assignments: (target, value, low, high), the value concrete.
        run: function, integer seed of the random layers → tensor; computes the training
            loss of a few rows and mutates nothing. It is traced at most twice a target.

    Returns:
        list of `Target`, in the order of ``assignments``.

    Raises:
        ValueError: the code accepts neither form; the text holds its own error. Or the
            loss does not follow its derivative.
    """
    return [
        _settled(assignment, run) if assignment[0].form == "unknown" else assignment[0]
        for assignment in assignments
    ]


def _settled(assignment: Assignment, run: Callable[[Any], Any]) -> Target:
    target, value, low, high = assignment
    errors: list[Exception] = []
    for candidate in (replace(target, form="tensor"), replace(target, form="traced")):
        program = _derivative(candidate, low, high, run)
        try:
            program(_number(value), np.int32(0))
        except Exception as error:  # user code, and each framework's own refusals
            errors.append(error)
            continue
        why = complaint(_evaluated(program), value, low, high)
        if why is not None:
            raise ValueError(
                f"`{target.path}` cannot be tuned by gradient, expected a loss that "
                f"follows its derivative. Received from `{_owner(target)}`: {why}. "
                f"{TUNER}."
            )
        return candidate
    raise ValueError(
        f"`{target.path}` cannot be tuned by gradient, expected code that accepts a "
        f"traced number in the place of {target.value!r}. Received from "
        f"`{_owner(target)}`: {errors[-1]} Use `keras.ops` on it, and no "
        f"Python `if` that its range leaves open. {TUNER} otherwise."
    ) from errors[0]


def _derivative(
    target: Target, low: float | None, high: float | None, run: Callable[[Any], Any]
) -> Callable:
    def loss(number: Any, seed: Any) -> Any:
        with inject([(target, number, low, high)]):
            return run(seed)

    return backend.jit(backend.value_and_grad(loss))


def _evaluated(program: Callable) -> Callable[[Any, int], Any]:
    def look(value: Any, seed: int) -> Any:
        return backend.to_numpy(program(_number(value), np.int32(seed)))

    return look


def _number(value: Any) -> Any:
    return backend.convert(value, keras.config.floatx())


def _owner(target: Target) -> str:
    return type(target.owner).__name__
