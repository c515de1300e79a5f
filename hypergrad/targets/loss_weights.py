"""The weights of the compiled losses: ``loss_weights``, ``loss_weights.<output>``."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from hypergrad.targets.names import canonical_names, quote
from hypergrad.targets.target import Target

ALL = "all"
"""The attribute of the target that is the weights of all losses, in their order."""


def loss_weight_targets(model: Any) -> Iterator[Target]:
    """One target for each compiled loss, and one for all of them.

    A weight that `compile` was not given counts as 1, as it does in Keras.
    """
    compiled = getattr(model, "_compile_loss", None)
    if compiled is None:
        return
    names = [canonical_output(model, name) for name in _names(compiled)]
    weights = _weights(compiled)
    if len(names) == 1:
        alias = (f"loss_weights.{quote(names[0])}",)
        yield _target("loss_weights", compiled, "0", weights[0], alias)
        return
    for i, (name, weight) in enumerate(zip(names, weights)):
        yield _target(f"loss_weights.{quote(name)}", compiled, str(i), weight)
    yield _target("loss_weights", compiled, ALL, np.asarray(weights))


def _target(
    path: str, owner: Any, which: str, value: Any, aliases: tuple[str, ...] = ()
) -> Target:
    return Target(path, "loss", owner, which, value, None, "weight", aliases)


def with_weights(losses: list, which: str, weight: Any) -> list:
    """The built losses of a model, one of them or all with other weights."""
    if which == ALL:
        return [loss._replace(loss_weights=weight[i]) for i, loss in enumerate(losses)]
    i = int(which)
    return [*losses[:i], losses[i]._replace(loss_weights=weight), *losses[i + 1 :]]


def set_weights(model: Any, which: str, weight: Any) -> None:
    """Compiles other weights into a model, for good."""
    compiled = model._compile_loss
    weights = _weights(compiled)
    if which == ALL:
        weights = np.asarray(weight, "float64").tolist()
    else:
        weights[int(which)] = float(weight)
    if compiled._flat_losses is not None:
        compiled._flat_losses = with_weights(compiled._flat_losses, ALL, weights)
    loss = compiled._user_loss
    # What `compile` was given is what is saved, and built anew. One loss for several
    # outputs has no place for several weights there.
    new: Any = weights
    if isinstance(loss, dict):
        new = dict(zip(_building_order(compiled), weights))
    elif not keras.tree.is_nested(loss):
        if len(weights) > 1:
            return
        new = weights[0]
    compiled._user_loss_weights = new
    model._compile_config.config["loss_weights"] = new


def canonical_output(model: Any, name: str) -> str:
    """The name of an output, without the number of an automatic layer name."""
    layers = model.layers
    names = dict(zip((layer.name for layer in layers), canonical_names(layers)))
    return names.get(name, name)


def _names(compiled: Any) -> list[str]:
    """Names of the outputs with a loss, in the order of the losses."""
    if compiled._flat_losses is not None:
        names = [loss.name.rpartition("/")[2] for loss in compiled._flat_losses]
    elif isinstance(compiled._user_loss, dict):
        names = _building_order(compiled)
    else:
        given = keras.tree.flatten(compiled._user_loss)
        names = compiled.output_names or [str(i) for i in range(len(given))]
        if len(given) == len(names):
            names = [name for name, loss in zip(names, given) if loss is not None]
    if len(set(names)) < len(names):
        return [str(i) for i in range(len(names))]
    return list(names)


def _building_order(compiled: Any) -> list[str]:
    """Names of a dict of losses in the order in which Keras builds them."""
    named = {name for name, loss in compiled._user_loss.items() if loss is not None}
    if compiled._flat_losses is not None:
        order = [loss.name.rpartition("/")[2] for loss in compiled._flat_losses]
        if set(order) == named:
            return order
    if set(compiled._user_loss) == set(compiled.output_names or ()):
        return [name for name in compiled.output_names if name in named]
    return [name for name in compiled._user_loss if name in named]


def _weights(compiled: Any) -> list[float]:
    names = _names(compiled)
    if compiled._flat_losses is not None:
        given = [loss.loss_weights for loss in compiled._flat_losses]
    else:
        held = compiled._user_loss_weights
        if isinstance(held, dict):
            given = [held.get(name) for name in names]
        else:
            given = keras.tree.flatten(held) if held is not None else []
        given = [*given, *[None] * (len(names) - len(given))]
    return [1.0 if weight is None else float(weight) for weight in given]
