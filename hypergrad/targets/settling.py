"""Finding out how numbers of a user's own classes have to be written."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras

from hypergrad import backend
from hypergrad.targets.injection import Assignment, inject
from hypergrad.targets.target import Target
from hypergrad.targets.verdicts import TUNER


def settle(assignments: Sequence[Assignment], run: Callable[[], Any]) -> list[Target]:
    """Targets with their form decided, by tracing the code that reads them.

    A plain tensor is tried first, then a `Traced`. Targets whose form is known are
    returned as they are.

    Args:
        assignments: (target, value, low, high), the value concrete.
        run: function without arguments, () -> tensor; computes the training loss of a
            few rows and mutates nothing. It is traced at most twice a target.

    Returns:
        list of `Target`, in the order of ``assignments``.

    Raises:
        ValueError: the code accepts neither form; the text holds its own error.
    """
    return [
        _settled(assignment, run) if assignment[0].form == "unknown" else assignment[0]
        for assignment in assignments
    ]


def _settled(assignment: Assignment, run: Callable[[], Any]) -> Target:
    target, value, low, high = assignment
    errors: list[Exception] = []
    for candidate in (replace(target, form="tensor"), replace(target, form="traced")):

        def loss(number: Any, candidate: Target = candidate) -> Any:
            with inject([(candidate, number, low, high)]):
                return run()

        try:
            backend.jit(loss)(backend.convert(value, keras.config.floatx()))
        except Exception as error:  # user code, and each framework's own refusals
            errors.append(error)
        else:
            return candidate
    raise ValueError(
        f"`{target.path}` cannot be tuned by gradient, expected code that accepts a "
        f"traced number in the place of {target.value!r}. Received from "
        f"`{type(target.owner).__name__}`: {errors[-1]} Use `keras.ops` on it, and no "
        f"Python `if` that its range leaves open. {TUNER} otherwise."
    ) from errors[0]
