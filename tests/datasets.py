"""The same batches as every kind of dataset, and a model that trains on them."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

ROWS, BATCH = 20, 8  # batches of 8, 8 and 4 rows
draw = np.random.default_rng(3)
X = draw.normal(size=(ROWS, 3)).astype("float32")
Y = draw.normal(size=(ROWS, 1)).astype("float32")
WEIGHTS = draw.uniform(0.5, 1.5, size=ROWS).astype("float32")
X_VAL = draw.normal(size=(12, 3)).astype("float32")
Y_VAL = draw.normal(size=(12, 1)).astype("float32")
RATE = "optimizer.learning_rate"


class Rows(keras.utils.PyDataset):
    """Batches of the rows of arrays."""

    def __init__(self, *arrays: Any):
        super().__init__()
        self.arrays = arrays
        self.asked = 0

    def __len__(self) -> int:
        return -(-len(self.arrays[0]) // BATCH)

    def __getitem__(self, i: int) -> tuple:
        self.asked += 1
        return tuple(a[i * BATCH : (i + 1) * BATCH] for a in self.arrays)


class Reshuffled(Rows):
    """Another order for each epoch, changed between them."""

    def __init__(self, *arrays: Any):
        super().__init__(*arrays)
        self.generator = np.random.default_rng(0)
        self.begun = 0

    def on_epoch_begin(self) -> None:
        self.begun += 1

    def on_epoch_end(self) -> None:
        order = self.generator.permutation(len(self.arrays[0]))
        self.arrays = tuple(a[order] for a in self.arrays)


class Noisy(Rows):
    """Another batch whenever it is asked for."""

    generator = np.random.default_rng(5)

    def __getitem__(self, i: int) -> tuple:
        x, *others = super().__getitem__(i)
        return (x + self.generator.normal(size=x.shape), *others)


def tf_dataset(*arrays: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH)


def tf_of_unknown_length(*arrays: Any) -> Any:
    return tf_dataset(*arrays).filter(lambda *rows: True)


def generator(*arrays: Any, epochs: int = 1) -> Iterator[tuple]:
    dataset = Rows(*arrays)
    return (dataset[i] for _ in range(epochs) for i in range(len(dataset)))


def endless_generator(*arrays: Any) -> Iterator[tuple]:
    dataset = Rows(*arrays)
    while True:
        yield from (dataset[i] for i in range(len(dataset)))


def grain_map(*arrays: Any) -> Any:
    import grain

    rows = [tuple(a[i] for a in arrays) for i in range(len(arrays[0]))]
    return grain.MapDataset.source(rows).batch(BATCH)


def grain_iter(*arrays: Any) -> Any:
    return grain_map(*arrays).to_iter_dataset()


def grain_loader(*arrays: Any) -> Any:
    import grain

    rows = [tuple(a[i] for a in arrays) for i in range(len(arrays[0]))]
    sampler = grain.samplers.IndexSampler(len(rows), num_epochs=1)
    return grain.DataLoader(
        data_source=rows,
        sampler=sampler,
        operations=[grain.transforms.Batch(BATCH)],
    )


KINDS: dict[str, Callable] = {
    "tf.data": tf_dataset,
    "tf.data of unknown length": tf_of_unknown_length,
    "PyDataset": Rows,
    "generator": generator,
    "grain MapDataset": grain_map,
    "grain IterDataset": grain_iter,
    "grain DataLoader": grain_loader,
}
ONCE = ("generator",)
"""Kinds that cannot be iterated again."""


def model_of(loss: Any = "mse") -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(
                4,
                "tanh",
                kernel_initializer=keras.initializers.GlorotUniform(1),
                kernel_regularizer="l2",
            ),
            layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )
    optimizer = keras.optimizers.SGD(0.0625, momentum=0.75)
    model.compile(optimizer, loss, metrics=["mae"], jit_compile=False)
    return model
