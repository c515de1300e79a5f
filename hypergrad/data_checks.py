"""The data of `Problem.from_model`: checked, split and weighted as by ``fit``."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from hypergrad.data import Batches, as_arrays, num_rows


def checked_training_data(
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    validation_split: float,
    validation_data: Any,
) -> tuple[dict, Any]:
    """(training arrays, validation data) as dicts with x and, if given, y, weights."""
    data = _checked(x, y, sample_weight, "")
    if validation_data is None and validation_split:
        data, validation_data = _split(data, validation_split)
    if class_weight is not None:
        data["sample_weight"] = _class_weights(class_weight, data)
    return data, validation_data


def checked_validation_data(validation_data: Any, train: Mapping[str, Any]) -> dict:
    """Validation arrays as a dict like the training arrays."""
    if validation_data is None:
        raise ValueError(
            "A hypergradient is the derivative of a validation loss, expected "
            "validation data. Received neither `validation_data` nor "
            "`validation_split`. Pass `validation_data=(x_val, y_val)`."
        )
    if not isinstance(validation_data, (tuple, list)) or not (
        1 <= len(validation_data) <= 3
    ):
        raise TypeError(
            "`validation_data` must be a tuple (x, y) or (x, y, sample_weight). "
            f"Received: {type(validation_data).__name__}. Pass arrays in a tuple."
        )
    x, y, sample_weight = (*validation_data, None, None)[:3]
    validation = _checked(x, y, sample_weight, "validation ")
    if ("y" in train) != ("y" in validation):
        raise ValueError(
            "`y` and the y of `validation_data` must both be given, or neither. "
            f"Received: {'only' if 'y' in train else 'no'} training `y`. Pass both."
        )
    for name in ("x", "y"):
        if name in train:
            _check_alike(train[name], validation[name], name)
    return validation


def check_targets(train: Mapping[str, Any], needs_y: bool) -> None:
    """Refuses training data without ``y`` where the loss compares with it."""
    if needs_y and "y" not in train:
        raise ValueError(
            "`y` must be given: the model is compiled with a loss that compares "
            "predictions with it. Received: None. Pass `y`, or a model with its own "
            "`compute_loss`."
        )


def check_batching(batches: Batches, steps: int | None, epochs: int | None) -> int:
    """T of ``steps`` or ``epochs``."""
    for name, value in (
        ("batch_size", batches.batch_size),
        ("steps", steps),
        ("epochs", epochs),
    ):
        if value is None and name != "batch_size":
            continue
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or int(value) < 1:  # type: ignore[arg-type]
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {value!r}. It has no "
                "derivative: the tuner searches it."
            )
    if steps is not None and epochs is not None:
        raise ValueError(
            f"Give `steps` or `epochs`, not both. Received steps={steps}, "
            f"epochs={epochs}. Leave one of them out."
        )
    if batches.steps_per_epoch == 0:
        raise ValueError(
            f"`drop_remainder=True` with batch_size={batches.batch_size} leaves no "
            f"batch of {batches.num_examples} examples. Use a smaller `batch_size`."
        )
    if steps is not None:
        return int(steps)
    return (1 if epochs is None else int(epochs)) * batches.steps_per_epoch


def _checked(x: Any, y: Any, sample_weight: Any, prefix: str) -> dict:
    data = {"x": as_arrays(x, f"{prefix}x")}
    rows = num_rows(data["x"])
    if y is not None:
        data["y"] = as_arrays(y, f"{prefix}y")
    if sample_weight is not None:
        data["sample_weight"] = as_arrays(
            _complete(sample_weight, rows), f"{prefix}sample_weight"
        )
    for name, value in data.items():
        if num_rows(value) != rows:
            raise ValueError(
                f"`{prefix}x` has {rows} rows and `{prefix}{name}` has "
                f"{num_rows(value)}, expected as many. Received arrays of different "
                "examples: pass one row for each example in both."
            )
    return data


def _complete(sample_weight: Any, rows: int) -> Any:
    """Weights of 1 for the outputs that have none."""
    if not isinstance(sample_weight, (dict, tuple, list)):
        return sample_weight
    return keras.tree.map_structure(
        lambda leaf: np.ones(rows) if leaf is None else leaf, sample_weight
    )


def _split(data: dict, validation_split: float) -> tuple[dict, tuple]:
    number = isinstance(validation_split, float)
    if not number or not 0 < validation_split < 1:
        raise ValueError(
            "`validation_split` must be a fraction between 0 and 1. Received: "
            f"{validation_split!r}. Use for instance 0.2, the last fifth of the rows."
        )
    rows = num_rows(data["x"])
    first = int(np.floor(rows * (1.0 - validation_split)))
    if not 0 < first < rows:
        raise ValueError(
            f"`validation_split={validation_split}` of {rows} rows leaves {first} for "
            f"training and {rows - first} for validation, expected at least 1 of "
            "each. Use more data or another fraction."
        )
    part = {k: _rows(v, slice(first, None)) for k, v in data.items()}
    validation_data = (part["x"], part.get("y"), part.get("sample_weight"))
    return {k: _rows(v, slice(first)) for k, v in data.items()}, validation_data


def _rows(value: Any, rows: slice) -> Any:
    return keras.tree.map_structure(lambda leaf: leaf[rows], value)


def _check_alike(train: Any, validation: Any, name: str) -> None:
    a = keras.tree.flatten_with_path(train)
    b = keras.tree.flatten_with_path(validation)
    if [(p, leaf.shape[1:]) for p, leaf in a] != [(p, leaf.shape[1:]) for p, leaf in b]:
        raise ValueError(
            f"Training and validation `{name}` must have the same form but for the "
            f"number of rows. Received shapes {_shapes(a)} and {_shapes(b)}. Prepare "
            "both in the same way."
        )


def _shapes(leaves: list) -> Any:
    named = {".".join(map(str, path)): leaf.shape for path, leaf in leaves}
    return named.get("", named)


def _class_weights(class_weight: Mapping[int, float], data: dict) -> np.ndarray:
    """A weight for each example, as ``fit(class_weight=…)`` gives it."""
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
