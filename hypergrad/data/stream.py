"""Batches of a dataset: drawn once, then the same for a step whenever asked for."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import tree

from hypergrad.data.arrays import as_arrays, num_rows
from hypergrad.data.batches import AbstractBatches, form_of
from hypergrad.data.sources import AbstractSource, Indexed
from hypergrad.data.weights import weights_of_classes

KEPT = 2**30
"""Bytes of batches that are kept of a dataset whose batches can be drawn again."""

MOST = 10_000
"""Batches that are drawn of a dataset whose length is not known, to find its end."""

NAMES = ("x", "y", "sample_weight")


class Reader:
    """Turns what a dataset gives into checked batches.

    Args:
        source: the dataset.
        what: str, the argument it was given as.
        prefix: str, "" or "validation ": before the names of its arrays.
        class_weight: dict, class → weight, or None.
    """

    def __init__(
        self,
        source: AbstractSource,
        what: str,
        prefix: str = "",
        class_weight: Mapping[int, float] | None = None,
    ):
        self.source = source
        self.what = what
        self.prefix = prefix
        self.class_weight = class_weight
        self.first: tuple = ()
        self.varies = False

    def read(self, raw: Any, number: int) -> dict[str, Any]:
        """The arrays of batch ``number``.

        Raises:
            ValueError, TypeError: what arrays are refused for, and a batch that is not
                like the first.
        """
        where = f"batch {number} of {self.source.name}"
        unbatched = " A dataset must give batches: is `.batch(…)` missing?"
        parts = self._unpacked(raw, where)
        batch = {
            name: as_arrays(
                _complete(value, parts[0]) if name == "sample_weight" else value,
                f"`{self.prefix}{name}` of {where}",
                unbatched,
            )
            for name, value in zip(NAMES, parts)
            if value is not None
        }
        rows = num_rows(batch["x"])
        for name, value in batch.items():
            if num_rows(value) != rows:
                raise ValueError(
                    f"`{self.prefix}x` of {where} has {rows} rows and `{name}` has "
                    f"{num_rows(value)}, expected as many.{unbatched}"
                )
        if self.class_weight is not None:
            batch["sample_weight"] = weights_of_classes(self.class_weight, batch)
        self._check_like_first(batch, where)
        return batch

    def read_at(self, index: int) -> dict[str, Any]:
        """Batch ``index`` of a dataset that has such."""
        try:
            raw = self.source.value[index]
        except Exception as error:
            self.note(error, index)
            raise
        return self.read(raw, index)

    def note(self, error: Exception, number: int) -> None:
        """Adds to an error of the dataset's own which batch it was."""
        error.add_note(f"This was batch {number} of {self.source.name}, `{self.what}`.")

    def _unpacked(self, raw: Any, where: str) -> tuple:
        if isinstance(raw, list):
            raw = tuple(raw)
        if not isinstance(raw, tuple):
            return raw, None, None  # a dict is x
        if not 1 <= len(raw) <= 3 or raw[0] is None:
            raise ValueError(
                f"`{self.what}` must give (x,), (x, y) or (x, y, sample_weight), as "
                f"for `fit`. Received: {where} is a tuple of {len(raw)}. Put several "
                "inputs into a tuple or dict of their own, ((x1, x2), y)."
            )
        return (*raw, None, None)[:3]

    def _check_like_first(self, batch: dict[str, Any], where: str) -> None:
        now = tuple(
            (".".join(map(str, path)), leaf.shape[1:], leaf.dtype.name)
            for path, leaf in tree.flatten_with_path(batch)
        )
        self.first = self.first or now
        kinds = [[(n, len(s), d) for n, s, d in form] for form in (self.first, now)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                "All batches must hold the same arrays, with as many axes and of the "
                f"same dtype. Expected, as in the first: {_shown(self.first)}. "
                f"Received in {where}: {_shown(now)}. Prepare all in the same way."
            )
        self.varies = self.varies or now != self.first


class Stream(AbstractBatches):
    """The batches of a dataset, one for each step of a run.

    What can be drawn only once is kept in the memory of the host, equal batches once.
    Of a dataset that gives batch i as ``dataset[i]`` the first `KEPT` bytes are kept
    and the others drawn anew, and compared with what they were.

    Args:
        reader: `Reader` of the dataset.
    """

    num_examples = None

    def __init__(self, reader: Reader):
        self.reader = reader
        self.keys: list[bytes] = []  # of the batch of each step
        self.forms: dict[bytes, tuple] = {}
        self.example: dict[str, Any] = {}
        self._kept: dict[bytes, dict] = {}
        self._places: dict[bytes, int] = {}  # in a dataset that can be drawn again
        self._room = KEPT

    @property
    def varies(self) -> bool:  # type: ignore[override]
        return self.reader.varies

    def __len__(self) -> int:
        return len(self.keys)

    def __call__(self, step: int) -> dict[str, Any]:
        key = self._key(step)
        if key in self._kept:
            return self._kept[key]
        place = self._places[key]
        source = self.reader.source
        batch = self.reader.read_at(place)
        if content(batch) != key:
            raise ValueError(
                f"Batch {place} of {source.name} must be the same whenever it is asked "
                "for: training is run again, and backwards. Received other numbers "
                "than before. Let `__getitem__` depend on its index alone (seed its "
                "random numbers by it), or pass a generator over the dataset: what it "
                "gives is drawn once and kept."
            )
        return batch

    def form(self, step: int) -> tuple:
        return self.forms[self._key(step)]

    def longest_run(self, step: int) -> int | None:
        if len(set(self.forms.values())) == 1:
            return None
        form = self.form(step)
        runs = itertools.groupby(self.forms[key] for key in self.keys)
        return max(len(list(run)) for other, run in runs if other == form)

    def reordered(self, seed: int) -> "Stream":
        return self

    @property
    def fingerprint(self) -> str:
        total = hashlib.blake2b(b"".join(self.keys), digest_size=8).hexdigest()
        return f"{len(self.keys)} of {self.reader.source.name}, content {total}"

    def add(self, batch: dict[str, Any], place: int | None = None) -> bytes:
        """The batch of the next step; ``place``: its index where it has one."""
        key = content(batch)
        if key not in self.forms:
            self.forms[key] = form_of(batch)
            self.example = self.example or batch
            size = sum(leaf.nbytes for leaf in tree.flatten(batch))
            if place is None or size <= self._room:
                self._kept[key] = batch
                self._room -= size
            else:
                self._places[key] = place
        self.keys.append(key)
        return key

    def _key(self, step: int) -> bytes:
        if step < len(self.keys):
            return self.keys[step]
        raise ValueError(
            f"`{self.reader.what}`, {self.reader.source.name}, was drawn for "
            f"{len(self.keys)} steps, expected no later one. Received: step {step}. "
            "Make a new Problem.from_model with more `steps`."
        )


def draw_steps(
    reader: Reader, steps: int | None, epochs: int | None, shuffle: bool, seed: int
) -> Stream:
    """Draws the batches of a run.

    Args:
        steps: int, how many, or
        epochs: int, passes over the dataset; by default 1.
        shuffle: bool, a permutation of the batches of a PyDataset for each epoch from
            (seed, epoch).

    Raises:
        ValueError: a dataset that is empty, has no end and no ``steps``, or ends early
            and cannot be iterated again.
    """
    source, stream = reader.source, Stream(reader)
    if steps is None and source.num_batches is not None:
        steps = (epochs or 1) * source.num_batches
    if isinstance(source, Indexed) and _can_be_drawn_again(reader, shuffle, seed):
        _draw_indexed(stream, _wanted(reader, steps), shuffle, seed)
        return stream
    for epoch in itertools.count():
        before = len(stream)
        for batch in _epoch(reader, epoch, shuffle, seed, before, steps):
            stream.add(batch)
        if steps is None:
            steps = len(stream) * (epochs or 1)
        if len(stream) >= steps > 0:
            return stream
        if len(stream) == before or not source.repeats:
            _refuse_short(reader, len(stream), steps)
    return stream


def draw_pass(reader: Reader) -> list[dict[str, Any]]:
    """All batches of a dataset, in order."""
    batches = list(_epoch(reader, 0, False, 0, 0, reader.source.num_batches))
    if not batches:
        _refuse_short(reader, 0, 0)
    return batches


def content(batch: Mapping[str, Any]) -> bytes:
    """What tells batches apart: a hash of their arrays."""
    total = hashlib.blake2b(digest_size=16)
    for path, leaf in tree.flatten_with_path(batch):
        total.update(f"{path}{leaf.shape}{leaf.dtype}".encode())
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.digest()


def joined(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows of all batches in one dict of arrays."""
    return tree.map_structure(lambda *leaves: np.concatenate(leaves), *batches)


def _epoch(
    reader: Reader, number: int, shuffle: bool, seed: int, done: int, wanted: int | None
) -> Iterator[dict[str, Any]]:
    """Batches of an epoch, until ``wanted`` were drawn in all; None: no limit."""
    source = reader.source
    if wanted is None and source.endless:
        _refuse_endless(reader, f"{source.name} that has no end")
    raws = source.epoch(number, shuffle, seed)
    for i in itertools.count(done):
        if i == wanted:
            if isinstance(source, Indexed) and i == done + (source.num_batches or 0):
                next(raws, None)  # it ends its epoch
            return
        if wanted is None and i == MOST:
            _refuse_endless(reader, f"{source.name} that gave {MOST} batches and more")
        try:
            raw = next(raws)
        except StopIteration:
            return
        except Exception as error:
            reader.note(error, i)
            raise
        yield reader.read(raw, i)


def _can_be_drawn_again(reader: Reader, shuffle: bool, seed: int) -> bool:
    """Whether a PyDataset is indexed anew: nothing between epochs, the same twice."""
    source = reader.source
    assert isinstance(source, Indexed)
    if source.changes_by_epoch or source.num_batches == 0:
        return False
    index = int(next(iter(source.order(0, shuffle, seed))))
    twice = [content(reader.read_at(index)) for _ in range(2)]
    return twice[0] == twice[1]


def _draw_indexed(stream: Stream, steps: int, shuffle: bool, seed: int) -> None:
    source = stream.reader.source
    assert isinstance(source, Indexed)
    known: dict[int, bytes] = {}
    indices = itertools.chain.from_iterable(
        source.order(epoch, shuffle, seed) for epoch in itertools.count()
    )
    for index in map(int, itertools.islice(indices, steps)):
        if index in known:
            stream.keys.append(known[index])
            continue
        known[index] = stream.add(stream.reader.read_at(index), index)


def _wanted(reader: Reader, steps: int | None) -> int:
    if steps is None:
        _refuse_endless(reader, f"{reader.source.name} that has no end")
    assert steps is not None
    return steps


def _refuse_endless(reader: Reader, received: str) -> None:
    fix = "Pass `steps=`, the number of training steps."
    if reader.prefix:
        fix = "Pass a part of it that ends, such as `dataset.take(10)`."
    raise ValueError(
        f"`{reader.what}` must be a dataset that ends, or the number of its batches be "
        f"given. Received: {received}. {fix}"
    )


def _refuse_short(reader: Reader, given: int, wanted: int) -> None:
    source = reader.source
    if given == 0:
        raise ValueError(
            f"`{reader.what}` must give at least one batch. Received: {source.name} "
            "that gave none. Check how it was made; a generator is used up by whoever "
            "iterates it first."
        )
    raise ValueError(
        f"`{reader.what}` ended before training did, expected {wanted} batches. "
        f"Received: {source.name} that gave {given} batches and cannot be iterated "
        f"again. Train for at most {given} steps, or pass a dataset that can be "
        "iterated again: arrays, a tf.data.Dataset or a PyDataset."
    )


def _complete(sample_weight: Any, x: Any) -> Any:
    """Weights of 1 for the outputs that have none."""
    if not isinstance(sample_weight, (dict, tuple, list)):
        return sample_weight
    rows = len(tree.flatten(x)[0])
    return tree.map_structure(
        lambda leaf: np.ones(rows) if leaf is None else leaf, sample_weight
    )


def _shown(form: tuple) -> str:
    return ", ".join(f"{name} (rows{_axes(shape)}) {d}" for name, shape, d in form)


def _axes(shape: tuple) -> str:
    return "".join(f", {n}" for n in shape) + ("," if not shape else "")
