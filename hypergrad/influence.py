"""Hyperparameters that cannot move the validation loss are named in a warning."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from hypergrad import backend
from hypergrad.problem import Problem


def unreached(
    outputs: Callable[[dict], list], numbers: Mapping[str, np.ndarray]
) -> list[str]:
    """The numbers that reach none of the outputs of a function.

    A NaN in the place of a number that is used spreads to the output. Comparisons
    swallow it, so a number counts as unreached only where its derivative is exactly
    zero as well.

    Args:
        outputs: function, dict of tensors → list of inexact tensors; pure.
        numbers: dict, name → array; nonzero.
    """

    def finite(numbers: dict) -> Any:
        return ops.stack([ops.all(ops.isfinite(o)) for o in outputs(numbers)])

    def total(numbers: dict) -> Any:
        return sum(
            ops.cast(ops.sum(o), keras.config.floatx()) for o in outputs(numbers)
        )

    dtype = keras.config.floatx()
    held = {name: backend.convert(np.asarray(v, dtype)) for name, v in numbers.items()}
    program = backend.jit(finite)
    if not np.all(backend.to_numpy(program(held))):
        return []
    silent = []
    for name, value in held.items():
        nan = backend.convert(np.full(np.shape(value), np.nan, dtype))
        if np.all(backend.to_numpy(program({**held, name: nan}))):
            silent.append(name)
    if not silent:
        return []
    gradient = backend.to_numpy(backend.jit(backend.grad(total))(held))
    return [name for name in silent if not np.any(gradient[name])]


def warn_unreached(problem: Problem, name: str, stacklevel: int = 2) -> None:
    """Says that a number reaches neither training nor the validation loss.

    ``stacklevel`` as in ``warnings.warn``, counted from the caller of this function.
    """
    _once(
        problem,
        name,
        f"`{name}` has no influence on the validation loss: neither a training step "
        "nor the validation loss depends on it, and its hypergradient is exactly zero. "
        "Leave it out of `hyperparameters`, or use it in the model.",
        stacklevel + 1,
    )


def warn_where_zero(
    problem: Problem,
    values: Mapping[str, np.ndarray],
    gradient: Mapping[str, np.ndarray],
    stacklevel: int = 2,
) -> None:
    """Warns of hypergradients that are exactly zero inside the range, each name once.

    Args:
        problem: only those of a Keras model are looked at: a closed form may be
            stationary.
        values: dict, where the gradient was taken, in user units.
        gradient: dict, dE/dvalue.
        stacklevel: as in ``warnings.warn``.
    """
    if problem.keras is None:
        return
    for name, slope in gradient.items():
        # Most often the first entries say it, of arrays as large as the data.
        moves = np.any(np.ravel(slope)[:1000]) or np.any(slope)
        if moves or not _inside(problem, name, values[name]):
            continue  # NaN is not zero
        _once(
            problem,
            name,
            f"`{name}` had no influence on the validation loss: its hypergradient is "
            f"exactly zero at {_text(values[name])}. Nothing that it changes reached "
            "the loss in this run (a penalty that no loss reads, a clipping threshold "
            "that was never met, a momentum in a single step). Leave it out, or change "
            "what keeps it from acting.",
            stacklevel + 1,
        )


def _inside(problem: Problem, name: str, value: np.ndarray) -> bool:
    float_ = problem.space[name]
    low = -np.inf if float_.min_value is None else float_.min_value
    high = np.inf if float_.max_value is None else float_.max_value
    return bool(np.any((value > low) & (value < high)))


def _text(value: np.ndarray) -> str:
    return f"{float(value):g}" if np.ndim(value) == 0 else f"{np.shape(value)} values"


def _once(problem: Problem, name: str, text: str, stacklevel: int) -> None:
    first: list[bool] = []

    def note() -> bool:
        first.append(True)
        return True

    problem.remember(("without influence", name), note)
    if first:
        warnings.warn(text, stacklevel=stacklevel)


def warn_not_at_the_solution(
    problem: Problem, gradient: Mapping[str, np.ndarray], stacklevel: int = 5
) -> None:
    """Warns of implicit hypergradients that are exactly zero, each name once.

    Args:
        problem: what was differentiated at the end of training.
        gradient: dict, dE/dvalue, of an E that depends on the weights.
        stacklevel: as in ``warnings.warn``.
    """
    silent = [name for name, slope in gradient.items() if not np.any(slope)]
    for name in silent:
        _once(
            problem,
            name,
            f"`{name}` has no influence on the stationary point of the training loss, "
            "so that the implicit hypergradient is zero: neither the gradient of the "
            "loss at the last state nor the validation loss depends on it there. Use "
            "Reverse() or Truncated(), or leave it out.",
            stacklevel + 1,
        )
