"""How the hyperparameters a user names reach the numbers of a compiled model."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from hypergrad import backend
from hypergrad.keras_checks import explained
from hypergrad.parts import hparam_dtype
from hypergrad.space import Float, PerTarget, default_float
from hypergrad.space.defaults import DEFAULT_RANGES
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
    declared = _declared(hyperparameters)
    targets = discover(model)
    if bind is not None:
        return _through_bind(targets, declared, bind)
    space, chosen, ranges = {}, {}, {}
    names: dict[str, list[str]] = {}
    for name, given in declared.items():
        found = resolve(targets, name)
        float_ = _completed(name, given, found)
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
    separate = {n for n, given in declared.items() if isinstance(given, PerTarget)}
    return TunableSpace(space, chosen, ranges, _spread(names, separate), names)


def _declared(hyperparameters: Any) -> dict[str, Any]:
    if isinstance(hyperparameters, str):
        hyperparameters = [hyperparameters]
    if isinstance(hyperparameters, Mapping):
        declared = dict(hyperparameters)
    elif not isinstance(hyperparameters, (list, tuple, set, frozenset)):
        raise TypeError(
            "`hyperparameters` must be a dict, path → hypergrad.Float, or a list of "
            f"paths. Received: {hyperparameters!r}. Write for instance "
            "['optimizer.learning_rate']; hg.tunables(model) lists the paths."
        )
    else:
        declared = dict.fromkeys(hyperparameters)
    if not declared:
        raise ValueError(
            "`hyperparameters` is empty. Name at least one path, such as "
            "'optimizer.learning_rate'; hg.tunables(model) lists them."
        )
    for name, given in declared.items():
        if not isinstance(name, str):
            raise TypeError(
                f"`hyperparameters` must name paths as strings. Received: {name!r}."
            )
        if isinstance(given, (int, bool)) or (
            given is not None and not isinstance(given, (Float, PerTarget))
        ):
            raise TypeError(
                f"`hyperparameters[{name!r}]` must be a hypergrad.Float, which says "
                f"the range that may be searched. Received: {given!r}. Write for "
                "instance `hg.Float(1e-5, 1.0, sampling='log')`. Integers and choices "
                "have no derivative: they belong to the tuner."
            )
    return declared


def _completed(name: str, given: Any, found: list[Target]) -> Float:
    """A `Float` with a default; where none is given, what the compiled model holds."""
    current = [0.0 if t.value is None else t.value for t in found]
    declared = given.each if isinstance(given, PerTarget) else given
    held = np.shape(current[0])
    if declared is not None and declared.shape not in ((), held):
        raise ValueError(
            f"{name!r} is {'one number' if held == () else f'an array {held}'} in the "
            f"model, expected a Float of shape {held}. Received: shape "
            f"{declared.shape}. Leave `shape` out, or return hg.PerStep(…) of it from "
            "`bind=` for a value for each step."
        )
    if isinstance(given, PerTarget):
        float_ = given.expand(len(found))
        default = np.stack([np.asarray(v, "float64") for v in current])
    else:
        if given is None:
            given = default_float(found[0].attribute, _one(name, current), path=name)
        float_, default = given, np.asarray(current[0], "float64")
        if float_.default is None:
            default = np.asarray(_one(name, current), "float64")
    try:
        return float_.with_default(name, _item(default))
    except ValueError as error:
        raise ValueError(
            f"The compiled model holds {name} = {_text(default)}, which does not fit "
            f"the declared range. Pass `default=`, or widen it. ({error})"
        ) from error


def _one(name: str, current: list) -> Any:
    if any(not np.array_equal(v, current[0]) for v in current):
        raise ValueError(
            f"{name!r} is one value for {len(current)} targets, and the compiled model "
            f"holds different ones: {current}. Pass `default=`, or hg.PerTarget(…) for "
            "one value each."
        )
    return current[0]


def _item(value: np.ndarray) -> Any:
    return value.item() if value.ndim == 0 else value


def _text(value: np.ndarray) -> str:
    return f"{value.item():g}" if value.ndim == 0 else str(value)


def _spread(names: Mapping[str, list[str]], separate: set[str]) -> Callable | None:
    """The bind that writes a name's value to each of its paths."""
    if all(paths == [name] for name, paths in names.items()) and not separate:
        return None

    def bind(hparams: Mapping[str, Any]) -> dict[str, Any]:
        bound = {}
        for name, paths in names.items():
            for i, path in enumerate(paths):
                bound[path] = hparams[name][i] if name in separate else hparams[name]
        return bound

    return bind


def _through_bind(
    targets: list[Target], declared: Mapping[str, Any], bind: Callable
) -> TunableSpace:
    for name, given in declared.items():
        if not isinstance(given, Float) or given.default is None:
            raise ValueError(
                f"With `bind=`, {name!r} is a name of your own: pass a hypergrad.Float "
                f"with a `default`. Received: {given!r}."
            )
    space = dict(declared)
    bound = _called(bind, space)
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

    def spread(hparams: Mapping[str, Any]) -> Any:
        bound = bind(hparams)
        if not isinstance(bound, Mapping) or set(bound) != set(patterns.values()):
            names = sorted(bound) if isinstance(bound, Mapping) else bound
            raise ValueError(
                "`bind` must return the same paths every time. Expected: "
                f"{sorted(set(patterns.values()))}. Received: {names}. Let only the "
                "values depend on the hyperparameters."
            )
        return {path: bound[pattern] for path, pattern in patterns.items()}

    ranges = {path: _natural_range(t.attribute) for path, t in chosen.items()}
    return TunableSpace(space, chosen, ranges, spread)


def _called(bind: Callable, space: Mapping[str, Float]) -> Any:
    """What ``bind`` returns at the defaults, called as it will be: in a trace."""
    dtype = hparam_dtype()
    defaults = {
        name: backend.convert(f.cast(f.start(), dtype)) for name, f in space.items()
    }
    returned = []

    def call(hparams: dict) -> list:
        with explained("`bind`"):
            returned.append(bind(hparams))
        return []

    backend.jit(call)(defaults)
    return returned[-1]


def _natural_range(attribute: str) -> tuple[float | None, float | None]:
    """What an attribute can mean at all: a bind declares no range for its paths."""
    row = DEFAULT_RANGES.get(attribute)
    if row is None:
        return None, None
    low = row.hard_low if np.isfinite(row.hard_low) else None
    return low, row.hard_high if np.isfinite(row.hard_high) else None


def _closed(interval: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = interval
    return (
        -np.inf if low is None else float(low),
        np.inf if high is None else float(high),
    )
