"""Data that cannot be trained on: one clear error each, before anything is trained."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import hypergrad as hg
from datasets import (
    X_VAL,
    Y_VAL,
    Rows,
    X,
    Y,
    endless_generator,
    generator,
    grain_map,
    model_of,
    tf_dataset,
    tf_of_unknown_length,
)
from hypergrad.data import stream

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return model_of()


def problem_of(model: keras.Model, x: Any, **arguments: Any) -> hg.Problem:
    return hg.Problem.from_model(
        model,
        x,
        **{
            "validation_data": (X_VAL, Y_VAL),
            "hyperparameters": ["optimizer.learning_rate"],
            **arguments,
        },
    )


def refused(model: keras.Model, kind: type, words: tuple, x: Any, **arguments: Any):
    with pytest.raises(kind) as error:
        problem_of(model, x, **arguments)
    for word in words:
        assert word in str(error.value), str(error.value)


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, i: int) -> tuple:
        return X, Y


class Giving(keras.utils.PyDataset):
    """The batches of a list."""

    def __init__(self, *batches: Any):
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> Any:
        return self.batches[i]


def unbatched() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y))


NAN = np.where(X > 1, np.nan, X)

LENGTHS: dict[str, tuple[Callable, dict, tuple]] = {
    "a generator that ends": (
        lambda: generator(X, Y),
        {"steps": 5},
        ("`x` ended before", "expected 5 batches", "gave 3 batches", "iterated again"),
    ),
    "a generator for two epochs": (
        lambda: generator(X, Y),
        {"epochs": 2},
        ("expected 6 batches", "a generator that gave 3 batches", "at most 3 steps"),
    ),
    "a generator that is used up": (
        lambda: generator(X[:0], Y[:0]),
        {},
        ("`x` must give at least one batch", "a generator that gave none", "used up"),
    ),
    "an endless generator": (
        lambda: endless_generator(X, Y),
        {},
        ("`x` must be a dataset that ends", "gave 20 batches and more", "`steps=`"),
    ),
    "an endless tf.data.Dataset": (
        lambda: tf_dataset(X, Y).repeat(),
        {"epochs": 2},
        ("a tf.data.Dataset that has no end", "`steps=`"),
    ),
    "an endless PyDataset": (
        Endless,
        {},
        ("a PyDataset (Endless) that has no end", "`steps=`"),
    ),
    "an endless grain dataset": (
        lambda: grain_map(X, Y).repeat(),
        {},
        ("a grain MapDataset that has no end", "`steps=`"),
    ),
    "an empty PyDataset": (Giving, {}, ("at least one batch", "(Giving) that gave no")),
    "an empty tf.data.Dataset": (
        lambda: tf_of_unknown_length(X, Y).take(0),
        {"steps": 3},
        ("at least one batch", "a tf.data.Dataset that gave none"),
    ),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_lengths(case: str, model: keras.Model, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "MOST", 20)
    make, arguments, words = LENGTHS[case]
    refused(model, ValueError, words, make(), **arguments)


BESIDE: dict[str, tuple[Callable, dict, tuple]] = {
    "y": (
        lambda: tf_dataset(X, Y),
        {"y": Y},
        ("`y` must be part of the dataset", "`x` is a tf.data.Dataset", "(x, y)"),
    ),
    "sample_weight": (
        lambda: Rows(X, Y),
        {"sample_weight": np.ones(20)},
        ("`sample_weight` must be part", "a PyDataset (Rows)"),
    ),
    "validation_split": (
        lambda: tf_dataset(X, Y),
        {"validation_split": 0.2, "validation_data": None},
        ("`validation_split` splits arrays", "Pass `validation_data=`"),
    ),
    "batch_size": (
        lambda: tf_dataset(X, Y),
        {"batch_size": 4},
        ("`batch_size` is for arrays", "batch_size=4", ".batch(64"),
    ),
    "drop_remainder": (
        lambda: Rows(X, Y),
        {"drop_remainder": True},
        ("`drop_remainder` is for arrays", "drop_remainder=True"),
    ),
    "class_weight of a generator": (
        lambda: generator(X, Y),
        {"class_weight": {0: 2.0}},
        ("`class_weight` must come with arrays", "as in `fit`", "a generator"),
    ),
    "class_weight of a grain dataset": (
        lambda: grain_map(X, Y),
        {"class_weight": {0: 2.0}},
        ("`class_weight` must come with arrays", "a grain MapDataset"),
    ),
    "class_weight and sample_weight": (
        lambda: Rows(X, Y, np.ones(20)),
        {"class_weight": {0: 2.0}},
        ("`class_weight` and `sample_weight` cannot both",),
    ),
    "steps and epochs": (
        lambda: Rows(X, Y),
        {"steps": 2, "epochs": 2},
        ("Give `steps` or `epochs`, not both",),
    ),
    "no validation data": (
        lambda: Rows(X, Y),
        {"validation_data": None},
        ("neither `validation_data` nor",),
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_a_dataset_does_not_go_with(case: str, model: keras.Model) -> None:
    make, arguments, words = BESIDE[case]
    refused(model, ValueError, words, make(), **arguments)


CONTENTS: dict[str, tuple[type, Callable, tuple]] = {
    "NaN": (
        ValueError,
        lambda: Giving((X, Y), (NAN, Y)),
        ("`x` of batch 1 of a PyDataset (Giving) must be finite", "NaN", "Clean"),
    ),
    "rows": (
        ValueError,
        lambda: Giving((X, Y), (X, Y[:7])),
        ("`x` of batch 1", "has 20 rows and `y` has 7"),
    ),
    "no batches but rows": (
        ValueError,
        unbatched,
        ("`x` of batch 0 of a tf.data.Dataset has 3 rows", "is `.batch(…)` missing?"),
    ),
    "scalars": (
        ValueError,
        lambda: ((x, y) for x, y in zip(X[:, 0], Y[:, 0])),
        ("`x` of batch 0 of a generator must be an array", "is `.batch(…)` missing?"),
    ),
    "four parts": (
        ValueError,
        lambda: Giving((X, Y, Y, Y)),
        ("(x, y, sample_weight)", "batch 0 of a PyDataset", "a tuple of 4"),
    ),
    "another axis": (
        ValueError,
        lambda: Giving((X, Y), (X, Y[:, 0])),
        ("All batches must hold the same arrays", "as in the first", "batch 1", "y (r"),
    ),
    "another dtype": (
        ValueError,
        lambda: Giving((X, Y), (X, Y > 0)),
        ("of the same dtype", "y (rows, 1) bool"),
    ),
    "y now and then": (
        ValueError,
        lambda: Giving((X, Y), (X,)),
        ("All batches must hold the same arrays", "batch 1"),
    ),
    "words": (
        TypeError,
        lambda: tf_dataset(np.array(["a"] * 20), Y),
        ("`x` of batch 0 of a tf.data.Dataset must hold numbers", "Encode"),
    ),
    "sparse tensors": (
        TypeError,
        lambda: tf.data.Dataset.from_tensor_slices((tf.sparse.eye(20), Y)).batch(4),
        ("must hold dense arrays", "SparseTensor", "tf.sparse.to_dense"),
    ),
    "ragged tensors": (
        TypeError,
        lambda: Giving((tf.ragged.constant([[1.0], [1.0, 2.0]]), Y[:2])),
        ("must hold dense arrays", "RaggedTensor", ".to_tensor()"),
    ),
    "no y": (ValueError, lambda: Giving((X,)), ("`y` must be given",)),
    "another width": (
        ValueError,
        lambda: tf_dataset(X[:, :2], Y),
        ("Training and validation `x` must have the same form",),
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_contents(case: str, model: keras.Model) -> None:
    kind, make, words = CONTENTS[case]
    validation = {"validation_data": (X_VAL,)} if case == "no y" else {}
    refused(model, kind, words, make(), **validation)


VALIDATION: dict[str, tuple[Callable, tuple]] = {
    "endless": (
        lambda: tf_dataset(X, Y).repeat(),
        ("`validation_data` must be a dataset that ends", "`dataset.take(10)`"),
    ),
    "empty": (Giving, ("`validation_data` must give at least one batch",)),
    "NaN": (
        lambda: Giving((X, Y), (NAN, Y)),
        ("`validation x` of batch 1 of a PyDataset (Giving) must be finite",),
    ),
    "no y": (lambda: Giving((X,)), ("the y of `validation_data`", "both be given")),
    "another width": (
        lambda: tf_dataset(X[:, :2], Y),
        ("Training and validation `x`", "(20, 3)", "(20, 2)"),
    ),
}


@pytest.mark.parametrize("case", VALIDATION)
def test_validation_data(case: str, model: keras.Model) -> None:
    make, words = VALIDATION[case]
    refused(model, ValueError, words, X, y=Y, validation_data=make())


def test_an_error_of_the_dataset_names_the_batch(model: keras.Model) -> None:
    class Failing(Rows):
        def __getitem__(self, i: int) -> tuple:
            if i == 2:
                raise OSError("no such file")
            return super().__getitem__(i)

    for dataset, note in (
        (Failing(X, Y), "batch 2 of a PyDataset (Failing)"),
        ((Failing(X, Y)[i] for i in range(3)), "batch 2 of a generator, `x`"),
    ):
        with pytest.raises(OSError, match="no such file") as error:
            problem_of(model, dataset)
        assert note in error.value.__notes__[0]


def test_what_is_neither_an_array_nor_a_dataset(model: keras.Model) -> None:
    for x, words in (
        (iter([(X, Y)]), ("`x` must hold arrays", "a list_iterator", "a generator")),
        ({"a": generator(X, Y)}, ("`x` must hold arrays", "Received: a generator")),
    ):
        refused(model, TypeError, words, x, y=Y)
    refused(model, TypeError, ("`y` must hold arrays",), X, y=tf_dataset(Y))


def test_numbers_of_examples_need_arrays(model: keras.Model) -> None:
    words = ("'data.sample_weight' is a number of training examples", "Pass the ex")
    for named in ("data.sample_weight", ["data.sample_weight"]):
        for dataset in (Rows(X, Y), tf_dataset(X, Y)):
            refused(model, ValueError, words, dataset, hyperparameters=named)
    weights = {"w": hg.Float(0.0, 1.0, shape=(20,), default=0.5)}
    problem = hg.Problem(
        init=lambda hparams: {"a": keras.ops.ones(())},
        step=lambda state, hparams, batch: (state, {}),
        val_loss=lambda state, hparams: state["a"],
        num_steps=3,
        space=weights,
        batches=problem_of(model, Rows(X, Y)).batches,
        bind=lambda hparams: {"w": hg.PerExample(hparams["w"])},
    )
    with pytest.raises(ValueError, match="row indices. Received: dict.* its arrays"):
        hg.hypergradient(problem)
