"""The five kinds of hyperparameters, with KerasTuner's words and semantics.

Constructors bring what they are given to one form (``min_value=0`` of a `Float` is
0.0), so that an entry that was saved and read again is equal to the one before.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypergrad.tuner.hyperparameters import steps
from hypergrad.tuner.hyperparameters.conditions import SCALARS, Parent, parent

SAMPLINGS = ("linear", "log", "reverse_log")


class HyperParameter:
    """A named entry of a search space.

    Entries of one name under different conditions are different entries.

    Attributes:
        name: str, with the name scopes it was made in.
        default: the value it has where nothing else is said.
        conditions: list of `Parent`, all of which must hold for it to be active.
        values: what a grid tries; ten values where there are no steps.
    """

    name: str
    default: Any
    conditions: list[Parent]

    @property
    def values(self) -> Sequence[Any]:
        raise NotImplementedError

    def prob_to_value(self, prob: float) -> Any:
        """The value at a quantile in [0, 1)."""
        raise NotImplementedError

    def value_to_prob(self, value: Any) -> float:
        """The quantile of a value, the middle of its part where there are steps."""
        raise NotImplementedError

    def random_sample(self, seed: Any = None) -> Any:
        return self.prob_to_value(random.Random(seed).random())

    def arguments(self) -> dict[str, Any]:
        """What it was made with, but ``name`` and ``conditions``."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        conditions = [
            {
                "class_name": "Parent",
                "config": {"name": c.name, "values": list(c.values)},
            }
            for c in self.conditions
        ]
        return {"name": self.name, "conditions": conditions, **self.arguments()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "HyperParameter":
        known = dict(config)
        known["conditions"] = [
            c if isinstance(c, Parent) else parent(**c["config"])
            for c in known.get("conditions") or ()
        ]
        return cls(**known)

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and other.get_config() == self.get_config()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = ", ".join(f"{k}: {v!r}" for k, v in self.arguments().items())
        return f"{type(self).__name__}(name: {self.name!r}, {given})"


class Float(HyperParameter):
    """A real number in [min_value, max_value]; see `hp.Float`."""

    def __init__(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str | None = "linear",
        default: float | None = None,
        conditions: Iterable[Parent] = (),
    ):
        self.name = name
        self.conditions = list(conditions)
        self.min_value = float(min_value)
        self.max_value = float(max_value)
        self.step = None if step is None else float(step)
        self.sampling = _sampling(self, sampling)
        _check_range(self)
        self.default = self.min_value if default is None else default

    @property
    def values(self) -> list[float]:
        return _values(self)

    def prob_to_value(self, prob: float) -> float:
        if self.step is not None:
            return _stepped(self, prob)
        return steps.value_at(self.sampling, prob, self.min_value, self.max_value)

    def value_to_prob(self, value: float) -> float:
        if self.step is not None:
            return _part(self, value)
        return steps.quantile_of(self.sampling, value, self.min_value, self.max_value)

    def arguments(self) -> dict[str, Any]:
        return _numerical(self)


class Int(HyperParameter):
    """A whole number from min_value to max_value, both included; see `hp.Int`."""

    def __init__(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str | None = "linear",
        default: int | None = None,
        conditions: Iterable[Parent] = (),
    ):
        self.name = name
        self.conditions = list(conditions)
        self.sampling = _sampling(self, sampling)
        if step is None and self.sampling == "linear":
            step = 1
        self.min_value = _whole(self, "min_value", min_value)
        self.max_value = _whole(self, "max_value", max_value)
        self.step = None if step is None else _whole(self, "step", step)
        _check_range(self)
        self.default = self.min_value if default is None else default

    @property
    def values(self) -> list[int]:
        return _values(self)

    def prob_to_value(self, prob: float) -> int:
        if self.step is not None:
            return int(_stepped(self, prob))
        # Up to max_value + 1, so that max_value has its part.
        high = self.max_value + 1
        return int(steps.value_at(self.sampling, prob, self.min_value, high))

    def value_to_prob(self, value: int) -> float:
        if self.step is not None:
            return _part(self, value)
        high = self.max_value + 1
        return steps.quantile_of(self.sampling, value + 0.5, self.min_value, high)

    def arguments(self) -> dict[str, Any]:
        return _numerical(self)


class Choice(HyperParameter):
    """One of some numbers, strings or bools of one type; see `hp.Choice`."""

    def __init__(
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,
        default: Any = None,
        conditions: Iterable[Parent] = (),
    ):
        self.name = name
        self.conditions = list(conditions)
        self._values = list(values or ())
        if not self._values:
            raise ValueError(f"{_called(self)} needs at least one value in `values`.")
        kinds = {type(value) for value in self._values}
        if len(kinds) > 1 or not isinstance(self._values[0], SCALARS):
            raise TypeError(
                f"{_called(self)} must have values of one type: str, int, float or "
                f"bool. Received: values={values}."
            )
        if default is not None and default not in self._values:
            raise ValueError(
                f"{_called(self)}: `default` must be one of the values "
                f"{self._values}. Received: default={default!r}."
            )
        numeric = isinstance(self._values[0], (int, float))
        if ordered and not numeric:
            raise ValueError(
                f"{_called(self)}: `ordered` must be False, strings have no order. "
                "Received: ordered=True."
            )
        self.ordered = numeric if ordered is None else bool(ordered)
        self.default = self._values[0] if default is None else default

    @property
    def values(self) -> list[Any]:
        return self._values

    def prob_to_value(self, prob: float) -> Any:
        return self._values[steps.part_of(prob, len(self._values))]

    def value_to_prob(self, value: Any) -> float:
        return steps.middle_of(self._values.index(value), len(self._values))

    def arguments(self) -> dict[str, Any]:
        return {
            "values": list(self._values),
            "ordered": self.ordered,
            "default": self.default,
        }


class Boolean(HyperParameter):
    """True or False; see `hp.Boolean`."""

    def __init__(
        self, name: str, default: bool = False, conditions: Iterable[Parent] = ()
    ):
        self.name = name
        self.conditions = list(conditions)
        if default not in (True, False):
            raise ValueError(
                f"{_called(self)}: `default` must be True or False. Received: "
                f"default={default!r}."
            )
        self.default = bool(default)

    @property
    def values(self) -> tuple[bool, bool]:
        return (True, False)

    def prob_to_value(self, prob: float) -> bool:
        return prob >= 0.5

    def value_to_prob(self, value: bool) -> float:
        return 0.75 if value else 0.25

    def arguments(self) -> dict[str, Any]:
        return {"default": self.default}


class Fixed(HyperParameter):
    """One value, not tuned; see `hp.Fixed`."""

    def __init__(self, name: str, value: Any, conditions: Iterable[Parent] = ()):
        self.name = name
        self.conditions = list(conditions)
        if not isinstance(value, SCALARS):
            raise ValueError(
                f"{_called(self)}: the value must be an int, float, str or bool. "
                f"Received: {value!r}."
            )
        self.value = self.default = value

    @property
    def values(self) -> tuple[Any]:
        return (self.value,)

    def prob_to_value(self, prob: float) -> Any:
        return self.value

    def value_to_prob(self, value: Any) -> float:
        return 0.5

    def arguments(self) -> dict[str, Any]:
        return {"value": self.value}


KINDS: dict[str, type[HyperParameter]] = {
    kind.__name__: kind for kind in (Fixed, Float, Int, Choice, Boolean)
}


def from_config(config: Mapping[str, Any]) -> HyperParameter:
    """An entry of ``{"class_name": …, "config": …}``."""
    return KINDS[config["class_name"]].from_config(config["config"])


def _called(entry: HyperParameter) -> str:
    return f"hp.{type(entry).__name__}({entry.name!r})"


def _sampling(entry: HyperParameter, sampling: Any) -> str:
    """The name of the scale; None is KerasTuner's old word for linear."""
    known = "linear" if sampling is None else str(sampling).lower()
    if known not in SAMPLINGS:
        raise ValueError(
            f"{_called(entry)}: `sampling` must be one of {', '.join(SAMPLINGS)}. "
            f"Received: {sampling!r}."
        )
    return known


def _whole(entry: HyperParameter, argument: str, value: Any) -> int:
    if int(value) != value:
        raise ValueError(
            f"{_called(entry)}: `{argument}` must be a whole number. Received: "
            f"{value!r}."
        )
    return int(value)


def _check_range(entry: Any) -> None:
    low, high, step = entry.min_value, entry.max_value, entry.step
    if low > high:
        raise ValueError(
            f"{_called(entry)}: `min_value` must be at most `max_value`. Received: "
            f"{low} and {high}."
        )
    if entry.sampling == "linear":
        if step is not None and step <= 0:
            raise ValueError(
                f"{_called(entry)}: `step` must be above 0. Received: {step}."
            )
        return
    if low <= 0:
        raise ValueError(
            f"{_called(entry)}: sampling={entry.sampling!r} needs `min_value` above "
            f"0. Received: {low}."
        )
    if step is not None and step <= 1:
        raise ValueError(
            f"{_called(entry)}: with sampling={entry.sampling!r} a value is `step` "
            f"times the one before, `step` must be above 1. Received: {step}."
        )


def _numerical(entry: Any) -> dict[str, Any]:
    return {
        "min_value": entry.min_value,
        "max_value": entry.max_value,
        "step": entry.step,
        "sampling": entry.sampling,
        "default": entry.default,
    }


def _scale(entry: Any) -> tuple[str, float, float, float]:
    return entry.sampling, entry.min_value, entry.max_value, entry.step


def _number(entry: Any) -> int:
    return steps.number_of_steps(*_scale(entry))


def _value_at_step(entry: Any, index: int) -> Any:
    sampling, low, high, step = _scale(entry)
    return type(entry.min_value)(steps.value_of_step(sampling, index, low, high, step))


def _stepped(entry: Any, prob: float) -> Any:
    return _value_at_step(entry, steps.part_of(prob, _number(entry)))


def _part(entry: Any, value: float) -> float:
    sampling, low, high, step = _scale(entry)
    index = steps.step_of_value(sampling, value, low, high, step)
    return steps.middle_of(index, _number(entry))


def _values(entry: Any) -> list[Any]:
    if entry.step is not None:
        return [_value_at_step(entry, i) for i in range(_number(entry))]
    tenths = (entry.prob_to_value(steps.middle_of(i, 10)) for i in range(10))
    return list(dict.fromkeys(tenths))
