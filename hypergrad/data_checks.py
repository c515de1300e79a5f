"""The data of `Problem.from_model`: checked, split and weighted as by ``fit``."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from hypergrad.data import (
    AbstractBatches,
    AbstractSource,
    Batches,
    Fold,
    FoldBatches,
    HostBatches,
    HostRows,
    Parts,
    Reader,
    as_arrays,
    checked_folds,
    draw_pass,
    draw_steps,
    num_rows,
    source_of,
    stays_on_host,
    weights_of_classes,
)
from hypergrad.data.stream import content, joined

FEW = 32
"""Rows that stand for the data where the batches travel to the device."""


@dataclasses.dataclass(frozen=True)
class Passes:
    """How training goes over its data: the arguments of that name."""

    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 32
    shuffle: bool = True
    drop_remainder: bool = False
    seed: int = 0
    folds: int | None = None


class TrainingData(NamedTuple):
    """What steps are given.

    ``arrays``: dict with x and, where there are any, y and sample_weight, an argument
    of the compiled steps: all rows, or the first few where batches travel.
    ``batches``: function, step → batch. ``num_steps``: int, T. ``named``: the dict
    whose rows have numbers, for what is tuned of each example; None for a dataset.
    """

    arrays: dict[str, Any]
    batches: AbstractBatches
    num_steps: int
    named: dict[str, Any] | None

    def without_weights(self) -> "TrainingData":
        """The same without ``sample_weight``, of arrays."""
        data = {k: v for k, v in (self.named or {}).items() if k != "sample_weight"}
        if not isinstance(self.batches, HostBatches):
            return self._replace(arrays=data, named=data)
        rows = HostRows(data)
        order = self.batches.order
        return TrainingData(
            _few(rows, order), HostBatches(order, rows), self.num_steps, data
        )


class HeldOut(NamedTuple):
    """Validation or test data.

    ``arrays``: like those of `TrainingData`. ``rows``: int, how many there are.
    ``host``: where they travel: `HostRows`, from row indices, or `Parts`; else None.
    """

    arrays: dict[str, Any]
    rows: int
    host: Any = None


def checked_training_data(
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    validation_split: float,
    validation_data: Any,
    passes: Passes,
) -> tuple[TrainingData, Any]:
    """(training data, validation data as given or split off)."""
    _check_counts(passes)
    source = source_of(x)
    if source is not None:
        _check_alone(source, y, sample_weight, class_weight, validation_split, passes)
        return _from_dataset(source, class_weight, passes), validation_data
    data = _checked(x, y, sample_weight, "")
    order = _order(passes, data)
    if isinstance(order, FoldBatches):
        _check_no_others(validation_data, validation_split, data)
        fold = order.validation(data, data)
        validation_data = (fold["x"], fold.get("y"), fold.get("sample_weight"))
    elif validation_data is None and validation_split:
        data, validation_data = _split(data, validation_split)
        order = _order(passes, data)
    if class_weight is not None:
        data["sample_weight"] = weights_of_classes(class_weight, data)
    num_steps = _num_steps(order, passes)
    if not stays_on_host(data):
        return TrainingData(data, order, num_steps, data), validation_data
    rows = HostRows(data)
    batches = HostBatches(order, rows)
    return TrainingData(_few(rows, order), batches, num_steps, data), validation_data


def checked_validation_data(
    validation_data: Any,
    train: Mapping[str, Any],
    batches: Any = None,
    what: str = "validation_data",
) -> HeldOut:
    """Validation data like the training data.

    Args:
        validation_data: a tuple of arrays, or a dataset.
        train: dict of arrays, some training rows.
        batches: `AbstractBatches`, where it is known whether they vary in shape.
        what: the argument it is.
    """
    if validation_data is None:
        raise ValueError(
            "A hypergradient is the derivative of a validation loss, expected "
            "validation data. Received neither `validation_data` nor "
            "`validation_split`. Pass `validation_data=(x_val, y_val)`."
        )
    source = source_of(validation_data)
    if source is not None:
        held, varies = _drained(source, what)
    elif not isinstance(validation_data, (tuple, list)) or not (
        1 <= len(validation_data) <= 3
    ):
        raise TypeError(
            f"`{what}` must be a tuple (x, y) or (x, y, sample_weight), or a dataset. "
            f"Received: {type(validation_data).__name__}. Pass arrays in a tuple."
        )
    else:
        x, y, sample_weight = (*validation_data, None, None)[:3]
        held, varies = _held(_checked(x, y, sample_weight, "validation ")), False
    if ("y" in train) != ("y" in held.arrays):
        raise ValueError(
            f"`y` and the y of `{what}` must both be given, or neither. "
            f"Received: {'only' if 'y' in train else 'no'} training `y`. Pass both."
        )
    varies = varies or (isinstance(batches, AbstractBatches) and batches.varies)
    for name in ("x", "y"):
        if name in train:
            _check_alike(train[name], held.arrays[name], name, varies)
    return held


def check_targets(train: Mapping[str, Any], needs_y: bool) -> None:
    """Refuses training data without ``y`` where the loss compares with it."""
    if needs_y and "y" not in train:
        raise ValueError(
            "`y` must be given: the model is compiled with a loss that compares "
            "predictions with it. Received: None. Pass `y`, or a model with its own "
            "`compute_loss`."
        )


def check_rows_are_known(hyperparameters: Any, given: TrainingData) -> None:
    """Refuses numbers of examples where the examples come from a dataset."""
    if given.named is not None or not isinstance(hyperparameters, Iterable):
        return
    names = [hyperparameters] if isinstance(hyperparameters, str) else hyperparameters
    for name in names:
        if str(name).startswith("data."):
            raise ValueError(
                f"{name!r} is a number of training examples, expected arrays, whose "
                "rows have numbers. Received a dataset, whose batches have none. Pass "
                "the examples as arrays `x` and `y`."
            )


def _check_counts(passes: Passes) -> None:
    counts = ("batch_size", "steps", "epochs")
    for name, value in ((name, getattr(passes, name)) for name in counts):
        if value is None and name != "batch_size":
            continue
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or int(value) < 1:
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {value!r}. It has no "
                "derivative: the tuner searches it."
            )
    if passes.steps is not None and passes.epochs is not None:
        raise ValueError(
            f"Give `steps` or `epochs`, not both. Received steps={passes.steps}, "
            f"epochs={passes.epochs}. Leave one of them out."
        )


def _order(passes: Passes, data: dict[str, Any]) -> Batches:
    given = (
        num_rows(data["x"]),
        passes.batch_size,
        passes.shuffle,
        passes.seed,
        passes.drop_remainder,
    )
    if passes.folds is None:
        return Batches(*given)
    number = checked_folds(passes.folds, data)
    seed = passes.seed if passes.shuffle else None
    return FoldBatches(*given, fold=Fold(number, 0, given[0], seed))


def _check_no_others(validation_data: Any, validation_split: float, data: dict) -> None:
    """Refuses validation data beside folds, and folds of what stays on the host."""
    if validation_data is not None or validation_split:
        raise ValueError(
            "`folds` makes validation data of the training rows. Received "
            "`validation_data` or `validation_split` besides. Leave one of them out."
        )
    if stays_on_host(data):
        raise ValueError(
            "`folds` needs arrays that fit on the device. Received arrays that stay on "
            "the host, memory-mapped or of more than 2 GiB. Pass `validation_data=`."
        )


def _num_steps(order: Batches, passes: Passes) -> int:
    if order.steps_per_epoch == 0:
        raise ValueError(
            f"`drop_remainder=True` with batch_size={order.batch_size} leaves no "
            f"batch of {order.num_examples} examples. Use a smaller `batch_size`."
        )
    if passes.steps is not None:
        return int(passes.steps)
    return int(passes.epochs or 1) * order.steps_per_epoch


# Datasets


def _check_alone(
    source: AbstractSource,
    y: Any,
    sample_weight: Any,
    class_weight: Any,
    validation_split: Any,
    passes: Passes,
) -> None:
    """Refuses what ``fit`` refuses, or ignores, beside a dataset."""
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"`{name}` must be part of the dataset. Received: `x` is "
                f"{source.name}, and `{name}` besides. Let it give (x, y) or "
                "(x, y, sample_weight)."
            )
    if validation_split or passes.folds is not None:
        name = "`validation_split`" if validation_split else "`folds`"
        raise ValueError(
            f"{name} splits arrays. Received: `x` is "
            f"{source.name}. Pass `validation_data=` another dataset, or arrays."
        )
    if class_weight is not None and not source.weighs_classes:
        raise ValueError(
            "`class_weight` must come with arrays, a tf.data.Dataset or a PyDataset, "
            f"as in `fit`. Received: `x` is {source.name}. Let it give "
            "(x, y, sample_weight)."
        )
    for name in ("batch_size", "drop_remainder"):
        value = getattr(passes, name)
        if value != getattr(Passes, name):
            raise ValueError(
                f"`{name}` is for arrays: a dataset says itself what its batches are. "
                f"Received: `x` is {source.name}, and {name}={value!r}. Set it in the "
                "dataset, such as `.batch(64, drop_remainder=True)`, and leave it out."
            )


def _from_dataset(
    source: AbstractSource, class_weight: Mapping[int, float] | None, passes: Passes
) -> TrainingData:
    reader = Reader(source, "x", class_weight=class_weight)
    stream = draw_steps(
        reader, passes.steps, passes.epochs, passes.shuffle, passes.seed
    )
    few = keras.tree.map_structure(lambda leaf: leaf[:FEW], stream.example)
    return TrainingData(few, stream, len(stream), None)


def _drained(source: AbstractSource, what: str) -> tuple[HeldOut, bool]:
    """(all rows of a dataset, whether its batches differ in more than rows)."""
    reader = Reader(source, what, "validation ")
    batches = draw_pass(reader)
    if not reader.varies:
        return _held(joined(batches)), False
    sizes = [num_rows(batch["x"]) for batch in batches]
    parts = Parts(
        batches.__getitem__, sizes, lambda: str([content(b).hex() for b in batches])
    )
    few = keras.tree.map_structure(lambda leaf: leaf[:FEW], batches[0])
    return HeldOut(few, sum(sizes), parts), True


# Arrays


def _held(data: dict[str, Any]) -> HeldOut:
    number = num_rows(data["x"])
    if not stays_on_host(data):
        return HeldOut(data, number)
    rows = HostRows(data)
    return HeldOut(rows(np.arange(min(FEW, number))), number, rows)


def _few(rows: HostRows, order: Batches) -> dict[str, Any]:
    return rows(np.arange(min(FEW, order.num_examples)))


def _checked(x: Any, y: Any, sample_weight: Any, prefix: str) -> dict:
    data = {"x": as_arrays(x, f"`{prefix}x`")}
    rows = num_rows(data["x"])
    if y is not None:
        data["y"] = as_arrays(y, f"`{prefix}y`")
    if sample_weight is not None:
        data["sample_weight"] = as_arrays(
            _complete(sample_weight, rows), f"`{prefix}sample_weight`"
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


def _check_alike(train: Any, validation: Any, name: str, varies: bool) -> None:
    """``varies``: whether batches differ in shape, so that only axes are compared."""
    a = keras.tree.flatten_with_path(train)
    b = keras.tree.flatten_with_path(validation)
    forms = [
        [(p, leaf.ndim if varies else leaf.shape[1:]) for p, leaf in flat]
        for flat in (a, b)
    ]
    if forms[0] != forms[1]:
        raise ValueError(
            f"Training and validation `{name}` must have the same form but for the "
            f"number of rows. Received shapes {_shapes(a)} and {_shapes(b)}. Prepare "
            "both in the same way."
        )


def _shapes(leaves: list) -> Any:
    named = {".".join(map(str, path)): leaf.shape for path, leaf in leaves}
    return named.get("", named)
