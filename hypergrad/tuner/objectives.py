"""What a search looks for: a metric, and whether less or more of it is better."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

_LEAST = frozenset({"loss", "crossentropy", "ce"})
_MOST = frozenset({"acc", "accuracy"})
_MOST_CLASSES = frozenset(
    {
        *("Accuracy", "BinaryAccuracy", "CategoricalAccuracy"),
        *("SparseCategoricalAccuracy", "TopKCategoricalAccuracy"),
        *("SparseTopKCategoricalAccuracy", "TruePositives", "TrueNegatives"),
        *("Precision", "Recall", "AUC", "SensitivityAtSpecificity"),
        *("SpecificityAtSensitivity", "PrecisionAtRecall", "RecallAtPrecision"),
        *("MeanIoU", "IoU", "BinaryIoU", "OneHotIoU", "OneHotMeanIoU"),
        *("F1Score", "FBetaScore", "R2Score", "ConcordanceCorrelation"),
        "PearsonCorrelation",
    }
)
"""Of keras.metrics, those of which more is better; tests go through all of them."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """A metric to minimise or maximise.

    Args:
        name: str, as ``fit`` reports it (``"val_accuracy"``) or as ``fit`` of a
            `HyperModel` or ``run_trial`` returns it.
        direction: "min" or "max".
    """

    name: str
    direction: str

    def __post_init__(self) -> None:
        if self.direction not in ("min", "max"):
            raise ValueError(
                f"`direction` of the objective {self.name!r} must be 'min' or 'max'. "
                f"Received: {self.direction!r}."
            )

    @property
    def parts(self) -> tuple["Objective", ...]:
        return (self,)

    def has_value(self, logs: Mapping[str, Any]) -> bool:
        return self.name in logs

    def get_value(self, logs: Mapping[str, Any]) -> float:
        return float(logs[self.name])

    def better_than(self, a: float, b: float) -> bool:
        return a > b if self.direction == "max" else a < b

    @property
    def worst(self) -> float:
        return -math.inf if self.direction == "max" else math.inf

    def __str__(self) -> str:
        return f'Objective(name="{self.name}", direction="{self.direction}")'


@dataclasses.dataclass(frozen=True)
class MultiObjective(Objective):
    """The sum of objectives to minimise, less those to maximise."""

    objectives: tuple[Objective, ...] = ()

    @property
    def parts(self) -> tuple[Objective, ...]:
        return self.objectives

    def has_value(self, logs: Mapping[str, Any]) -> bool:
        return all(objective.has_value(logs) for objective in self.objectives)

    def get_value(self, logs: Mapping[str, Any]) -> float:
        return sum(
            objective.get_value(logs) * (1.0 if objective.direction == "min" else -1.0)
            for objective in self.objectives
        )

    def __str__(self) -> str:
        return f"MultiObjective({', '.join(map(str, self.objectives))})"


DEFAULT = Objective("default_objective", "min")
"""Of a ``run_trial`` or ``fit`` that returns the number to minimise itself."""


def objective_of(given: Any) -> Objective:
    """An `Objective` of a name, of an object, of a sequence of both, or of None.

    Raises:
        ValueError: a name that does not say which way is better.
        TypeError: anything else.
    """
    if given is None:
        return DEFAULT
    if isinstance(given, Objective):
        return given
    if isinstance(given, str):
        return Objective(given, _direction_of(given))
    if isinstance(given, Sequence) and given:
        parts = tuple(objective_of(one) for one in given)
        return MultiObjective("multi_objective", "min", parts)
    name, direction = (getattr(given, a, None) for a in ("name", "direction"))
    if isinstance(name, str) and isinstance(direction, str):  # keras_tuner.Objective
        return Objective(name, direction)
    raise TypeError(
        "`objective` must be the name of a metric, a hypergrad.Objective, or a list of "
        f"these. Received: {given!r}."
    )


def _direction_of(name: str) -> str:
    metric = name.removeprefix("val_").removeprefix("weighted_")
    if metric in _LEAST:
        return "min"
    if metric in _MOST:
        return "max"
    for known in (keras.metrics.get, keras.losses.get):
        try:
            found = known(metric)
        except Exception:  # each class has its own error for an unknown name
            continue
        cls = found if isinstance(found, type) else type(found)
        return "max" if cls.__name__ in _MOST_CLASSES else "min"
    raise ValueError(
        f"`objective={name!r}`: whether less or more of it is better cannot be told "
        "from its name. Say it: "
        f'hg.Objective("{name}", direction="min") or direction="max".'
    )


def checked_metrics(results: Any, objective: Objective, source: str) -> dict[str, Any]:
    """What a ``fit`` or ``run_trial`` returned, as name → value.

    Args:
        results: number, dict, ``keras.callbacks.History``, or a list of these, whose
            values are averaged. Of a history the epoch with the best objective counts.
        source: what returned it, for the error.

    Raises:
        FatalTypeError, FatalValueError: nothing that has the objective.
    """
    return _averaged([metrics for metrics, _ in _each(results, objective, source)])


def best_step(results: Any, objective: Objective, source: str) -> int:
    """The epoch with the best objective, from 0; the mean over executions."""
    steps = [step for _, step in _each(results, objective, source)]
    return int(sum(steps) / len(steps))


def _each(
    results: Any, objective: Objective, source: str
) -> list[tuple[dict[str, float], int]]:
    from hypergrad.tuner.errors import FatalTypeError, FatalValueError

    if isinstance(results, list) and results:
        return [one for part in results for one in _each(part, objective, source)]
    if isinstance(results, bool) or results is None:
        raise FatalTypeError(
            f"{source} must return a number, a dict of metrics or the History of "
            f"`fit`. Received: {results!r}. Is a `return` missing?"
        )
    if isinstance(results, keras.callbacks.History):
        return [_best_epoch(results.history, objective, source)]
    if isinstance(results, Mapping):
        metrics = dict(results)
        if not objective.has_value(metrics):
            raise FatalValueError(_missing(objective, list(metrics), source))
        values = {k: float(v) for k, v in metrics.items()}
        return [(values | {objective.name: objective.get_value(values)}, 0)]
    try:
        return [({objective.name: float(results)}, 0)]
    except (TypeError, ValueError):
        raise FatalTypeError(
            f"{source} must return a number, a dict of metrics or the History of "
            f"`fit`, or a list of these. Received: {results!r}."
        ) from None


def _best_epoch(
    history: Mapping[str, Sequence[float]], objective: Objective, source: str
) -> tuple[dict[str, float], int]:
    from hypergrad.tuner.errors import FatalTypeError, FatalValueError

    if objective is DEFAULT:
        raise FatalTypeError(
            f"{source} returned the History of `fit`, from which the number to "
            f"minimise must be named. It has: {', '.join(history)}. Pass "
            "`objective=` to the tuner, or return a number."
        )
    if not history or not objective.has_value(history):
        raise FatalValueError(_missing(objective, list(history), source))
    number = min(len(values) for values in history.values())
    epochs = [{k: float(v[i]) for k, v in history.items()} for i in range(number)]
    scores = [objective.get_value(epoch) for epoch in epochs]
    best = 0
    for i, score in enumerate(scores):
        if objective.better_than(score, scores[best]) or math.isnan(scores[best]):
            best = i
    return epochs[best] | {objective.name: scores[best]}, best


def _missing(objective: Objective, found: list[str], source: str) -> str:
    names = ", ".join(part.name for part in objective.parts)
    text = (
        f"The objective {names!r} is not among the metrics of {source}: "
        f"{', '.join(found) or 'none'}. "
    )
    if any(part.name.startswith("val_") for part in objective.parts) and not any(
        name.startswith("val_") for name in found
    ):
        return text + "Pass `validation_data=` to `search`."
    return text + "Compile the model with that metric, or name another objective."


def _averaged(dicts: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for metrics in dicts for name in metrics)
    return {
        name: sum(held) / len(held)
        for name in names
        if (held := [metrics[name] for metrics in dicts if name in metrics])
    }
