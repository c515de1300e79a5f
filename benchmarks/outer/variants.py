"""The outer loops that are compared: keywords of `hypergrad.tune`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

import hypergrad as hg
from hypergrad.outer import (
    AbstractSteps,
    BayesianScreening,
    Screening,
    SignSteps,
    TakeBack,
    decades,
)

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class NormalisedGradient(AbstractSteps):
    """``−first · g / ‖g‖``, with g the slopes by decades of the sampling scale.

    Args:
        first: float, decades of a first step.
        grow: float, on the size of the steps after a step that was kept whole.
    """

    first: float = 0.5
    grow: float = 1.0

    def init(self, space: Mapping[str, hg.Float], u: Arrays) -> Any:
        return {"size": np.float64(self.first)}

    def direct(
        self, space: Mapping[str, hg.Float], u: Arrays, gradient: Arrays, state: Any
    ) -> tuple[dict[str, np.ndarray], Any]:
        slopes = {n: g * _per_decade(space[n], u[n]) for n, g in gradient.items()}
        norm = np.sqrt(sum(float(np.sum(g * g)) for g in slopes.values())) or 1.0
        return {n: -state["size"] * g / norm for n, g in slopes.items()}, state

    def move(
        self,
        space: Mapping[str, hg.Float],
        u: Arrays,
        direction: Arrays,
        length: float,
    ) -> dict[str, np.ndarray]:
        return {n: decades.move(space[n], u[n], length * direction[n]) for n in u}

    def settle(self, state: Any, length: float) -> Any:
        factor = self.grow if length == 1.0 else length
        return {"size": np.minimum(factor * state["size"], 2.0)}

    def longest(self, direction: Arrays) -> float:
        return max(float(np.max(np.abs(d))) for d in direction.values())


def _per_decade(float_: hg.Float, u: np.ndarray) -> np.ndarray:
    """du/d(decade) at u, by a difference."""
    tiny = 1e-6
    return (decades.move(float_, u, np.full(u.shape, tiny)) - u) / tiny


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "quasi-random alone": {"screening": Screening(10**6), "outer_steps": 0},
    "model-based screening alone": {
        "screening": BayesianScreening(10**6, least=0.0),
        "outer_steps": 0,
    },
    "sign steps with take-back, 8 screened": {"screening": Screening(7)},
    "model-based screening of 32, sign steps": {"screening": BayesianScreening(31)},
    "sign steps with take-back, not screened": {"screening": None},
    "sign steps halved at a flip (FDS)": {
        "screening": Screening(7),
        "optimizer": SignSteps(grow=1.0 + 1e-9, shrink=0.5),
        "safeguard": None,
    },
    "plain Adam(0.3)": {
        "screening": Screening(7),
        "optimizer": keras.optimizers.Adam(0.3),
        "safeguard": None,
    },
    "normalised gradient": {
        "screening": Screening(7),
        "optimizer": NormalisedGradient(),
        "safeguard": None,
    },
    "trust region with backtracking": {
        "screening": Screening(7),
        "optimizer": NormalisedGradient(grow=2.0),
        "safeguard": TakeBack(probe=0.0, rest=0.0),
    },
}
"""FDS: Micaelli & Storkey 2021, arXiv:2007.07869."""
