"""How the hyperparameters a user names reach the numbers of a compiled model."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
from keras import ops

from hypergrad.binding import natural_range, returned_by, spread
from hypergrad.declarations import completed, declared
from hypergrad.parts import PerExample
from hypergrad.space import Float
from hypergrad.targets import Target, discover, inject, resolve, settle
from hypergrad.targets.loss_weights import ALL
from hypergrad.traced import Traced


@dataclasses.dataclass(frozen=True)
class TunableSpace:
    """A space, and what its values are written to.

    ``space``: dict, name → `Float` with its default. ``targets``: dict, canonical path
    → `Target`. ``ranges``: dict, path → (low, high) as declared; None where open.
    ``bind``: function, dict of hparams → {path: value}, or None where names are paths.
    ``paths``: dict, name → its paths; empty where the user's own bind decides.
    ``rows``: names whose values are rows of the examples, which pass ``bind`` by.
    """

    space: dict[str, Float]
    targets: dict[str, Target]
    ranges: dict[str, tuple[float | None, float | None]]
    bind: Callable | None
    paths: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    rows: tuple[str, ...] = ()

    def fixed_ranges(self, optimizer: bool) -> dict[str, tuple[float, float]]:
        """The ranges of names that code has been asked about while it was traced.

        ``optimizer``: whether the optimizer's own code is asked.
        """
        fixed = {}
        for name, paths in self.paths.items():
            targets = [self.targets[path] for path in paths]
            if any(t.form == "traced" for t in targets) or (
                optimizer and any(t.kind == "optimizer" for t in targets)
            ):
                fixed[name] = _closed(self.ranges[paths[0]])
        return fixed

    @property
    def optimizer_attributes(self) -> dict[str, tuple[float, float]]:
        """What the rule receives as traced numbers: attribute → (low, high)."""
        return {
            target.rule_name: _closed(self.ranges[path])
            for path, target in self.targets.items()
            if target.kind == "optimizer"
        }

    def optimizer_values(self, hparams: Mapping[str, Any]) -> dict[str, Any]:
        """The rule's part of what a bind returned."""
        return {
            target.rule_name: Traced(hparams[path], *self.ranges[path], path)
            if target.form == "traced"
            else hparams[path]
            for path, target in self.targets.items()
            if target.kind == "optimizer" and path in hparams
        }

    @property
    def model_targets(self) -> dict[str, Target]:
        """What is written into the model while it is traced; path → target."""
        return {p: t for p, t in self.targets.items() if t.injected}

    def of_kind(self, *kinds: str) -> dict[str, Target]:
        """The targets of some kinds; path → target."""
        return {p: t for p, t in self.targets.items() if t.kind in kinds}

    @property
    def moves_the_start(self) -> bool:
        """Whether the state before the first step depends on hyperparameters."""
        return bool(self.of_kind("initial", "scale"))

    def variables(self, hparams: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """(variable, value) of the constants among a model's variables."""
        return [
            (target.owner, _like(hparams[path], target.owner))
            for path, target in self.of_kind("variable").items()
            if path in hparams
        ]

    def started(
        self, hparams: Mapping[str, Any], variables: Sequence[Any], values: list
    ) -> list:
        """The initial values of variables, where they are tuned the tuned ones."""
        starts = self.of_kind("initial", "scale")
        places = {id(variable): i for i, variable in enumerate(variables)}
        values = list(values)
        for path, target in starts.items():
            i = places.get(id(target.owner))
            if i is None or path not in hparams:
                continue
            new = _like(hparams[path], target.owner)
            values[i] = new if target.kind == "initial" else values[i] * new
        return values

    def injected(
        self, hparams: Mapping[str, Any], held: Collection[str] = ()
    ) -> AbstractContextManager[None]:
        """Context in which the model holds ``hparams``.

        Targets of the kinds in ``held`` keep what the compiled model holds.
        """
        return inject(
            (target, hparams[path], *self.ranges[path])
            for path, target in self.model_targets.items()
            if path in hparams and target.kind not in held
        )

    def settled(self, run: Callable[[Any], Any]) -> "TunableSpace":
        """The same with the form of every target decided; see `settle`."""
        if all(t.form != "unknown" for t in self.targets.values()):
            return self
        paths = list(self.model_targets)
        dtype = keras.config.floatx()
        assignments = [
            (self.targets[p], np.asarray(self.targets[p].value, dtype), *self.ranges[p])
            for p in paths
        ]
        new = dict(zip(paths, settle(assignments, run), strict=True))
        return dataclasses.replace(self, targets=self.targets | new)


def tunable_space(
    model: Any,
    hyperparameters: Mapping[str, Any] | Sequence[str],
    bind: Callable | None = None,
    train: Mapping[str, Any] | None = None,
    class_weight: Mapping[int, float] | None = None,
) -> TunableSpace:
    """Resolves what a user wrote as ``hyperparameters=`` against a compiled model.

    Args:
        model: compiled and built ``keras.Model``.
        hyperparameters: dict, path or pattern → `Float`, or `PerTarget`,
            `PerVariable`, `Schedule` of one; or a list of paths, which get
            `default_float`. With ``bind``, any names → `Float` with a
            default.
        bind: function, dict of hparams → {path or pattern: value}, or None.
        train: dict of training arrays, for the paths of data.
        class_weight: as given to ``fit``.

    Raises:
        ValueError, TypeError: what cannot be resolved.
    """
    named = declared(hyperparameters)
    targets = discover(model, train, class_weight)
    if bind is not None:
        return _through_bind(targets, named, bind)
    space, chosen, ranges, layouts = {}, {}, {}, {}
    num_variables = max(1, len(model.trainable_variables))  # 0 before it is built
    names: dict[str, list[str]] = {}
    for name, given in named.items():
        found = resolve(targets, name)
        space[name], layouts[name] = completed(name, given, found, num_variables)
        float_ = layouts[name].each
        names[name] = [t.path for t in found]
        for target in found:
            if target.path in chosen:
                first = next(n for n, paths in names.items() if target.path in paths)
                raise ValueError(
                    f"{target.path!r} is named twice, by {first!r} and by {name!r}. "
                    "A number can have one value: leave one of the two out."
                )
            chosen[target.path] = target
            ranges[target.path] = (float_.min_value, float_.max_value)
    _check_apart(chosen)
    rows = tuple(
        name
        for name, paths in names.items()
        if paths == [name] and chosen[name].per_example
    )
    others = {name: paths for name, paths in names.items() if name not in rows}
    passed = {path: t for path, t in chosen.items() if path not in rows}
    bind = _marked(spread(others, layouts), passed)
    return TunableSpace(space, chosen, ranges, bind, names, rows)


def _marked(bind: Callable | None, chosen: Mapping[str, Target]) -> Callable | None:
    """The bind with the rows of examples marked: a step sees those of its batch."""
    paths = [path for path, target in chosen.items() if target.per_example]
    if not paths:
        return bind

    def marked(hparams: Mapping[str, Any]) -> dict[str, Any]:
        bound = dict(hparams if bind is None else bind(hparams))
        for path in paths:
            if not isinstance(bound[path], PerExample):
                bound[path] = PerExample(bound[path])
        return bound

    return marked


def _check_apart(chosen: Mapping[str, Target]) -> None:
    """Refuses two paths that set the same number in different ways."""
    places: dict[tuple[int, str], str] = {}
    for path, target in chosen.items():
        if target.kind in ("initial", "scale", "variable"):
            key = (id(target.owner), "variable")
        elif target.form == "weight":
            key = (id(target.owner), "weights")
        else:
            continue
        other = places.setdefault(key, path)
        both = {chosen[other].attribute, target.attribute}
        if other != path and (key[1] == "variable" or ALL in both):
            raise ValueError(
                f"{other!r} and {path!r} both set the same numbers, expected one of "
                "them. Received both. Leave one out."
            )


def _like(value: Any, variable: Any) -> Any:
    """A value as a tensor of a variable's dtype and shape."""
    return ops.broadcast_to(ops.cast(value, variable.dtype), variable.shape)


def _through_bind(
    targets: list[Target], named: Mapping[str, Any], bind: Callable
) -> TunableSpace:
    for name, given in named.items():
        if not isinstance(given, Float) or given.default is None:
            raise ValueError(
                f"With `bind=`, {name!r} is a name of your own: pass a hypergrad.Float "
                f"with a `default`. Received: {given!r}."
            )
    space = dict(named)
    bound = returned_by(bind, space)
    if not isinstance(bound, Mapping) or not bound:
        raise TypeError(
            "`bind` must return a dict, path → value, with at least one entry. "
            f"Received: {bound!r}. hg.tunables(model) lists the paths."
        )
    chosen: dict[str, Target] = {}
    patterns: dict[str, str] = {}
    for pattern in bound:
        for target in resolve(targets, pattern):
            if target.path in chosen:
                raise ValueError(
                    f"{target.path!r} is named twice by what `bind` returns, by "
                    f"{patterns[target.path]!r} and by {pattern!r}. A number can have "
                    "one value: leave one of the two out."
                )
            chosen[target.path], patterns[target.path] = target, pattern

    def checked(hparams: Mapping[str, Any]) -> Any:
        bound = bind(hparams)
        if not isinstance(bound, Mapping) or set(bound) != set(patterns.values()):
            names = sorted(bound) if isinstance(bound, Mapping) else bound
            raise ValueError(
                "`bind` must return the same paths every time. Expected: "
                f"{sorted(set(patterns.values()))}. Received: {names}. Let only the "
                "values depend on the hyperparameters."
            )
        return {path: bound[pattern] for path, pattern in patterns.items()}

    ranges = {path: natural_range(t.range_name) for path, t in chosen.items()}
    _check_apart(chosen)
    return TunableSpace(space, chosen, ranges, _marked(checked, chosen))


def _closed(interval: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = interval
    return (
        -np.inf if low is None else float(low),
        np.inf if high is None else float(high),
    )
