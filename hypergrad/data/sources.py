"""Datasets as ``fit`` takes them, each as something that is iterated by epochs.

They are recognised by their classes' names, so that no framework is imported here.
"""

import abc
import dataclasses
import itertools
import types
from collections.abc import Iterator
from typing import Any

import keras

from hypergrad.data.batches import permutation


@dataclasses.dataclass(frozen=True)
class AbstractSource(abc.ABC):
    """A dataset.

    Args:
        value: the user's object.
        name: str, what it is in an error message.
        num_batches: int, batches of one epoch; None: not known.
        endless: bool, whether it is known to have no end.
        repeats: bool, whether it can be iterated again for another epoch.
        weighs_classes: bool, whether ``fit`` takes ``class_weight`` with it.
    """

    value: Any
    name: str
    num_batches: int | None = None
    endless: bool = False
    repeats: bool = True
    weighs_classes: bool = False

    @abc.abstractmethod
    def epoch(self, number: int, shuffle: bool, seed: int) -> Iterator[Any]:
        """The batches of an epoch. ``shuffle``: where the dataset leaves that open."""


@dataclasses.dataclass(frozen=True)
class Iterable(AbstractSource):
    """``tf.data.Dataset``, grain and generators: what comes, in the order it comes."""

    def epoch(self, number: int, shuffle: bool, seed: int) -> Iterator[Any]:
        return iter(self.value)


@dataclasses.dataclass(frozen=True)
class Indexed(AbstractSource):
    """``keras.utils.PyDataset``: batch i is ``dataset[i]``."""

    @property
    def changes_by_epoch(self) -> bool:
        """Whether it does something between epochs."""
        base, own = keras.utils.PyDataset, type(self.value)
        return (
            own.on_epoch_begin is not base.on_epoch_begin
            or own.on_epoch_end is not base.on_epoch_end
        )

    def order(self, number: int, shuffle: bool, seed: int) -> Any:
        """The indices of an epoch: a permutation, endless ones in order."""
        if self.num_batches is None:
            return itertools.count()
        return permutation(self.num_batches, shuffle, seed, number)

    def epoch(self, number: int, shuffle: bool, seed: int) -> Iterator[Any]:
        if number == 0:
            # `fit` looks at a batch before its first epoch, and resets.
            self.value.on_epoch_begin()
            self.value.on_epoch_end()
        self.value.on_epoch_begin()
        for index in self.order(number, shuffle, seed):
            yield self.value[int(index)]
        self.value.on_epoch_end()


def source_of(value: Any) -> AbstractSource | None:
    """The dataset that a value is, or None."""
    if isinstance(value, keras.utils.PyDataset):
        number = value.num_batches
        return Indexed(
            value,
            f"a PyDataset ({type(value).__name__})",
            number,
            endless=number is None,
            weighs_classes=True,
        )
    if isinstance(value, types.GeneratorType):
        return Iterable(value, "a generator", repeats=False)
    if _is_a(value, "DatasetV2", "tensorflow."):
        number = int(value.cardinality())  # -1: infinite, -2: unknown
        return Iterable(
            value,
            "a tf.data.Dataset",
            number if number >= 0 else None,
            endless=number == -1,
            weighs_classes=True,
        )
    for kind in ("MapDataset", "IterDataset", "DataLoader"):
        if _is_a(value, kind, "grain."):
            return Iterable(value, f"a grain {kind}", endless=_is_endless(value))
    return None


def _is_a(value: Any, name: str, package: str) -> bool:
    return any(
        parent.__name__ == name and parent.__module__.startswith(package)
        for parent in type(value).__mro__
    )


def _is_endless(value: Any) -> bool:
    # `MapDataset.repeat()` has the length `sys.maxsize`.
    try:
        return len(value) > 2**53
    except (TypeError, OverflowError):
        return False
