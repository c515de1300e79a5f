"""What a method is."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad.problem import Bound, Problem


class Tape(NamedTuple):
    """What a run leaves for a sweep.

    ``values``: checked values; ``bound``: what the steps received; ``loss``: E, NumPy
    scalar; ``metrics``: dict of floats; ``segments``: the plan; ``starts``: the state
    before each segment, None where it is run again from an earlier one; ``stored``: a
    buffer of states for each segment, or None; ``final``: the last state;
    ``train_losses``: array (T,).
    """

    values: Mapping[str, np.ndarray]
    bound: Bound
    loss: Any
    metrics: dict
    segments: list
    starts: list
    stored: list | None
    final: Any
    train_losses: np.ndarray


@dataclasses.dataclass(frozen=True)
class AbstractMethod(abc.ABC):
    """How dE/dλ is estimated: a run, then a sweep.

    The two are separate, so that an outer step that is rejected for its loss costs a
    run and no sweep.
    """

    @abc.abstractmethod
    def check(self, problem: Problem) -> None:
        """Raises ValueError where the method is not valid, naming one that is."""

    @abc.abstractmethod
    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        """Compiles what a sweep needs, before a run holds memory for it."""

    @abc.abstractmethod
    def run(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Tape:
        """Trains T steps at checked values."""

    @abc.abstractmethod
    def sweep(self, problem: Problem, tape: Tape) -> dict[str, np.ndarray]:
        """dE/dvalues in user units."""

    @property
    @abc.abstractmethod
    def runs(self) -> float:
        """What a run and a sweep cost, in plain trainings of T steps."""
