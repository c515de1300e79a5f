"""When a hyperparameter is active: its parent has one of some values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

SCALARS = (str, bool, int, float)
"""What JSON, a database and a Python ``==`` agree on."""


@dataclasses.dataclass(frozen=True)
class Parent:
    """Holds while the hyperparameter ``name`` is one of ``values``."""

    name: str
    values: tuple

    def is_active(self, values: Mapping[str, Any]) -> bool:
        return self.name in values and values[self.name] in self.values

    def __str__(self) -> str:
        return f"{self.name} in {list(self.values)}"


def parent(name: str, values: Any) -> Parent:
    """A `Parent` of one value or a sequence of them."""
    if not isinstance(values, (list, tuple)):
        values = [values]
    if not values or not all(isinstance(value, SCALARS) for value in values):
        raise TypeError(
            f"`parent_values` of a condition on {name!r} must be numbers, strings or "
            f"bools, at least one. Received: {values!r}."
        )
    return Parent(name, tuple(values))


def are_active(conditions: Sequence[Parent], values: Mapping[str, Any]) -> bool:
    return all(condition.is_active(values) for condition in conditions)
