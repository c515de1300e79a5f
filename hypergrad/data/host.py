"""Arrays that stay in the memory of the host: their rows travel to the device.

Arrays of more than `arrays.ON_DEVICE` bytes together, and memory-mapped ones, are no
argument of the compiled steps. The rows of each batch are gathered where the arrays
are, and the batches of a segment of steps are sent to the device together.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad.data import arrays as room
from hypergrad.data.arrays import blocks, is_float, is_mapped
from hypergrad.data.batches import AbstractBatches, Batches, form_of


def stays_on_host(arrays: Any) -> bool:
    """Whether arrays are too large to be one argument of the compiled steps."""
    leaves = tree.flatten(arrays)
    size = sum(leaf.nbytes for leaf in leaves)
    return size > room.ON_DEVICE or any(is_mapped(leaf) for leaf in leaves)


class HostRows:
    """Examples in the memory of the host, or in files.

    Args:
        arrays: dict of nested NumPy arrays; not copied, and not to be changed.
    """

    def __init__(self, arrays: dict[str, Any]):
        self.arrays = arrays

    def __call__(self, index: np.ndarray) -> dict[str, Any]:
        """Rows of every array, floats in ``floatx``."""
        return tree.map_structure(lambda leaf: _cast(leaf[index]), self.arrays)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A checksum of all rows, read part by part."""
        total = hashlib.blake2b(digest_size=16)
        for path, leaf in tree.flatten_with_path(self.arrays):
            total.update(f"{path}{leaf.shape}{leaf.dtype}".encode())
            for block in blocks(leaf):
                total.update(np.ascontiguousarray(block).tobytes())
        return total.hexdigest()


class HostBatches(AbstractBatches):
    """The batches of `Batches`, as rows that travel, with their index."""

    varies = False

    def __init__(self, order: Batches, rows: HostRows):
        self.order = order
        self.rows = rows
        self.num_examples = order.num_examples
        self._row = form_of(rows(np.arange(1)))

    def __call__(self, step: int) -> dict[str, Any]:
        index = self.order(step)
        return {"index": index, **self.rows(index)}

    def form(self, step: int) -> tuple:
        rows = self.order.rows(step)
        leaves = [((rows, *shape[1:]), dtype) for shape, dtype in self._row]
        return (*self.order.form(step), *leaves)

    def longest_run(self, step: int) -> int | None:
        return self.order.longest_run(step)

    def reordered(self, seed: int) -> "HostBatches":
        return HostBatches(self.order.reordered(seed), self.rows)

    @property
    def fingerprint(self) -> str:
        return f"{self.order.fingerprint} of {self.rows.fingerprint}"


class Parts(Sequence):
    """Parts of validation data, each made when it is asked for.

    Args:
        make: function, k → dict of arrays, the rows of part k.
        sizes: sequence of int, their rows.
        fingerprint: function () → text, the same for the same numbers.
    """

    def __init__(
        self,
        make: Callable[[int], dict[str, Any]],
        sizes: Sequence[int],
        fingerprint: Callable[[], str],
    ):
        self.make = make
        self.sizes = tuple(sizes)
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, k: Any) -> Any:
        if not 0 <= k < len(self):
            raise IndexError(k)
        return self.make(k)

    def __iter__(self) -> Iterator[Any]:
        return (self.make(k) for k in range(len(self)))


def _cast(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows)
    if is_float(rows):
        return rows.astype(keras.config.floatx(), copy=False)
    return rows
