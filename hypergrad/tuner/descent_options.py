"""What ``search`` got for ``fit``, as the keywords of `hypergrad.tune`."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from hypergrad.tuner.errors import FatalValueError

_PASSED = (
    *("x", "y", "sample_weight", "batch_size", "epochs", "validation_data"),
    *("validation_split", "shuffle", "class_weight"),
)
_WITHOUT_EFFECT = frozenset(
    {"verbose", "callbacks", "validation_batch_size", "validation_freq"}
)


def descent_options(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `hypergrad.tune` for the training that ``fit`` would make.

    Raises:
        FatalValueError: no validation data, or an argument of ``fit`` that a descent
            cannot honour.
    """
    signature = inspect.signature(keras.Model.fit)
    try:
        given = signature.bind(None, *args, **kwargs).arguments
    except TypeError as error:
        raise FatalValueError(
            f"`search` takes what `fit` takes, expected the arguments of `fit`: {error}"
            ". A `fit` of one's own (hg.HyperModel) may have others."
        ) from None
    given.pop("self", None)
    options = {name: given.pop(name) for name in _PASSED if name in given}
    steps = given.pop("steps_per_epoch", None)
    if steps is not None:
        options["steps"] = steps * options.pop("epochs", 1)
    for name, value in given.items():
        default = signature.parameters[name].default
        if name not in _WITHOUT_EFFECT and value is not None and value != default:
            raise FatalValueError(
                f"`search({name}={value!r})` cannot be descended. Leave it out, or use "
                "a search without gradients, such as hg.BayesianOptimization."
            )
    if not options.get("validation_data") and not options.get("validation_split"):
        raise FatalValueError(
            "A descent needs data to validate on, expected `validation_data=` or "
            "`validation_split=` in `search`. Received: neither."
        )
    options.setdefault("epochs", 1)
    if "steps" in options:
        options.pop("epochs")
    return {name: value for name, value in options.items() if value is not None}
