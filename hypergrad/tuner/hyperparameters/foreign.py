"""A space that was written for KerasTuner."""

import sys
from typing import Any

from hypergrad.tuner.hyperparameters.container import HyperParameters
from hypergrad.tuner.hyperparameters.kinds import KINDS


def own_hyperparameters(given: Any) -> HyperParameters:
    """The container itself, or one with the entries of a ``keras_tuner`` one.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, HyperParameters):
        return given
    keras_tuner = sys.modules.get("keras_tuner")
    if keras_tuner is not None and isinstance(given, keras_tuner.HyperParameters):
        config = given.get_config()
        for entry in config["space"]:
            known = KINDS.get(entry["class_name"])
            if known is None:
                raise TypeError(
                    f"`hyperparameters` holds a {entry['class_name']} of KerasTuner, "
                    f"expected {', '.join(KINDS)}."
                )
        return HyperParameters.from_config(config)
    raise TypeError(
        "`hyperparameters` must be a hypergrad.HyperParameters or a "
        f"keras_tuner.HyperParameters. Received: {given!r}."
    )
