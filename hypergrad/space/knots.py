"""Curves through knots: one value for each step, and back.

A curve is linear in its knots, so pulling a gradient back is the transposed map. Both
run on the host, on NumPy arrays: no compiled program knows T.
"""

import numpy as np

INTERPOLATIONS = ("linear", "constant", "cosine")


def spread_over_steps(
    knots: np.ndarray, num_steps: int, interpolation: str
) -> np.ndarray:
    """The value of each step.

    Args:
        knots: array (K, …).
        num_steps: int, T.
        interpolation: one of `INTERPOLATIONS`; see `Schedule`.

    Returns:
        array (T, …) of the same dtype.
    """
    left, right, share = _places(len(knots), num_steps, interpolation)
    share = share.reshape(-1, *[1] * (knots.ndim - 1)).astype(knots.dtype)
    a, b = knots[left], knots[right]
    # Rounding must not carry a value over a knot that lies on the end of the range.
    return np.clip(a + share * (b - a), np.minimum(a, b), np.maximum(a, b))


def pull_to_knots(
    gradient: np.ndarray, num_knots: int, interpolation: str
) -> np.ndarray:
    """dE/dknots from dE/dvalues of all steps: the transpose of `spread_over_steps`.

    Args:
        gradient: array (T, …).
        num_knots: int, K.
        interpolation: as there.

    Returns:
        array (K, …) of the same dtype.
    """
    left, right, share = _places(num_knots, len(gradient), interpolation)
    share = share.reshape(-1, *[1] * (gradient.ndim - 1))
    total = np.zeros((num_knots, *gradient.shape[1:]))
    np.add.at(total, left, (1.0 - share) * gradient)
    np.add.at(total, right, share * gradient)
    return total.astype(gradient.dtype)


def _places(
    num_knots: int, num_steps: int, interpolation: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(left knot, right knot, share of the right one) of each step."""
    steps = np.arange(num_steps)
    if interpolation == "constant" or num_knots == 1:
        left = steps * num_knots // num_steps
        return left, left, np.zeros(num_steps)
    # In whole numbers: a step that falls on a knot gets exactly its value.
    left, rest = np.divmod(steps * (num_knots - 1), max(num_steps - 1, 1))
    share = rest / max(num_steps - 1, 1)
    if interpolation == "cosine":
        share = 0.5 - 0.5 * np.cos(np.pi * share)
    return left, np.minimum(left + 1, num_knots - 1), share
