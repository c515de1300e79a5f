"""Arrays with a row for each example, from whatever ``fit`` takes as such."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad.data.sources import source_of

BLOCK = 2**26
"""Bytes of an array that are read at a time where it may not be copied whole."""

ON_DEVICE = 2**31
"""Bytes of arrays that become an argument of the compiled steps; see `host.py`."""

_TO_DENSE = {
    "RaggedTensor": "`.to_tensor()`",
    "SparseTensor": "`tf.sparse.to_dense(…)`",
    "BCOO": "`.todense()`",
}


def as_arrays(value: Any, what: str, fix: str = "") -> Any:
    """Nested arrays, tensors or pandas tables as NumPy arrays.

    Floats are in ``floatx`` as in ``fit``, but for arrays of more than `ON_DEVICE` and
    memory-mapped ones, which are not copied: `host.py` casts the rows it gathers.

    Args:
        what: what the arrays are to the user, in backticks where it is an argument.
        fix: what may be wrong where the rows do not fit, beside the arrays.

    Raises:
        ValueError: empty data, NaN or infinite numbers, or arrays that disagree about
            the number of rows.
        TypeError: what is no array.
    """

    def one(leaf: Any) -> np.ndarray:
        array = _numbers(leaf, what)
        if array.ndim == 0:
            raise ValueError(
                f"{what} must be an array with one row for each example. Received a "
                f"scalar: {leaf!r}. Pass an array of shape (rows, …).{fix}"
            )
        if is_float(array):
            _check_finite(array, what)
            if not is_large(array):
                array = array.astype(keras.config.floatx())
        return array

    arrays = tree.map_structure(one, _as_tuples(value))
    rows = {len(leaf) for leaf in tree.flatten(arrays)}
    if not rows or rows == {0}:
        raise ValueError(
            f"{what} must hold at least one example. Received no rows. Check how "
            "the data were split."
        )
    if len(rows) > 1:
        raise ValueError(
            f"All arrays of {what} must have the same number of rows. Received "
            f"{sorted(rows)} rows. Pass one row for each example in each array.{fix}"
        )
    return arrays


def is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def is_large(array: np.ndarray) -> bool:
    """Whether an array is not to be copied whole."""
    return array.nbytes > ON_DEVICE or is_mapped(array)


def is_mapped(array: Any) -> bool:
    """Whether the numbers of an array are in a file."""
    while array is not None:
        if isinstance(array, np.memmap):
            return True
        array = getattr(array, "base", None)
    return False


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in parts of some rows."""
    rows = max(1, BLOCK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def num_rows(value: Any) -> int:
    """Rows of nested arrays that `as_arrays` has checked."""
    return int(tree.flatten(value)[0].shape[0])


def take(value: Any, index: Any) -> Any:
    """Rows ``index`` of every array of a tree; None stays None."""
    if value is None:
        return None
    return tree.map_structure(lambda leaf: keras.ops.take(leaf, index, axis=0), value)


def rows_of(held: Any, batch: Any) -> Any:
    """The rows of a batch: itself where it travels, else gathered from ``held``."""
    return batch if isinstance(batch, Mapping) else take(held, batch)


def _numbers(leaf: Any, what: str) -> np.ndarray:
    dense = _to_dense(leaf)
    if dense is not None:
        raise TypeError(
            f"{what} must hold dense arrays. Received: {type(leaf).__name__}. Make it "
            f"dense first, with {dense}."
        )
    kind = _no_array(leaf)
    if kind is not None:
        raise TypeError(
            f"{what} must hold arrays, whose rows every step can be given again. "
            f"Received: {kind}. Load the examples into arrays first, or pass a dataset "
            "of (x, y) alone in the place of x: a tf.data.Dataset, a PyDataset, a "
            "grain dataset or a generator."
        )
    array = leaf if isinstance(leaf, np.ndarray) else _from_pandas(leaf, what)
    if array is None:
        array = np.asarray(leaf)
    if array.dtype == object or array.dtype.kind in "OSUMmV" and not is_float(array):
        raise TypeError(
            f"{what} must hold numbers. Received an array of dtype "
            f"{array.dtype} ({type(leaf).__name__}). Encode it as numbers first."
        )
    return array


def _no_array(value: Any) -> str | None:
    """What a data argument is, where it is no array: a dataset, None."""
    if value is None:
        return "None"
    source = source_of(value)
    if source is not None:
        return source.name
    loader = hasattr(value, "__iter__") and not hasattr(value, "__array__")
    if loader and not isinstance(value, (list, tuple, str, bytes)):
        return f"a {type(value).__name__}"
    return None


def _to_dense(leaf: Any) -> str | None:
    """How a sparse or ragged array becomes a dense one."""
    kind = type(leaf)
    if kind.__module__.startswith("scipy.sparse"):
        return "`.toarray()`"
    if kind.__module__.startswith(("tensorflow.", "jax.")):
        return _TO_DENSE.get(kind.__name__)
    return None


def _from_pandas(leaf: Any, what: str) -> np.ndarray | None:
    """A table as an array (rows, columns), a Series as one column, as in ``fit``."""
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not isinstance(leaf, (pandas.DataFrame, pandas.Series)):
        return None
    table = leaf.to_frame() if isinstance(leaf, pandas.Series) else leaf
    kinds = {str(name): dtype for name, dtype in table.dtypes.items()}
    words = [name for name, dtype in kinds.items() if dtype.kind not in "biuf"]
    if words:
        raise TypeError(
            f"{what} must hold numbers. Received a {type(leaf).__name__} whose column "
            f"{words[0]!r} is of dtype {kinds[words[0]]}. Encode it as numbers, or "
            "leave it out."
        )
    if any(dtype.kind == "f" for dtype in kinds.values()) or table.isna().any(
        axis=None
    ):
        floatx = keras.config.floatx()
        return table.to_numpy(dtype=floatx, na_value=np.nan)
    plain = [np.dtype(getattr(d, "numpy_dtype", d)) for d in kinds.values()]
    return table.to_numpy(dtype=np.result_type(*plain) if plain else None)


def _check_finite(array: np.ndarray, what: str) -> None:
    nan = infinite = 0
    for block in blocks(array):
        if not np.isfinite(block).all():
            nan += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
    if nan or infinite:
        raise ValueError(
            f"{what} must be finite. Received {nan} NaN and {infinite} infinite "
            f"numbers in an array of shape {array.shape}. Clean or impute them before "
            "training."
        )


def _as_tuples(value: Any) -> Any:
    # `[1.0, 2.0]` is data, `[x1, x2]` is two inputs, as in `fit`.
    if isinstance(value, list) and value and not hasattr(value[0], "shape"):
        return np.asarray(value)
    return value
