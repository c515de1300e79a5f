"""How the hyperparameters a user names reach the numbers of a compiled model."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from hypergrad.binding import natural_range, returned_by, spread
from hypergrad.declarations import completed, declared
from hypergrad.space import Float, PerTarget
from hypergrad.targets import Target, discover, inject, resolve, settle


@dataclasses.dataclass(frozen=True)
class TunableSpace:
    """A space, and what its values are written to.

    ``space``: dict, name → `Float` with its default. ``targets``: dict, canonical path
    → `Target`. ``ranges``: dict, path → (low, high) as declared; None where open.
    ``bind``: function, dict of hparams → {path: value}, or None where names are paths.
    ``paths``: dict, name → its paths; empty where the user's own bind decides.
    """

    space: dict[str, Float]
    targets: dict[str, Target]
    ranges: dict[str, tuple[float | None, float | None]]
    bind: Callable | None
    paths: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)

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
            target.attribute: _closed(self.ranges[path])
            for path, target in self.targets.items()
            if target.kind == "optimizer"
        }

    def optimizer_values(self, hparams: Mapping[str, Any]) -> dict[str, Any]:
        """The rule's part of what a bind returned."""
        return {
            target.attribute: hparams[path]
            for path, target in self.targets.items()
            if target.kind == "optimizer" and path in hparams
        }

    @property
    def model_targets(self) -> dict[str, Target]:
        """What is written into the model while it is traced; path → target."""
        return {p: t for p, t in self.targets.items() if t.kind != "optimizer"}

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

    def settled(self, run: Callable[[], Any]) -> "TunableSpace":
        """The same with the form of every target decided; ``run`` computes a loss."""
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
) -> TunableSpace:
    """Resolves what a user wrote as ``hyperparameters=`` against a compiled model.

    Args:
        model: compiled and built ``keras.Model``.
        hyperparameters: dict, path or pattern → `Float` or `PerTarget`; or a list of
            paths, which get `default_float`. With ``bind``, any names → `Float` with a
            default.
        bind: function, dict of hparams → {path or pattern: value}, or None.

    Raises:
        ValueError, TypeError: what cannot be resolved.
    """
    named = declared(hyperparameters)
    targets = discover(model)
    if bind is not None:
        return _through_bind(targets, named, bind)
    space, chosen, ranges = {}, {}, {}
    names: dict[str, list[str]] = {}
    for name, given in named.items():
        found = resolve(targets, name)
        float_ = completed(name, given, found)
        space[name] = float_
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
    separate = {n for n, given in named.items() if isinstance(given, PerTarget)}
    return TunableSpace(space, chosen, ranges, spread(names, separate), names)


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

    ranges = {path: natural_range(t.attribute) for path, t in chosen.items()}
    return TunableSpace(space, chosen, ranges, checked)


def _closed(interval: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = interval
    return (
        -np.inf if low is None else float(low),
        np.inf if high is None else float(high),
    )
