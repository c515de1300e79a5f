"""All numbers of a compiled model, each once."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import keras

from hypergrad.targets.in_data import data_targets
from hypergrad.targets.in_layers import layer_targets
from hypergrad.targets.in_loss import loss_targets
from hypergrad.targets.in_optimizer import optimizer_targets
from hypergrad.targets.in_variables import variable_targets
from hypergrad.targets.target import Target


def discover(
    model: keras.Model,
    train: Mapping[str, Any] | None = None,
    class_weight: Mapping[int, float] | None = None,
) -> list[Target]:
    """Every number inside a compiled model, and why it can be tuned or not.

    A place that is reached on several ways (a regularizer or a layer used twice) is
    one target with aliases: it holds one number.

    Args:
        model: compiled; where its layers are built, idle regularizers are recognised.
        train: dict of training arrays, which are targets as well; or None.
        class_weight: as given to ``fit``.

    Returns:
        list of `Target`: optimizer, loss, layers in order, variables, data.

    Raises:
        ValueError: the model is not compiled.
    """
    if not getattr(model, "compiled", False) or model.optimizer is None:
        raise ValueError(
            "Targets are the numbers of a compiled model, expected a model after "
            f"`compile(optimizer=..., loss=...)`. Received: {model.name!r}, not "
            "compiled. Call `model.compile(...)` first."
        )
    return _merged(
        [
            *optimizer_targets(model.optimizer),
            *loss_targets(model),
            *layer_targets(model),
            *variable_targets(model),
            *(() if train is None else data_targets(model, train, class_weight)),
        ]
    )


def _merged(found: Iterable[Target]) -> list[Target]:
    """One target for each place, under its first path that can be tuned."""
    places: dict[tuple[int, str], Target] = {}
    for target in found:
        key = (id(target.owner), target.attribute)
        first = places.get(key)
        if first is None:
            places[key] = target
        elif target.path in first.paths:
            continue
        elif first.reason is not None and target.reason is None:
            places[key] = replace(target, aliases=first.paths)
        else:
            places[key] = replace(first, aliases=(*first.aliases, target.path))
    return list(places.values())
