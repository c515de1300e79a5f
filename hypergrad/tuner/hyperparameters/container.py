"""The space that a ``build_model(hp)`` describes while it asks for values."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hypergrad.tuner.hyperparameters.conditions import Parent, are_active, parent
from hypergrad.tuner.hyperparameters.kinds import (
    Boolean,
    Choice,
    Fixed,
    Float,
    HyperParameter,
    Int,
    from_config,
)


class HyperParameters:
    """A search space and the values of one point of it.

    Handed to ``build_model(hp)``: each call such as ``hp.Float("learning_rate", 1e-4,
    1e-1, sampling="log")`` adds an entry, where there is none of that name under the
    same conditions, and returns its value. What is in the container already counts: an
    entry that was put there before (`hyperparameters=` of a tuner) keeps its own range,
    whatever the model asks for.

    Attributes:
        space: list of `HyperParameter`, in the order they were asked for.
        values: dict, name → value, of the active entries only.
        active_scopes, inactive_scopes: lists of the conditions of every
            ``conditional_scope`` that was opened, by whether they held.

    Example:
        >>> def build_model(hp):
        ...     units = hp.Int("units", 32, 512, step=32)
        ...     rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    """

    def __init__(self) -> None:
        self.space: list[HyperParameter] = []
        self.values: dict[str, Any] = {}
        self.active_scopes: list[list[Parent]] = []
        self.inactive_scopes: list[list[Parent]] = []
        self._scopes: list[str] = []
        self._conditions: list[Parent] = []
        self._asked: list[HyperParameter] = []

    # What build_model calls

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """A real number.

        Args:
            name: str; equal names are one hyperparameter.
            min_value, max_value: the range, both ends included.
            step: distance of values, added on a linear scale, multiplied on the
                others; None: any value. With steps it is searched, never descended.
            sampling: "linear", "log" (even in log v) or "reverse_log" (even in
                log(max_value + min_value − v)).
            default: None: ``min_value``.
            parent_name, parent_values: active only while that hyperparameter has one of
                these values, as in `conditional_scope`.

        Returns:
            The value; None where the entry is not active.
        """
        with self._under(parent_name, parent_values):
            return self._ask(
                Float(
                    *(self._full(name), min_value, max_value, step, sampling, default),
                    conditions=self._conditions,
                )
            )

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """A whole number; arguments as of `Float`, ``step`` is 1 on a linear scale."""
        with self._under(parent_name, parent_values):
            return self._ask(
                Int(
                    *(self._full(name), min_value, max_value, step, sampling, default),
                    conditions=self._conditions,
                )
            )

    def Choice(
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,
        default: Any = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """One of ``values``: numbers, strings or bools, all of one type.

        ``ordered`` says whether neighbours are alike: by default where they are
        numbers. ``default``: None is the first. The others are as of `Float`.
        """
        with self._under(parent_name, parent_values):
            return self._ask(
                Choice(
                    *(self._full(name), values, ordered, default),
                    conditions=self._conditions,
                )
            )

    def Boolean(
        self,
        name: str,
        default: bool = False,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """True or False."""
        with self._under(parent_name, parent_values):
            return self._ask(
                Boolean(self._full(name), default, conditions=self._conditions)
            )

    def Fixed(
        self,
        name: str,
        value: Any,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """A value that is not tuned: a number, a string or a bool."""
        with self._under(parent_name, parent_values):
            return self._ask(
                Fixed(self._full(name), value, conditions=self._conditions)
            )

    @contextlib.contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Names inside are prefixed by ``name/``."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextlib.contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """What is asked inside is active while a parent has one of some values.

        The code inside runs in any case; calls return None while the condition does
        not hold. A tuner finds out about all branches from it, without running them.

        Raises:
            ValueError: there is no hyperparameter ``parent_name``.
        """
        name = self._full(parent_name)
        if not self._has(name, self._conditions):
            known = ", ".join(dict.fromkeys(entry.name for entry in self.space))
            raise ValueError(
                f"`parent_name` must be a hyperparameter that was asked for before. "
                f"Received: {name!r}; known here: {known or 'none'}."
            )
        condition = parent(name, parent_values)
        self._conditions.append(condition)
        holds = condition.is_active(self.values)
        seen = self.active_scopes if holds else self.inactive_scopes
        seen.append(list(self._conditions))
        try:
            yield
        finally:
            self._conditions.pop()

    def get(self, name: str) -> Any:
        """The value of an active hyperparameter.

        Raises:
            ValueError: it is not active now.
            KeyError: there is none.
        """
        name = self._full(name)
        if name in self.values:
            return self.values[name]
        if any(entry.name == name for entry in self.space):
            raise ValueError(f"{name} is currently inactive.")
        raise KeyError(f"{name} does not exist.")

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return self._full(name) in self.values

    # What tuners call

    def is_active(self, hyperparameter: Any) -> bool:
        """Whether an entry, or any entry of a name, is active at these values."""
        if isinstance(hyperparameter, HyperParameter):
            return are_active(hyperparameter.conditions, self.values)
        name = str(hyperparameter)
        return any(
            are_active(entry.conditions, self.values)
            for entry in self.space
            if entry.name == name
        )

    def merge(self, hps: Any, overwrite: bool = True) -> None:
        """Adds entries of another container, or of a list.

        ``overwrite``: known entries of the same name and conditions are replaced, and
        their values become the new defaults; without it they stay as they are.
        """
        entries = hps.space if isinstance(hps, HyperParameters) else list(hps)
        for entry in entries:
            if overwrite or not self._has(entry.name, entry.conditions):
                self._add(entry, overwrite)

    def ensure_active_values(self) -> None:
        """Gives active entries without a value a random one; drops inactive values."""
        for entry in self.space:
            if not self.is_active(entry):
                self.values.pop(entry.name, None)
            elif entry.name not in self.values:
                self.values[entry.name] = entry.random_sample()

    def copy(self) -> "HyperParameters":
        """The same space and values; scopes and what was asked are not copied."""
        return HyperParameters.from_config(self.get_config())

    def get_config(self) -> dict[str, Any]:
        """Space and values as JSON holds them, in the form that KerasTuner has."""
        space = [
            {"class_name": type(entry).__name__, "config": entry.get_config()}
            for entry in self.space
        ]
        return {"space": space, "values": dict(self.values)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "HyperParameters":
        new = cls()
        new.space = [from_config(entry) for entry in config["space"]]
        new.values = dict(config["values"])
        return new

    # Inside

    def _full(self, name: Any) -> str:
        return "/".join((*self._scopes, str(name)))

    def _has(self, name: str, conditions: Sequence[Parent]) -> bool:
        return self._find(name, conditions) is not None

    def _find(self, name: str, conditions: Sequence[Parent]) -> HyperParameter | None:
        for entry in self.space:
            if entry.name == name and entry.conditions == list(conditions):
                return entry
        return None

    @contextlib.contextmanager
    def _under(self, name: str | None, values: Any) -> Iterator[None]:
        if not name:
            yield
            return
        with self.conditional_scope(name, values):
            yield

    def _ask(self, entry: HyperParameter) -> Any:
        """The value of what is asked for, which is added where it is unknown."""
        self._check_asked_before(entry)
        known = self._find(entry.name, entry.conditions)
        if known is None:
            self._add(entry, overwrite=False)
            known = entry
        if not self.is_active(known):
            return None
        return self.values.setdefault(entry.name, known.default)

    def _check_asked_before(self, entry: HyperParameter) -> None:
        for other in self._asked:
            if other.name != entry.name or other.conditions != entry.conditions:
                continue
            if other != entry and not isinstance(other, Fixed):
                raise ValueError(
                    f"The hyperparameter {entry.name!r} is asked for twice, with "
                    f"different arguments: {other} and {entry}. One name is one "
                    "hyperparameter: use two names, or equal arguments."
                )
            return
        self._asked.append(entry)

    def _add(self, entry: HyperParameter, overwrite: bool) -> None:
        if any(condition.name == entry.name for condition in self._conditions):
            raise ValueError(
                "A hyperparameter must have another name than its parent. Received: "
                f"{entry.name!r} in a conditional scope of {entry.name!r}."
            )
        known = self._find(entry.name, entry.conditions)
        entry = type(entry).from_config(entry.get_config())
        if known is None:
            self.space.append(entry)
        else:
            self.space[self.space.index(known)] = entry
        if self.is_active(entry) and (overwrite or entry.name not in self.values):
            self.values[entry.name] = entry.default
