"""The training data as targets: ``data.sample_weight``, ``data.x.<name>``, …

They act on the training loss alone; E is measured on data that stay as they are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from hypergrad.targets.names import quote
from hypergrad.targets.target import Target

INTEGERS = {
    "x": (
        "integers have no derivative. Tune what is computed from them, for instance "
        "the table of an Embedding, `initial.<layer>.embeddings`."
    ),
    "y": (
        "class numbers have no derivative. Pass one-hot labels, and compile with "
        "CategoricalCrossentropy."
    ),
    "sample_weight": "integers have no derivative. Pass the weights as floats.",
}
_SPARSE = "sparse_categorical_crossentropy"


def data_targets(
    model: Any, train: Mapping[str, Any], class_weight: Mapping[int, float] | None
) -> Iterator[Target]:
    """Targets of training data; each value is what ``fit`` was given.

    Args:
        model: compiled, for what its losses do with labels.
        train: dict of nested arrays ``x``, ``y`` and ``sample_weight``, the last two
            where there are any.
        class_weight: as given to ``fit``, or None.
    """
    yield from _arrays(train, "x", None)
    if "y" in train:
        sparse = INTEGERS["y"] if _reads_class_numbers(model) else None
        yield from _arrays(train, "y", sparse)
    if "sample_weight" in train:
        yield from _arrays(train, "sample_weight", None)
    else:
        rows = len(keras.tree.flatten(train["x"])[0])
        ones = np.ones(rows, keras.config.floatx())
        yield Target("data.sample_weight", "data", train, "sample_weight", ones)
    yield _of_classes(train, class_weight)


def data_path(name: str, path: tuple) -> str:
    """The path of one array of ``train[name]``: ``data.x.image``."""
    return ".".join(["data", name, *(quote(str(key)) for key in path)])


def tuned_rows(rows: Mapping[str, Any], hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of a batch, with what is tuned in the place of what was given.

    Args:
        rows: dict of nested arrays, a batch of the training data.
        hparams: dict, path → value; those of data are rows of the same batch.
    """
    new = {name: _replaced(name, value, hparams) for name, value in rows.items()}
    if "data.sample_weight" in hparams:
        new["sample_weight"] = hparams["data.sample_weight"]
    if "data.class_weight" in hparams:
        weights = keras.ops.take(
            hparams["data.class_weight"], class_numbers(rows["y"]), axis=0
        )
        held = new.get("sample_weight")
        new["sample_weight"] = weights if held is None else held * weights
    return new


def _replaced(name: str, value: Any, hparams: Mapping[str, Any]) -> Any:
    if value is None:
        return None
    flat = [
        keras.ops.cast(hparams[here], leaf.dtype) if here in hparams else leaf
        for here, leaf in (
            (data_path(name, path), leaf)
            for path, leaf in keras.tree.flatten_with_path(value)
        )
    ]
    return keras.tree.pack_sequence_as(value, flat)


def _arrays(
    train: Mapping[str, Any], name: str, reason: str | None
) -> Iterator[Target]:
    arrays = keras.tree.flatten_with_path(train[name])
    for path, array in arrays:
        here = data_path(name, path)
        why = INTEGERS[name] if array.dtype.kind != "f" else reason
        yield Target(here, "data", train, here, array, why)
    if len(arrays) > 1 or arrays[0][0]:
        each = ", ".join(f"`{data_path(name, path)}`" for path, _ in arrays[:4])
        reason = f"it is several arrays. Name one of them: {each}."
        value = f"{len(arrays)} arrays"
        whole = f"data.{name}"
        yield Target(whole, "data", train, whole, value, reason, listed=False)


def _of_classes(
    train: Mapping[str, Any], class_weight: Mapping[int, float] | None
) -> Target:
    path = "data.class_weight"
    y = train.get("y")
    if y is None or keras.tree.is_nested(y) or not _are_classes(y):
        reason = (
            "it needs one array `y` of classes, as numbers or one-hot. Use "
            "`data.sample_weight`."
        )
        return Target(path, "data", train, path, None, reason, listed=False)
    given = dict(class_weight or {})
    weights = np.ones(max(_classes(y), *(int(k) + 1 for k in (-1, *given))))
    for number, weight in given.items():
        weights[int(number)] = weight
    return Target(path, "data", train, path, weights)


def _are_classes(y: np.ndarray) -> bool:
    if y.ndim > 2:
        return False
    one_hot = y.ndim == 2 and y.shape[1] > 1
    return one_hot or bool(np.all((y >= 0) & (y == np.round(y))))


def _classes(y: np.ndarray) -> int:
    if y.ndim == 2 and y.shape[1] > 1:
        return y.shape[1]
    return int(np.max(y)) + 1


def class_numbers(y: Any) -> Any:
    """The class of each row of ``y``, as ``fit(class_weight=…)`` reads it."""
    if len(y.shape) == 2:
        y = keras.ops.argmax(y, axis=-1) if y.shape[1] > 1 else y[:, 0]
    if "float" in keras.backend.standardize_dtype(y.dtype):
        y = keras.ops.round(y)
    return keras.ops.cast(y, "int32")


def _reads_class_numbers(model: Any) -> bool:
    losses = keras.tree.flatten(model.loss)
    names = [loss if isinstance(loss, str) else _function_name(loss) for loss in losses]
    return any(name == _SPARSE for name in names)


def _function_name(loss: Any) -> str:
    return str(getattr(getattr(loss, "fn", loss), "__name__", ""))
