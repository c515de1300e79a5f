"""Cross-validation: which rows a training sees, and which measure it."""

import dataclasses
import functools
from typing import Any

import numpy as np

from hypergrad.data.arrays import num_rows, take
from hypergrad.data.batches import Batches


@dataclasses.dataclass(frozen=True)
class Fold:
    """One of ``number`` equal parts of the rows, which training does not see.

    Rows that are left over belong to no fold.

    Args:
        number: int, K.
        which: int, 0 … K − 1.
        num_examples: int, rows.
        seed: int, of the permutation that is parted; None: the rows in order.
    """

    number: int
    which: int
    num_examples: int
    seed: int | None = None

    @property
    def held_out(self) -> np.ndarray:
        """Its rows, in order."""
        size = self.num_examples // self.number
        order = _order(self.num_examples, self.seed)
        return np.sort(order[self.which * size : (self.which + 1) * size])

    @functools.cached_property
    def trained(self) -> np.ndarray:
        """All other rows, in order."""
        rows = np.arange(self.num_examples, dtype="int32")
        return np.delete(rows, self.held_out)


@dataclasses.dataclass(frozen=True)
class FoldBatches(Batches):
    """The batches of the rows that a fold leaves, with their numbers among all rows.

    ``num_examples`` stays that of all rows, which the indices refer to.
    """

    fold: Fold | None = None

    @property
    def _fold(self) -> Fold:
        assert self.fold is not None
        return self.fold

    @property
    def num_folds(self) -> int:
        return self._fold.number

    @property
    def trained(self) -> np.ndarray:
        return self._fold.trained

    @property
    def num_trained(self) -> int:
        return len(self.trained)

    def __call__(self, step: int) -> np.ndarray:
        return self.trained[super().__call__(step)]

    def without(self, which: int) -> "FoldBatches":
        """The batches that another fold leaves."""
        fold = dataclasses.replace(self._fold, which=which % self.num_folds)
        return dataclasses.replace(self, fold=fold)

    def validation(self, train: dict[str, Any], names: Any) -> dict[str, Any]:
        """The rows of the fold, of the arrays of these names."""
        rows = self._fold.held_out
        return {name: take(train[name], rows) for name in names}


def checked_folds(folds: Any, data: dict[str, Any]) -> int:
    """The number of folds of these arrays."""
    rows = num_rows(data["x"])
    whole = isinstance(folds, (int, np.integer)) and not isinstance(folds, bool)
    if not whole or not 2 <= folds <= rows:
        raise ValueError(
            f"`folds` must be an integer from 2 to the number of rows, {rows}. "
            f"Received: {folds!r}."
        )
    return int(folds)


def samples_of_folds(folds: int, average: int) -> int:
    """How many samples there are: each fold as often as the others."""
    if average == 1:
        return folds
    if average % folds:
        raise ValueError(
            f"`average` must be a multiple of folds={folds}, so that each fold counts "
            f"alike. Received: {average}. Leave it out for {folds}."
        )
    return average


@functools.lru_cache(maxsize=4)
def _order(number: int, seed: int | None) -> np.ndarray:
    if seed is None:
        return np.arange(number, dtype="int32")
    # Not the permutation of an epoch.
    generator = np.random.default_rng([seed, number, 1])
    return generator.permutation(number).astype("int32")
