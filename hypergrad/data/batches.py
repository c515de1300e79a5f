"""The order in which training meets its examples."""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree


class AbstractBatches(abc.ABC):
    """A function, t → the batch of step t, the same whenever it is asked for.

    A batch is an array of row indices, whose rows are gathered inside the compiled step
    from data that are its argument; or the rows themselves, as a dict with ``x`` and,
    where there are any, ``y``, ``sample_weight``, and ``index``, their numbers.
    """

    num_examples: int | None
    """Rows that the indices of a batch refer to; None: batches have no indices."""

    varies: bool
    """Whether batches differ in more than their number of rows."""

    @abc.abstractmethod
    def __call__(self, step: int) -> Any:
        """The batch of a step, as NumPy arrays."""

    @abc.abstractmethod
    def form(self, step: int) -> tuple:
        """((shape, dtype) of each leaf) of the batch of a step, which is not drawn."""

    @abc.abstractmethod
    def longest_run(self, step: int) -> int | None:
        """How many batches of that step's form can follow each other; None: any."""

    @abc.abstractmethod
    def reordered(self, seed: int) -> "AbstractBatches":
        """The same in the order of that seed; a dataset keeps its own order."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A text that two of them share where they give the same batches."""


@dataclasses.dataclass(frozen=True)
class Batches(AbstractBatches):
    """Row indices of arrays.

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
    varies = False

    @property
    def trained(self) -> np.ndarray:
        """The rows that training visits."""
        return np.arange(self.num_examples, dtype="int32")

    @property
    def num_trained(self) -> int:
        return self.num_examples

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(self.num_trained, self.batch_size)
        return whole + (rest > 0 and not self.drop_remainder)

    def rows(self, step: int) -> int:
        """How many rows the batch of a step has."""
        start = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, self.num_trained - start)

    def form(self, step: int) -> tuple:
        return (((self.rows(step),), "int32"),)

    def longest_run(self, step: int) -> int | None:
        whole, rest = divmod(self.num_trained, self.batch_size)
        if rest == 0 or whole == 0 or self.drop_remainder:
            return None
        return whole if self.rows(step) == self.batch_size else 1

    def reordered(self, seed: int) -> "Batches":
        return dataclasses.replace(self, seed=seed)

    @property
    def fingerprint(self) -> str:
        return str(self)

    def __call__(self, step: int) -> np.ndarray:
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        order = permutation(self.num_trained, self.shuffle, self.seed, epoch)
        return order[start : start + self.batch_size]


@functools.lru_cache(maxsize=8)
def permutation(number: int, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch."""
    if not shuffle:
        return np.arange(number, dtype="int32")
    generator = np.random.default_rng([seed, epoch])
    return generator.permutation(number).astype("int32")


def form_of(batch: Any) -> tuple:
    """((shape, dtype) of each leaf): what decides which program runs it."""
    return tuple((leaf.shape, leaf.dtype.name) for leaf in tree.flatten(batch))


def row_index(batch: Any) -> Any:
    """The row indices of a batch, for numbers that each example has."""
    if isinstance(batch, Mapping) and "index" in batch:
        return batch["index"]
    return batch
