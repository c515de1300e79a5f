"""Numbers of the compiled loss or losses: ``loss.delta``, ``loss.<output>.gamma``."""

from collections.abc import Iterator
from typing import Any

import keras

from hypergrad.targets import verdicts
from hypergrad.targets.names import quote
from hypergrad.targets.target import Form, Target
from hypergrad.targets.values import is_choice, is_integer, real_value

_BOOKKEEPING = frozenset({"name", "reduction", "dtype", "fn"})


def loss_targets(model: keras.Model) -> Iterator[Target]:
    """Numbers of loss objects. A loss given by name or as a function has none."""
    losses = model.loss
    if isinstance(losses, (list, tuple)):
        losses = dict(zip(model.output_names, losses))
    if not isinstance(losses, dict):
        yield from _targets("loss", losses)
        return
    for output, loss in losses.items():
        yield from _targets(f"loss.{quote(output)}", loss)


def _targets(path: str, loss: Any) -> Iterator[Target]:
    if not isinstance(loss, keras.losses.Loss):
        return
    # Writing `loss.delta` has no effect in Keras' wrappers: `call` reads these.
    kwargs = vars(loss).get("_fn_kwargs")
    place: Any = loss if kwargs is None else kwargs
    numbers = vars(loss) if kwargs is None else kwargs
    # `if label_smoothing:` needs a number that answers.
    form: Form = "traced" if verdicts.is_from_keras(type(loss)) else "unknown"
    for attribute, held in numbers.items():
        if attribute.startswith("_") or attribute in _BOOKKEEPING:
            continue
        here = f"{path}.{quote(attribute)}"
        value = real_value(held)
        if value is None and kwargs is not None and attribute == "label_smoothing":
            value = float(held)
        if value is not None:
            yield Target(here, "loss", place, attribute, value, None, form)
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
