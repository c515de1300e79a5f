"""Numbers of the compiled losses: ``loss.delta``, ``loss.<output>.gamma``, weights."""

from collections.abc import Iterator
from typing import Any

import keras

from hypergrad.targets import verdicts
from hypergrad.targets.loss_weights import canonical_output, loss_weight_targets
from hypergrad.targets.names import quote
from hypergrad.targets.target import Target
from hypergrad.targets.values import is_choice, is_integer, real_list, real_value

_BOOKKEEPING = frozenset({"name", "reduction", "dtype", "fn"})


def loss_targets(model: keras.Model) -> Iterator[Target]:
    """Numbers of loss objects, and the weights of all losses.

    A loss given by name or as a function has no numbers of its own.
    """
    yield from loss_weight_targets(model)
    losses = model.loss
    if isinstance(losses, (list, tuple)):
        losses = dict(zip(model.output_names, losses))
    if not isinstance(losses, dict):
        yield from _targets("loss", losses)
        return
    for output, loss in losses.items():
        name = quote(canonical_output(model, output))
        yield from _targets(f"loss.{name}", loss)


def _targets(path: str, loss: Any) -> Iterator[Target]:
    if not isinstance(loss, keras.losses.Loss):
        return
    # Writing `loss.delta` has no effect in Keras' wrappers: `call` reads these.
    kwargs = vars(loss).get("_fn_kwargs")
    place: Any = loss if kwargs is None else kwargs
    numbers = vars(loss) if kwargs is None else kwargs
    for attribute, held in numbers.items():
        if attribute.startswith("_") or attribute in _BOOKKEEPING:
            continue
        here = f"{path}.{quote(attribute)}"
        how = verdicts.verdict(loss, attribute)
        value = real_value(held)
        if value is None and how.reason is None and how.form != "unknown":
            # An integer where Keras reads a real number: Circle(gamma=80), alpha=[…].
            value = float(held) if _is_number(held) else real_list(held)
        if value is not None:
            yield Target(here, "loss", place, attribute, value, how.reason, how.form)
        elif is_integer(held):
            yield Target(here, "structure", place, attribute, held, verdicts.INTEGER)
        elif is_choice(held):
            yield Target(
                here,
                "structure",
                place,
                attribute,
                held,
                verdicts.CHOICE,
                listed=False,
            )


def _is_number(held: Any) -> bool:
    return is_integer(held) and not isinstance(held, (list, tuple))
