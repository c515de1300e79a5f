"""How one declared range applies to the several targets that a pattern matches."""

import dataclasses
from collections.abc import Callable

import numpy as np

from hypergrad.space.float import Float


@dataclasses.dataclass(frozen=True)
class PerTarget:
    """One value for each target that the pattern matches, instead of one for all.

    Args:
        each: Float, the range of one target's value.

    Raises:
        TypeError: ``each`` is no Float.

    Example:
        >>> PerTarget(Float(1e-3, 1.0, sampling="log")).expand(3).shape
        (3,)
    """

    each: Float

    def __post_init__(self) -> None:
        if not isinstance(self.each, Float):
            raise TypeError(
                "`PerTarget` holds the range of one target's value. "
                f"Received: {self.each!r}. Write "
                "`PerTarget(Float(min_value, max_value))`."
            )

    def expand(self, count: int) -> Float:
        """The array of ``count`` values, one for each target.

        Args:
            count: int ≥ 1, the number of targets.

        Returns:
            Float of shape ``(count, *each.shape)``: the target axis comes first. A
            default is repeated, a ``constraint`` holds for each target alone.
        """
        if count < 1:
            raise ValueError(
                f"`PerTarget` needs at least one target. Received: {count}."
            )
        each = self.each
        shape = (count, *each.shape)
        default, constraint = each.default, each.constraint
        if default is not None:
            default = np.broadcast_to(each.start(), shape).copy()
        if constraint is not None:
            constraint = _ForEach(constraint)
        return dataclasses.replace(
            each, default=default, shape=shape, constraint=constraint
        )


@dataclasses.dataclass(frozen=True)
class _ForEach:
    """Applies a projection to every entry of the first axis."""

    constraint: Callable[[np.ndarray], np.ndarray]

    def __call__(self, value: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(self.constraint(row)) for row in value])
