"""Class weights as weights of examples."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def weights_of_classes(
    class_weight: Mapping[int, float], data: Mapping[str, Any]
) -> np.ndarray:
    """A weight for each example, as ``fit(class_weight=…)`` gives it.

    Args:
        class_weight: dict, class → weight; 1 for the others.
        data: dict with one array ``y`` of classes, as numbers or one-hot.

    Raises:
        ValueError, TypeError: data that have weights already, or no such ``y``.
    """
    if "sample_weight" in data:
        raise ValueError(
            "`class_weight` and `sample_weight` cannot both be given, as in `fit`. "
            "Received both. Multiply the class weights into `sample_weight`."
        )
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "`class_weight` must be a dict, class → weight. Received: "
            f"{class_weight!r}. Write for instance {{0: 1.0, 1: 5.0}}."
        )
    if "y" not in data or keras.tree.is_nested(data["y"]):
        raise ValueError(
            "`class_weight` needs one array `y` of classes. Received "
            f"{'no y' if 'y' not in data else 'nested y'}. Use `sample_weight`."
        )
    y = data["y"]
    if y.ndim > 1:
        y = np.argmax(y, axis=-1) if y.shape[-1] != 1 else np.squeeze(y, axis=-1)
    if y.ndim != 1:
        raise ValueError(
            "`class_weight` needs one class for each example. Received `y` of shape "
            f"{data['y'].shape}. Use `sample_weight`."
        )
    classes = np.round(y).astype("int32")
    weights = np.ones(len(classes), keras.config.floatx())
    for number, weight in class_weight.items():
        weights[classes == number] = weight
    return weights
