"""Which hyperparameters reach training differentiably: found, not declared.

The model is built at several values of each `Float`. What differs between the models
are either numbers that `hypergrad` can tune, moved by a formula that is recognised:
then the hyperparameter is descended through it. Or it is anything else: then it is
searched, and the reason is kept.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from hypergrad.samples import seeded
from hypergrad.space import Float as Range
from hypergrad.targets import discover
from hypergrad.tuner.hyperparameters import Float, HyperParameters
from hypergrad.tuner.maps import Map, recognised, tabulated
from hypergrad.tuner.scalars import scalars

QUANTILES = (0.03, 0.25, 0.5, 0.75, 0.97)
"""Where in its range a hyperparameter is looked at."""

MARGIN = 1e-9


@dataclasses.dataclass(frozen=True)
class Reach:
    """What the hyperparameters of a space do in the models at one point.

    ``descended``: name → {path: `Map`}; ``searched``: name → why.
    """

    descended: dict[str, dict[str, Map]]
    searched: dict[str, str]

    @property
    def of_the_loss(self) -> list[str]:
        """The names that move numbers of the compiled loss, its weights included."""
        return [
            name
            for name, paths in self.descended.items()
            if any(path.startswith(("loss.", "loss_weights")) for path in paths)
        ]

    def ranges(self, hp: HyperParameters) -> dict[str, Range]:
        """Name → range for a descent that starts at the values of ``hp``."""
        return {
            entry.name: _range(entry, hp.values[entry.name])
            for entry in hp.space
            if isinstance(entry, Float)
            and entry.name in self.descended
            and hp.is_active(entry)
        }

    def bind(self, hparams: Mapping[str, Any]) -> dict[str, Any]:
        """hparams → {path: value}."""
        return {
            path: formula(hparams[name])
            for name, paths in self.descended.items()
            for path, formula in paths.items()
        }


@dataclasses.dataclass(frozen=True)
class _Held:
    """What a model holds: numbers that can be tuned, others, and why they cannot."""

    numbers: dict[str, float]
    refused: dict[str, tuple[Any, str]]
    rest: dict[str, Any]


def reach(build: Callable[[HyperParameters], Any], hp: HyperParameters) -> Reach:
    """What each active `Float` moves around the values of ``hp``.

    Args:
        build: function, `HyperParameters` → compiled model.
        hp: the point; it is not changed.

    Cost: five models for each `Float`, and two.
    """
    base = _held(build, hp, {})
    same = _held(build, hp, {})
    restless = {path for path in base.rest if base.rest[path] != same.rest.get(path)}
    descended: dict[str, dict[str, Map]] = {}
    searched: dict[str, str] = {}
    for entry in hp.space:
        if not hp.is_active(entry) or len(entry.values) < 2:
            continue
        if not isinstance(entry, Float):
            searched[entry.name] = "a choice or a whole number has no derivative"
        elif entry.step is not None:
            searched[entry.name] = "with `step` it has no derivative"
        else:
            found = _moved(build, hp, entry, base, restless)
            if isinstance(found, str):
                searched[entry.name] = found
            else:
                descended[entry.name] = found
    return _without_shared(descended, searched)


def _moved(
    build: Callable, hp: HyperParameters, entry: Float, base: _Held, restless: set[str]
) -> dict[str, Map] | str:
    """{path: formula} of what a hyperparameter moves, or why it is searched."""
    points = [entry.prob_to_value(q) for q in QUANTILES]
    try:
        models = [_held(build, hp, {entry.name: v}) for v in points]
    except Exception as error:  # the user's own code, at values it was not made for
        return f"the model cannot be built at all of its values: {error}"
    if any(set(m.numbers) != set(base.numbers) for m in models):
        return "it changes the structure of the model"
    for model in models:
        why = _other_changes(base, model, restless)
        if why is not None:
            return why
    paths = [
        path
        for path in base.numbers
        if any(not _equal(m.numbers[path], models[0].numbers[path]) for m in models)
    ]
    if not paths:
        return "it moves nothing that the compiled model holds"
    found = {}
    for path in paths:
        if any(np.ndim(m.numbers[path]) for m in models):
            return f"it moves an array, {path}"
        formula = recognised(points, [m.numbers[path] for m in models])
        if formula is None:
            formula = _table(build, hp, entry, path, points)
        if formula is None:
            return f"it moves {path} by a formula that is not smooth"
        found[path] = formula
    return found


def _table(
    build: Callable, hp: HyperParameters, entry: Float, path: str, points: list
) -> Map | None:
    def held(value: float) -> float:
        return _held(build, hp, {entry.name: value}).numbers[path]

    return tabulated(entry.min_value, entry.max_value, held)


def _other_changes(base: _Held, model: _Held, restless: set[str]) -> str | None:
    """What a hyperparameter moves besides numbers that can be tuned."""
    for path, (value, reason) in base.refused.items():
        other = model.refused.get(path, (value, ""))[0]
        if not _equal(value, other):
            return f"{path}: {reason}"
    if set(model.rest) - restless != set(base.rest) - restless:
        return "it changes the structure of the model"
    for path, value in base.rest.items():
        if path not in restless and not _equal(value, model.rest[path]):
            return f"it moves {path.removeprefix('model.')}, which is no target"
    return None


def _held(build: Callable, hp: HyperParameters, values: Mapping[str, Any]) -> _Held:
    here = hp.copy()
    here.values.update(values)
    keras.backend.clear_session(free_memory=False)
    with seeded(0):
        model = build(here)
    targets = [t for t in discover(model) if t.kind not in ("initial", "scale")]
    places = {(id(t.owner), t.attribute) for t in targets}
    numbers = {t.path: t.value for t in targets if t.reason is None}
    refused = {t.path: (t.value, t.reason) for t in targets if t.reason is not None}
    rest = {
        path: scalar.value
        for path, scalar in scalars(model).items()
        if (scalar.owner, scalar.attribute) not in places
    }
    return _Held(numbers, refused, rest)


def _without_shared(
    descended: dict[str, dict[str, Map]], searched: dict[str, str]
) -> Reach:
    """A number of the model that two hyperparameters move follows the first one."""
    mover: dict[str, str] = {}
    for name, paths in list(descended.items()):
        shared = [path for path in paths if path in mover]
        if shared:
            searched[name] = (
                f"it moves {shared[0]}, which {mover[shared[0]]!r} moves as well"
            )
            del descended[name]
            continue
        mover.update(dict.fromkeys(paths, name))
    return Reach(descended, searched)


def _range(entry: Float, value: float) -> Range:
    """The range of a descent; the scale of hypergrad that is nearest."""
    sampling = entry.sampling
    if sampling == "reverse_log" and entry.max_value >= 1.0:
        sampling = "linear"
    default = float(np.clip(value, entry.min_value, entry.max_value))
    return Range(
        entry.min_value,
        entry.max_value,
        sampling=sampling,  # type: ignore[arg-type]
        default=default,
    )


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if np.ndim(a) or np.ndim(b) else a == b
