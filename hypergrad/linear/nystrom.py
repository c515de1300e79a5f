"""Nyström's low-rank approximation."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.linear import vectors
from hypergrad.linear._abstract import (
    AbstractSolver,
    Operator,
    Solution,
    check_count,
    check_number,
    failed,
)


@dataclasses.dataclass(frozen=True)
class Nystrom(AbstractSolver):
    """A low-rank approximation of A from some of its columns, inverted with ρI.

    ``x = (C W⁺ C' + ρI)⁻¹ b`` with C = A[:, S], W = A[S, S] and S ``rank`` columns
    drawn without replacement. By the Woodbury identity that takes the inverse of a
    (rank, rank) matrix; it is applied in the form ``U (Λ + ρ)⁻¹ U'b + (b − UU'b) / ρ``
    with C W⁺ C' = U Λ U', which does not cancel where ρ is small.

    Args:
        rank: int ≥ 1; that many columns, all where there are fewer.
        rho: float above 0, ρ.
        seed: int ≥ 0, draws the columns.

    Returns:
        `Solution`, whose residual is that of A without ρ.

    Cost: rank + 1 products with A; rank vectors of float64 in the memory of the host,
    about three times while they are decomposed, in time rank² |x|. No product waits for
    another's result.

    Valid when: A is symmetric and positive semidefinite, and its range is about of that
    rank. Eigenvalues of W between −ρ and 0 are left out; below −ρ the status says that
    A + ρI is not positive definite.

    Example:
        >>> hg.Implicit(hg.linear.Nystrom(10, rho=0.01))

    References: Hataya & Yamada 2023, "Nyström method for accurate and scalable implicit
    differentiation"; Woodbury 1950. The columns are all drawn at once and kept.
    """

    rank: int
    rho: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("Nystrom", "rank", self.rank)
        check_number("Nystrom", "rho", self.rho)
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(
                "`seed` of Nystrom must be an int of at least 0. Received: "
                f"{self.seed!r}."
            )

    @property
    def products(self) -> int:
        return self.rank + 1

    def solve(self, operator: Operator, b: Any) -> Solution:
        right = _flat(b)
        size = right.size
        rank = min(self.rank, size)
        if not np.any(right):
            return Solution(b, 0.0, 0)
        draw = np.random.default_rng(self.seed)
        chosen = np.sort(draw.choice(size, rank, replace=False))
        rows = np.empty((rank, size))  # of C'
        for k, place in enumerate(chosen):
            unit = np.zeros(size)
            unit[place] = 1.0
            rows[k] = _flat(operator.product(_like(unit, b)))
        square = rows[:, chosen]
        if not np.isfinite(rows).all():
            return failed(b, math.nan, rank, "A column of the Hessian is not finite.")
        eigenvalues, basis = np.linalg.eigh(0.5 * (square + square.T))
        if eigenvalues[0] < -self.rho:
            reason = (
                "Nystrom needs a positive semidefinite Hessian, and among its columns "
                f"found an eigenvalue of at most {eigenvalues[0]:.3g}, below -rho = "
                f"{-self.rho:g}. Train longer, raise `rho`, or use CG(damping=…)."
            )
            return failed(b, math.nan, rank, reason)
        rounding = rank * _rounding(b) * max(eigenvalues[-1], 0.0)
        kept = eigenvalues > rounding
        factor = (basis[:, kept] / np.sqrt(eigenvalues[kept])).T @ rows
        directions, small = np.linalg.qr(factor.T)
        inner, roots, _ = np.linalg.svd(small)
        inside = inner.T @ (directions.T @ right)
        x = directions @ (inner @ (inside / (roots**2 + self.rho)))
        if roots.size < size:
            x += (right - directions @ (inner @ inside)) / self.rho
        found = _like(x, b)
        return Solution(found, vectors.residual(operator, found, b), rank + 1)


def _flat(value: Any) -> np.ndarray:
    """A tree as one array of float64 on the host."""
    leaves = [leaf for leaf in tree.flatten(value) if backend.is_inexact(leaf)]
    return np.concatenate(
        [np.asarray(backend.to_numpy(leaf), np.float64).ravel() for leaf in leaves]
    )


def _like(flat: np.ndarray, example: Any) -> Any:
    """One array as a tree like ``example``."""
    leaves: list[Any] = []
    offset = 0
    for leaf in tree.flatten(example):
        if not backend.is_inexact(leaf):
            leaves.append(leaf)
            continue
        size = math.prod(leaf.shape)
        part = flat[offset : offset + size].reshape(tuple(leaf.shape))
        leaves.append(backend.convert(part, _dtype(leaf)))
        offset += size
    return tree.pack_sequence_as(example, leaves)


def _dtype(leaf: Any) -> str:
    return str(keras.backend.standardize_dtype(leaf.dtype))


def _rounding(value: Any) -> float:
    """The unit roundoff of the products."""
    kinds = {_dtype(leaf) for leaf in tree.flatten(value) if backend.is_inexact(leaf)}
    return float(np.finfo("float64" if kinds == {"float64"} else "float32").eps)
