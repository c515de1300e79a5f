"""The training data that L is averaged over, in chunks of the shape of a batch.

L over many rows is the mean over its chunks, weighted by their rows. Chunks of one
shape are stacked to blocks; one compiled program goes over a block, so that nothing of
the size (all rows, activations) is ever made.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.data import Batches, HostBatches, Stream
from hypergrad.data.stream import content
from hypergrad.parts import hparam_dtype
from hypergrad.problem import Bound, Problem
from hypergrad.unroll import StepInputs


class Chunk(NamedTuple):
    """``make()`` is its batch, of shape and dtype ``form``, with that many ``rows``."""

    form: tuple
    rows: int
    make: Callable[[], Any]


class Block(NamedTuple):
    """Chunks of one shape: ``inputs.batches`` (capacity, …), ``inputs.length`` of them.

    ``shares``: array (capacity,), the part of all rows that each chunk has.
    """

    inputs: StepInputs
    shares: Any


class Sample:
    """Rows of the training data, the same whenever they are gone over.

    Args:
        problem: what is trained.
        bound: what its steps receive.
        batch: "all" or an int, rows.
        seed: int, draws them.
    """

    def __init__(self, problem: Problem, bound: Bound, batch: Any, seed: int):
        self._problem = problem
        self._bound = bound
        chunks = _chunks(problem, batch, seed)
        self._rows = sum(chunk.rows for chunk in chunks)
        alike: dict[tuple, list[Chunk]] = {}
        for chunk in chunks:
            alike.setdefault(chunk.form, []).append(chunk)
        # (capacity, chunks) of each block, for each shape
        self._groups: list[list[tuple[int, list[Chunk]]]] = []
        for form, group in alike.items():
            room = max(1, unroll.TRAVELLING // max(1, unroll.bytes_of(form)))
            wanted = min(len(group), room)
            capacity = unroll.lasting_capacity(problem, ("sample", form), wanted)
            starts = range(0, len(group), capacity)
            self._groups.append([(capacity, group[k : k + capacity]) for k in starts])
        size = sum(unroll.bytes_of(chunk.form) for chunk in chunks)
        # What is larger is sent to the device anew each time.
        self._kept = list(self._blocks()) if size <= unroll.TRAVELLING else None

    def __iter__(self) -> Iterator[Block]:
        return self._blocks() if self._kept is None else iter(self._kept)

    def _blocks(self) -> Iterator[Block]:
        return (self._block(*block) for blocks in self._groups for block in blocks)

    def without_rows(self) -> list[Block]:
        """A block of each shape with no chunk in it, to compile what they need."""
        blocks = [self._block(*blocks[0]) for blocks in self._groups]
        return [
            block._replace(inputs=block.inputs._replace(length=np.int32(0)))
            for block in blocks
        ]

    def _block(self, capacity: int, group: list[Chunk]) -> Block:
        batches = [chunk.make() for chunk in group]
        padded = batches + batches[-1:] * (capacity - len(batches))
        shares = np.zeros(capacity, hparam_dtype())
        shares[: len(group)] = [chunk.rows / self._rows for chunk in group]
        inputs = StepInputs(
            shared=self._bound.shared,
            per_step={},
            per_example=self._bound.per_example,
            batches=tree.map_structure(
                lambda *leaves: backend.convert(np.stack(leaves)), *padded
            ),
            length=np.int32(len(group)),
        )
        return Block(inputs, shares)


def check_batch(problem: Problem, batch: Any) -> None:
    """Raises where a problem has no such rows to draw."""
    if batch == "all":
        return
    if not isinstance(problem.batches, (Batches, HostBatches)):
        raise ValueError(
            "`batch` of Implicit draws rows of the arrays that `Problem.from_model` "
            f'was given, expected "all" for other problems. Received: {batch}. Use '
            '`batch="all"`.'
        )
    order: Any = problem.batches
    rows = (order.order if isinstance(order, HostBatches) else order).num_trained
    if batch > rows:
        raise ValueError(
            f"`batch` of Implicit must not exceed the {rows} training examples. "
            f'Received: {batch}. Use `batch="all"`.'
        )


def num_chunks(problem: Problem, batch: Any) -> float:
    """What one product costs, in products on the batch of a step."""
    order = problem.batches
    if isinstance(order, HostBatches):
        order = order.order
    if isinstance(order, Batches):
        rows = order.num_trained if batch == "all" else batch
        return float(rows / min(order.batch_size, order.num_trained))
    if isinstance(order, Stream):
        return float(len(set(order.keys[: problem.num_steps])))
    return 1.0 if order is None else float(problem.num_steps)


def _chunks(problem: Problem, batch: Any, seed: int) -> list[Chunk]:
    order = problem.batches
    if isinstance(order, (Batches, HostBatches)):
        return _of_rows(problem, batch, seed)
    if order is None:
        return [_of_step(problem, problem.num_steps - 1)]
    distinct: dict[bytes, Chunk] = {}
    for t in range(problem.num_steps):
        drawn = isinstance(order, Stream)
        key = order.keys[t] if drawn else content(problem.batch(t))
        if key not in distinct:
            distinct[key] = _of_step(problem, t)
    return list(distinct.values())


def _of_rows(problem: Problem, batch: Any, seed: int) -> list[Chunk]:
    order: Any = problem.batches
    host = isinstance(order, HostBatches)
    plain: Batches = order.order if host else order
    index = plain.trained
    if batch != "all":
        draw = np.random.default_rng(seed)
        index = np.sort(draw.choice(index, batch, replace=False))

    def make(part: np.ndarray) -> Any:
        return {"index": part, **order.rows(part)} if host else part

    size = plain.batch_size
    parts = [index[first : first + size] for first in range(0, len(index), size)]
    # Of the first step's batch, but for the number of rows.
    example = order.form(0)
    return [
        Chunk(
            tuple(((len(part), *shape[1:]), dtype) for shape, dtype in example),
            len(part),
            functools.partial(make, part),
        )
        for part in parts
    ]


def _of_step(problem: Problem, step: int) -> Chunk:
    form = problem.form(step)
    shapes = [shape for shape, _ in form if shape]
    rows = shapes[0][0] if shapes else 1
    return Chunk(form, rows, lambda: problem.batch(step))
