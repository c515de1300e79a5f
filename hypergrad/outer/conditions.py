"""What E depends on beside the values: which samples, and how long a training."""

import dataclasses
from typing import NamedTuple

from hypergrad.arguments import checked_whole


class Conditions(NamedTuple):
    """Two E say which values are better where their conditions are the same.

    ``draw``: which samples, as in `Problem.draw`; ``num_steps``: length of training.
    """

    draw: int
    num_steps: int


@dataclasses.dataclass(frozen=True)
class Growing:
    """A horizon that grows: the descent begins with short trainings.

    The stages have ``first``, ``factor · first``, … and at last all T steps, and equal
    shares of what may be spent. A run of T' steps costs T'/T of a run. The screening is
    made at the first stage; what E is at fewer than T steps is compared with nothing
    else, and the best values are chosen among trainings of T steps.

    Args:
        first: int ≥ 1, steps of the first stage.
        last: int, T; None: what the problem has. Where `tune` is given a model without
            ``steps`` and ``epochs``, this many steps.
        factor: float > 1, from a stage to the next.

    Valid when: short trainings tell something of long ones. They like learning rates
    that are too small, and decay too early; the last stages have to mend that.

    References: Wu et al. 2018, arXiv:1803.02021, on the bias of short horizons; Metz et
        al. 2019, arXiv:1810.10180, for growing ones.
    """

    first: int
    last: int | None = None
    factor: float = 2.0

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            given = getattr(self, name)
            if given is not None or name == "first":
                checked_whole(f"Growing({name}=…)", given)
        if self.last is not None and self.last <= self.first:
            raise ValueError(
                "`Growing(first, last)` must grow. Received: first="
                f"{self.first}, last={self.last}."
            )
        if not isinstance(self.factor, (int, float)) or not self.factor > 1.0:
            raise ValueError(
                f"`Growing(factor=…)` must be a number above 1. Received: "
                f"{self.factor!r}."
            )

    def stages(self, num_steps: int) -> tuple[int, ...]:
        """The lengths of training, the last of them ``num_steps``.

        Raises:
            ValueError: a training of another length than ``last``, or as short as
                ``first``.
        """
        if self.last not in (None, num_steps) or self.first >= num_steps:
            raise ValueError(
                f"`horizon` must begin below the length of training, {num_steps} "
                f"steps, and end there. Received: {self!r}. Pass `steps="
                f"{self.last or 2 * self.first}`, or another Growing."
            )
        found, steps = [], float(self.first)
        while steps < num_steps:
            found.append(round(steps))
            steps *= self.factor
        # Not a stage that is nearly the last.
        if len(found) > 1 and found[-1] * self.factor**0.5 > num_steps:
            found.pop()
        return (*dict.fromkeys(found), num_steps)
