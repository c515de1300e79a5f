"""Entries of a space as Optuna knows them, so that its samplers and pages work."""

from collections.abc import Sequence
from typing import Any

from hypergrad.tuner.hyperparameters import Boolean, Choice, Fixed, Float, Int


def parameter_names(space: Sequence[Any]) -> list[str]:
    """A name for each entry: its own, with its conditions where it is not the first."""
    names: list[str] = []
    for entry in space:
        name = entry.name
        if name in names:
            conditions = " and ".join(map(str, entry.conditions))
            name = f"{name} [{conditions or 'always'}]"
        names.append(name)
    return names


def distribution(entry: Any) -> Any:
    """The Optuna distribution of an entry; None where there is nothing to choose.

    ``reverse_log`` has no counterpart: Optuna sees it on a linear scale.
    """
    from optuna import distributions

    if isinstance(entry, Fixed):
        return None
    if isinstance(entry, (Boolean, Choice)):
        return distributions.CategoricalDistribution(tuple(entry.values))
    low, high = entry.min_value, entry.max_value
    log = entry.sampling == "log"
    if isinstance(entry, Int):
        if entry.step is None or entry.sampling == "linear":
            step = 1 if log else entry.step or 1
            high = low + (high - low) // step * step
            return distributions.IntDistribution(low, high, log=log, step=step)
    elif isinstance(entry, Float):
        if entry.step is None:
            return distributions.FloatDistribution(low, high, log=log)
        if entry.sampling == "linear":
            return distributions.FloatDistribution(
                low, entry.values[-1], step=entry.step
            )
    return distributions.CategoricalDistribution(tuple(entry.values))
