"""How one declared range applies to several targets, variables or steps."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hypergrad.space.float import Float
from hypergrad.space.knots import INTERPOLATIONS


@dataclasses.dataclass(frozen=True, eq=False)
class Group(Float):
    """An array of values of one kind: one for each target, variable or knot.

    What the groups below expand to. One value for all of its entries means something:
    the number that would have been tuned without the group.

    ``curve``: bool, whether the first axis is that of the knots of a `Schedule`.
    """

    curve: bool = False


@dataclasses.dataclass(frozen=True)
class PerTarget:
    """One value for each target that the pattern matches, instead of one for all.

    Args:
        each: Float, the range of one target's value; or a `Schedule` of it.

    Raises:
        TypeError: ``each`` is neither.

    Example:
        >>> PerTarget(Float(1e-3, 1.0, sampling="log")).expand(3).shape
        (3,)
    """

    each: "Float | Schedule"

    def __post_init__(self) -> None:
        layout(self)

    def expand(self, count: int) -> Float:
        """The array of values for ``count`` targets.

        Args:
            count: int ≥ 1, the number of targets.

        Returns:
            Float of shape ``(count, *each.shape)``, with the knots of a `Schedule` in
            front. A default is repeated, a ``constraint`` holds for each target alone.
        """
        if count < 1:
            raise ValueError(
                f"`PerTarget` needs at least one target. Received: {count}."
            )
        return layout(self).expand(count)


@dataclasses.dataclass(frozen=True)
class PerVariable:
    """One value for each weight tensor: a learning rate for every kernel and bias.

    For the numbers of the optimizer. The values are an array with one entry for each
    of ``model.trainable_variables``, in their order.

    Args:
        each: Float, the range of one variable's value; or a `Schedule` of it.

    Raises:
        TypeError: ``each`` is neither.

    Example:
        >>> PerVariable(Float(1e-5, 1.0, sampling="log")).expand(4).shape
        (4,)
    """

    each: "Float | Schedule"

    def __post_init__(self) -> None:
        layout(self)

    def expand(self, count: int) -> Float:
        """The array of values for ``count`` variables; see `PerTarget.expand`."""
        return layout(self).expand(count)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A number that changes during training: a curve through ``knots`` values.

    With K knots v_0 … v_{K−1} and T steps, step t has

    - ``"linear"``: the point at ``s = t (K−1)/(T−1)`` of the straight lines through
      the knots, ``(1−f) v_k + f v_{k+1}`` with k = ⌊s⌋, f = s − k;
    - ``"cosine"``: the same with ``(1 − cos πf)/2`` in place of f: flat at the knots;
    - ``"constant"``: ``v_k`` with ``k = ⌊t K/T⌋``.

    Values are interpolated in user units, whatever the ``sampling`` of the range, and
    so stay inside of it. The first knot is the first step's value, the last knot the
    last one's; with another number of steps the curve is stretched. E, which is
    computed after the last step, sees a scheduled number of a layer at its last value.

    Args:
        each: Float, the range of a knot's value; or a `PerVariable` or `PerTarget` of
            it: a curve for each weight tensor, or each target.
        knots: int ≥ 1, K; at most the number of steps.
        interpolation: ``"linear"``, ``"constant"`` or ``"cosine"``.

    Raises:
        TypeError: ``each`` is none of these, or ``knots`` no integer.
        ValueError: no knots, or an unknown interpolation.

    Cost: one value for each step and each entry; a step reads its own only.

    Example:
        >>> Schedule(Float(1e-5, 1.0, sampling="log"), knots=10).expand().shape
        (10,)
    """

    each: "Float | PerTarget | PerVariable"
    _: dataclasses.KW_ONLY
    knots: int
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        if isinstance(self.knots, bool) or not isinstance(self.knots, int):
            raise TypeError(
                "`Schedule(knots=...)` must be an integer, the number of values that "
                f"the curve goes through. Received: {self.knots!r}."
            )
        if self.knots < 1:
            raise ValueError(
                f"`Schedule(knots=...)` must be at least 1. Received: {self.knots}."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`Schedule(interpolation=...)` must be one of {INTERPOLATIONS}. "
                f"Received: {self.interpolation!r}."
            )
        layout(self)

    def expand(self) -> Float:
        """The array of knots, shape ``(knots, *each.shape)``, of one number."""
        return layout(self).expand(1)


class Layout(NamedTuple):
    """What a nest of groups says: the axes in front of a value's own shape.

    ``each``: the innermost range; ``schedule``: the `Schedule`, whose knots are the
    first axis, or None; ``per``: "target", "variable" or None, what the next axis
    counts.
    """

    each: Float
    schedule: Schedule | None = None
    per: str | None = None

    def lead(self, count: int) -> tuple[int, ...]:
        """The axes in front; ``count`` targets or variables."""
        knots = () if self.schedule is None else (self.schedule.knots,)
        return knots if self.per is None else (*knots, count)

    def expand(self, count: int) -> Float:
        """One Float for all the values; a default is repeated."""
        each, lead = self.each, self.lead(count)
        if not lead:
            return each
        default, constraint = each.default, each.constraint
        shape = (*lead, *each.shape)
        if default is not None:
            default = np.broadcast_to(each.start(), shape).copy()
        if constraint is not None:
            constraint = _ForEach(constraint, len(lead))
        given = {f.name: getattr(each, f.name) for f in dataclasses.fields(each)}
        given |= {"default": default, "shape": shape, "constraint": constraint}
        given["curve"] = self.schedule is not None
        return Group(given.pop("min_value"), given.pop("max_value"), **given)


def layout(given: Any) -> Layout:
    """Reads a Float or a nest of groups; the order of nesting does not matter.

    Raises:
        TypeError: something else, or a nest that has no meaning.
    """
    schedule: Schedule | None = None
    per: str | None = None
    each = given
    while not isinstance(each, Float):
        if isinstance(each, Schedule) and schedule is None:
            schedule = each
        elif isinstance(each, PerTarget) and per is None:
            per = "target"
        elif isinstance(each, PerVariable) and per is None:
            per = "variable"
        else:
            raise TypeError(_unreadable(given, each))
        each = each.each
    return Layout(each, schedule, per)


def _unreadable(given: Any, at: Any) -> str:
    name = type(given).__name__
    if isinstance(at, (Schedule, PerTarget, PerVariable)):
        return (
            f"`{name}` holds `{type(at).__name__}` where there is one axis of that "
            "kind already, expected at most one Schedule, and one PerTarget or "
            "PerVariable, around a Float. Leave one of them out."
        )
    return (
        f"`{name}` holds the range of one value. Received: {at!r}. Write "
        f"`{name}(Float(min_value, max_value)"
        + (", knots=10)`." if name == "Schedule" else ")`.")
    )


@dataclasses.dataclass(frozen=True)
class _ForEach:
    """Applies a projection to every entry of the first ``axes`` axes."""

    constraint: Callable[[np.ndarray], np.ndarray]
    axes: int = 1

    def __call__(self, value: np.ndarray) -> np.ndarray:
        rows = value.reshape((-1, *value.shape[self.axes :]))
        projected = np.stack([np.asarray(self.constraint(row)) for row in rows])
        return projected.reshape((*value.shape[: self.axes], *projected.shape[1:]))
