"""A quasi-random sequence in the unit cube: evenly spread, whatever its length."""

import numpy as np


def quasirandom(number: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Points of the additive recurrence ``x_n = frac(shift + n·α)``.

    ``α_j = φ^{-j}``, with φ the root of ``φ^{d+1} = φ + 1``: the golden ratio for one
    dimension, Roberts' R2 for two. The shift depends on the seed.

    Args:
        number: int, points.
        dimensions: int, d.
        seed: int.

    Returns:
        array (number, dimensions) in (0, 1).

    Valid when: d is small (up to about 10); the points of more dimensions are no more
    even than random ones.

    References: Roberts 2018, "The unreasonable effectiveness of quasirandom sequences".
    """
    phi = 2.0
    for _ in range(64):
        phi = (1.0 + phi) ** (1.0 / (dimensions + 1))
    alpha = phi ** -np.arange(1.0, dimensions + 1)
    shift = np.random.default_rng([seed, dimensions]).random(dimensions)
    points = (shift + np.arange(1, number + 1)[:, None] * alpha) % 1.0
    return np.clip(points, 1e-6, 1.0 - 1e-6)
