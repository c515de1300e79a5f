"""Replayable batches: the same rows for step t forwards, backwards and after a resume.

A batch is an array of row indices, drawn anew from (seed, epoch) whenever it is asked
for; the rows themselves are gathered inside the compiled step, from data that are its
argument. No copy of the data is made.
"""

import dataclasses
import functools
import sys
import types
from typing import Any

import keras
import numpy as np
from keras import tree


@dataclasses.dataclass(frozen=True)
class Batches:
    """The order in which training meets its examples.

    Epoch ``e`` visits a permutation of the rows that depends on ``(seed, e)`` alone,
    the same on both backends, or the rows in order where ``shuffle`` is False. The
    last batch of an epoch holds what is left, as in ``fit``.

    Args:
        num_examples: int, rows of the data.
        batch_size: int.
        shuffle: bool.
        seed: int.
        drop_remainder: bool, leaves out a last batch that is not full.
    """

    num_examples: int
    batch_size: int
    shuffle: bool = True
    seed: int = 0
    drop_remainder: bool = False

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(self.num_examples, self.batch_size)
        return whole + (rest > 0 and not self.drop_remainder)

    def longest_run(self, rows: int) -> int | None:
        """How many batches of ``rows`` rows can follow each other; None: no limit."""
        rest = self.num_examples % self.batch_size
        if rest == 0 or self.drop_remainder:
            return None
        whole = self.num_examples // self.batch_size
        if whole == 0:
            return None
        return whole if rows == self.batch_size else 1

    def __call__(self, step: int) -> np.ndarray:
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        order = _order(self.num_examples, self.shuffle, self.seed, epoch)
        return order[start : start + self.batch_size]


@functools.lru_cache(maxsize=8)
def _order(num_examples: int, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
    if not shuffle:
        return np.arange(num_examples, dtype="int32")
    generator = np.random.default_rng([seed, epoch])
    return generator.permutation(num_examples).astype("int32")


def as_arrays(value: Any, what: str) -> Any:
    """Nested arrays or tensors as NumPy arrays, floats in ``floatx`` as in ``fit``.

    Raises:
        ValueError: empty data, NaN or infinite numbers, or arrays that disagree about
            the number of rows.
        TypeError: what is no array.
    """

    def one(leaf: Any) -> np.ndarray:
        kind = _no_array(leaf)
        if kind is not None:
            raise TypeError(
                f"`{what}` must hold arrays, whose rows every step can be given again. "
                f"Received: {kind}. Load the examples into arrays first."
            )
        array = np.asarray(leaf)
        if array.dtype == object or array.dtype.kind in "OSU":
            raise TypeError(
                f"`{what}` must hold numbers. Received an array of dtype "
                f"{array.dtype} ({type(leaf).__name__}). Encode it as numbers first."
            )
        if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
            array = array.astype(keras.config.floatx())
            if not np.isfinite(array).all():
                raise ValueError(
                    f"`{what}` must be finite. Received {np.isnan(array).sum()} NaN "
                    f"and {np.isinf(array).sum()} infinite numbers in an array of "
                    f"shape {array.shape}. Clean or impute them before training."
                )
        if array.ndim == 0:
            raise ValueError(
                f"`{what}` must be an array with one row for each example. Received a "
                f"scalar: {leaf!r}. Pass an array of shape (rows, …)."
            )
        return array

    arrays = tree.map_structure(one, _as_tuples(value))
    rows = {len(leaf) for leaf in tree.flatten(arrays)}
    if not rows or rows == {0}:
        raise ValueError(
            f"`{what}` must hold at least one example. Received no rows. Check how "
            "the data were split."
        )
    if len(rows) > 1:
        raise ValueError(
            f"All arrays of `{what}` must have the same number of rows. Received "
            f"{sorted(rows)} rows. Pass one row for each example in each array."
        )
    return arrays


def _no_array(value: Any) -> str | None:
    """What a data argument is, where it is no array: a dataset, a generator."""
    if value is None:
        return "None"
    if isinstance(value, (types.GeneratorType, keras.utils.PyDataset)):
        return f"a {type(value).__name__}"
    tensorflow = sys.modules.get("tensorflow")
    dataset: Any = getattr(getattr(tensorflow, "data", None), "Dataset", ())
    return "a tf.data.Dataset" if isinstance(value, dataset) else None


def _as_tuples(value: Any) -> Any:
    # `[1.0, 2.0]` is data, `[x1, x2]` is two inputs, as in `fit`.
    if isinstance(value, list) and value and not hasattr(value[0], "shape"):
        return np.asarray(value)
    return value


def num_rows(value: Any) -> int:
    """Rows of nested arrays that `as_arrays` has checked."""
    return len(tree.flatten(value)[0])


def take(value: Any, index: Any) -> Any:
    """Rows ``index`` of every array of a tree; None stays None."""
    if value is None:
        return None
    return tree.map_structure(lambda leaf: keras.ops.take(leaf, index, axis=0), value)
