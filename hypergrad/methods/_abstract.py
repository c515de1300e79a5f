"""What a method is."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hypergrad import unroll
from hypergrad.methods.checkpoints import Checkpoints
from hypergrad.methods.work import Work
from hypergrad.problem import Bound, Problem
from hypergrad.status import Status
from hypergrad.unroll import Segment


class Tape(NamedTuple):
    """What a run leaves for a sweep.

    ``values``: checked values; ``bound``: what the steps received; ``loss``: E, NumPy
    scalar; ``metrics``: dict of floats; ``units``: the segments of the run, in groups
    between which states may be kept; ``start``, ``final``: the first and last state;
    ``train_losses``: array (T,); ``checkpoints``: states at starts of units, or None;
    ``records``: dict, index of a unit → what its steps left, None where it has left;
    ``extra``: what else the sweep of a method needs. ``status``: not ok where the
    method knows itself that the run failed, saying why; its loss is NaN.
    """

    values: Mapping[str, np.ndarray]
    bound: Bound
    loss: Any
    metrics: dict
    units: list[list[Segment]]
    start: Any
    final: Any
    train_losses: np.ndarray
    checkpoints: Checkpoints | None = None
    records: dict[int, list] = {}
    extra: Any = None
    status: Status = Status()

    def spans(self, problem: Problem) -> Iterator[tuple[Any, Any, Segment]]:
        """(start, end, segment) of a run; states that were not kept are run again."""
        program = unroll.forward_program(problem)
        state = self.start
        for k, unit in enumerate(self.units):
            kept = None if self.checkpoints is None else self.checkpoints.peek(k)
            state = state if kept is None else kept
            for segment in unit:
                inputs = unroll.step_inputs(problem, self.bound, segment)
                end, _ = program(state, inputs, problem.data)
                yield state, end, segment
                state = end


class Swept(NamedTuple):
    """What a sweep found.

    ``gradient``: dict, dE/dvalue in user units; ``status``: not ok where the gradient
    must not be used, saying why; ``info``: what the method has to say of it.
    """

    gradient: dict[str, np.ndarray]
    status: Status = Status()
    info: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class AbstractMethod(abc.ABC):
    """How dE/dλ is estimated: a run, then a sweep.

    The two are separate, so that an outer step that is rejected for its loss costs a
    run and no sweep.

    ``samples_at_once``: whether it treats numbers of every size alike, so that several
    samples may be one problem with larger states and as many values.
    """

    samples_at_once: ClassVar[bool] = False

    @abc.abstractmethod
    def check(self, problem: Problem) -> None:
        """Raises ValueError where the method is not valid, naming one that is."""

    @abc.abstractmethod
    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        """Compiles what a sweep needs, before a run holds memory for it."""

    @abc.abstractmethod
    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        """Trains T steps at checked values.

        ``sweep_follows``: whether the tape will be swept in any case, so that work for
        the sweep that is cheaper during the run may be done there.
        """

    @abc.abstractmethod
    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        """The gradient at a run that ended well."""

    @abc.abstractmethod
    def runs(self, problem: Problem) -> float:
        """What a run and a sweep cost, in plain trainings of T steps."""

    @abc.abstractmethod
    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        """What a run and a sweep consist of, to be timed, and what they keep.

        Compiles nothing but the start of a run; its phases do, when they are called.
        """

    @property
    @abc.abstractmethod
    def exact(self) -> bool:
        """Whether the gradient is dE/dλ to rounding, so that a 0 says something."""
